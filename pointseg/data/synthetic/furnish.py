"""Places what stands along a street of each kind: houses, gardens, fences, trees, signs, parked cars.

Each side of the street is furnished on its own, from s = 0 to LENGTH, leaving side streets open. Depths are |n|.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pointseg.data.synthetic import plants, structures, vehicles
from pointseg.data.synthetic.ground import LENGTH
from pointseg.data.synthetic.layout import Crossing, Patch, Plan
from pointseg.data.synthetic.objects import Builder

__all__ = ["furnish"]

Random = np.random.Generator


def _stretches(
    plan: Plan,
    random: Random,
    side: int,
    length: tuple[float, float],
    gap: tuple[float, float],
    margin: float = 2.0,
    out: float = 6.0,
) -> Iterator[tuple[float, float]]:
    """(middle, length) of pieces one after the other that keep clear of side streets, `out` metres beside the roadway."""
    s = random.uniform(*gap)
    while True:
        piece = random.uniform(*length)
        if s + piece > LENGTH:
            return
        if all(plan.free(float(at), side, margin, out) for at in (*np.arange(s, s + piece, 2.0), s + piece)):
            yield s + piece / 2, piece
            s += piece + random.uniform(*gap)
        else:
            s += 2.0


def furnish(plan: Plan, b: Builder, random: Random) -> None:
    """Place everything that does not move; adds the patches of ground (driveways, yards) to the plan."""
    for side in (-1, 1):
        _SIDES[plan.kind](plan, b, random, side)
        if plan.kind in ("residential", "urban"):
            _kerb(plan, b, random, side)
        if plan.kind in ("residential", "urban", "lane"):
            _behind(plan, b, random, side)
        for crossing in plan.crossings:
            if side in crossing.sides:
                _side_street(plan, b, random, crossing, side)


# ---- along the kerb ------------------------------------------------------------------------------------------


def _parked(b: Builder, random: Random, s: float, n: float, side: int, yaw: float = 0.0) -> None:
    """One parked vehicle, most often a car."""
    yaw += (0.0 if side < 0 or random.random() < 0.2 else np.pi) + random.normal(0, 0.03)
    draw = random.random()
    if draw < 0.91:
        vehicles.car(b, random, s, n, yaw)
    elif draw < 0.955:
        vehicles.truck(b, random, s, n, yaw)
    else:
        vehicles.trailer(b, random, s, n, yaw)


def _kerb(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """Parked cars, lamps, signs, trees, bicycles and people between roadway and plots."""
    bay, walk = plan.width(side, "parking"), plan.width(side, "sidewalk")
    taken = random.uniform(0.15, 0.7) if bay else random.uniform(0.0, 0.12)
    if bay > 4.5:
        _car_park(plan, b, random, side)
    else:
        depth = plan.edge(side, "parking") + bay / 2 if bay else plan.half_road + 0.35
        for s, _ in _stretches(plan, random, side, (5.6, 6.4), (0.0, 0.5), 4.0, 1.0):
            if random.random() < taken:
                _parked(b, random, s, side * depth, side)
    strip = plan.edge(side, "grass") if plan.width(side, "grass") else plan.edge(side, "sidewalk")
    post = strip + 0.5 if random.random() < 0.4 else plan.edge(side) - 0.15
    for s, _ in _stretches(plan, random, side, (1, 1), (18, 38)):
        structures.lamp(b, random, s, side * post, side)
    for s, _ in _stretches(plan, random, side, (1, 1), (25, 90), 1.0):
        structures.sign(b, random, s, side * post, float(random.choice([0.0, np.pi, 0.4])), random.random() < 0.06)
    for s, _ in _stretches(plan, random, side, (1, 1), (8, 60), 0.5):
        structures.pole(b, random, s, side * post, float(random.choice([0.9, 1.1, 3.0, 6.0])))
    if plan.width(side, "grass") > 1.0 or (walk > 2.8 and random.random() < 0.5):
        for s, _ in _stretches(plan, random, side, (1, 1), (9, 22)):
            n = side * (strip + max(0.8, 0.5 * plan.width(side, "grass") + 0.3))
            plants.tree(b, random, s, n, random.uniform(0.6, 1.3), random.uniform(1.9, 2.8))
            if random.random() < 0.3:
                plants.bush(b, random, s + 2, n, random.uniform(0.4, 0.7))
    _on_sidewalk(plan, b, random, side)


def _car_park(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """One row of cars across a deep bay, or two."""
    near, far = plan.edge(side, "parking") + 2.6, plan.edge(side, "parking") + plan.width(side, "parking") - 2.6
    for n in (near, far) if far - near > 5.2 else (far,):
        taken = random.uniform(0.1, 0.8)
        for s, _ in _stretches(plan, random, side, (2.5, 2.8), (0.0, 0.2), 5.0, n - plan.half_road):
            if random.random() < taken:
                _parked(b, random, s, side * n, side, np.pi / 2)


def _on_sidewalk(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """People who stand, parked bicycles and motorcycles, dustbins, shelters."""
    walk = plan.width(side, "sidewalk")
    start, end = plan.edge(side, "sidewalk"), plan.edge(side, "sidewalk") + walk
    busy = 1.0 if plan.kind == "urban" else 0.45
    for s, _ in _stretches(plan, random, side, (1, 2), (40, 200 / busy)):
        for _ in range(int(random.integers(1, 4))):
            at, n = s + random.normal(0, 1.2), side * random.uniform(start + 0.5, end - 0.2)
            vehicles.person(b, random, at, n, random.uniform(0, 6.28))
    for s, _ in _stretches(plan, random, side, (3, 4), (30, 200 / busy)):
        yaw = float(random.choice([0.0, np.pi / 2])) + random.normal(0, 0.15)
        for i in range(int(random.integers(1, 5))):
            vehicles.bicycle(b, random, s + 0.65 * i, side * (end - 0.45), yaw)
    for s, _ in _stretches(plan, random, side, (3, 4), (60, 400 / busy)):
        vehicles.motorcycle(b, random, s, side * (start + 0.6), random.normal(0, 0.3))
    for s, _ in _stretches(plan, random, side, (2, 3), (15, 60)):
        structures.clutter(b, random, s, side * (end - 0.3))
    for s, _ in _stretches(plan, random, side, (4, 5), (60, 300)):
        structures.structure(b, random, s, side * (end + 0.6))


# ---- plots ---------------------------------------------------------------------------------------------------


def _front(b: Builder, random: Random, s: float, n: float, length: float) -> None:
    """A hedge or fence between a garden and the street, or nothing."""
    draw = random.random()
    if draw < 0.44:
        plants.hedge(b, random, s, n, length, float(random.choice([0.9, 1.3, 1.8, 2.4, 3.2])))
    elif draw < 0.84:
        kind = int(random.choice(4, p=[0.34, 0.26, 0.18, 0.22]))
        structures.fence(b, random, s, n, length, random.uniform(0.7, 2.1), kind)


def _residential(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """Houses in gardens behind hedges and fences, with driveways."""
    front = plan.edge(side) + 0.3
    for s, length in _stretches(plan, random, side, (12, 24), (0.0, 1.5), 2.5):
        setback = front + random.uniform(1.5, 8.0)
        house, depth = random.uniform(0.50, 0.8) * length, random.uniform(8, 11)
        drive = random.uniform(2.6, 3.6) if random.random() < 0.6 else 0.0
        at = s + (length - house) / 2 - 0.3
        if random.random() < 0.85:
            yaw = random.normal(0, 0.04)
            structures.building(
                b, random, at, side * (setback + depth / 2), house, depth, random.uniform(4.5, 8), side, yaw
            )
        begin = s - length / 2
        if drive:
            where = begin + drive / 2
            far = setback + 4 if random.random() < 0.5 else setback
            surface = str(random.choice(["parking", "gravel", "sidewalk"], p=[0.5, 0.3, 0.2]))
            plan.patches.append(Patch(where, drive, front - 0.3, far, side, surface))
            if random.random() < 0.4:
                _parked(b, random, where, side * (front + 2.8), side, np.pi / 2)
        _front(b, random, s + drive / 2, side * front, length - drive - 0.5)
        _garden(b, random, begin + drive, begin + length, front, setback, side)
        if random.random() < 0.5:  # between neighbours
            across = setback - front + depth
            plants.hedge(b, random, begin, side * (front + across / 2), across, random.uniform(1, 2), np.pi / 2)
        if random.random() < 0.06:
            plan.patches.append(Patch(s, length, front, setback + depth, side, "gravel"))


def _garden(b: Builder, random: Random, begin: float, end: float, near: float, far: float, side: int) -> None:
    for _ in range(int(random.integers(2, 9))):
        at, n = random.uniform(begin, end), side * random.uniform(near + 0.6, max(far - 0.4, near + 0.8))
        plants.bush(b, random, float(at), float(n), random.uniform(0.5, 1.5))
    if random.random() < 0.5:
        n = side * random.uniform(near + 1, max(far - 0.5, near + 1.2))
        plants.tree(b, random, random.uniform(begin, end), float(n), random.uniform(0.5, 1.2), 1.7)
    if random.random() < 0.15:
        structures.clutter(b, random, random.uniform(begin, end), side * (near + 1.0))


def _urban(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """House fronts near the sidewalk, now and then a yard, a car park or a small park between them."""
    front = plan.edge(side) + 0.2
    line = front + float(random.choice([0.0, 0.0, 2.0, 5.0]))
    for s, length in _stretches(plan, random, side, (9, 26), (0.0, 3.0), 2.5):
        draw = random.random()
        if draw < 0.66:
            depth, height = random.uniform(9, 13), random.uniform(6, 16)
            out = line + random.uniform(0, 0.6)
            structures.building(b, random, s, side * (out + depth / 2), length, depth, height, side)
            if line > front + 1:
                _front(b, random, s, side * front, length)
                _garden(b, random, s - length / 2, s + length / 2, front, line, side)
        elif draw < 0.80:
            _yard(plan, b, random, s, length, front, side)
        else:
            _front(b, random, s, side * front, length)
            for _ in range(int(length / 5)):
                at, n = s + random.uniform(-0.5, 0.5) * length, side * (front + random.uniform(1.5, 14))
                plants.tree(b, random, float(at), float(n), random.uniform(0.8, 1.6))
                plants.bush(b, random, float(at) + 2, float(n) + 1, random.uniform(0.6, 1.5))


def _lane(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """House fronts, garages, high walls and fences at arm's length, and cars parked half on the sidewalk."""
    front = plan.edge(side) + 0.15
    for s, length in _stretches(plan, random, side, (6, 18), (0.0, 2.5), 1.5):
        draw = random.random()
        if draw < 0.48:
            depth, height = random.uniform(8, 12), random.uniform(3, 10)
            out = front + float(random.choice([0.0, 0.0, 0.8, 2.5]))
            structures.building(
                b, random, s, side * (out + depth / 2), length, depth, height, side, random.normal(0, 0.02)
            )
        elif draw < 0.78:
            kind = int(random.choice(4, p=[0.4, 0.35, 0.1, 0.15]))
            structures.fence(b, random, s, side * front, length, random.uniform(1.3, 2.3), kind)
            _garden(b, random, s - length / 2, s + length / 2, front, front + 8, side)
        elif draw < 0.92:
            plants.hedge(b, random, s, side * (front + 0.4), length, random.uniform(1.2, 2.8))
            _garden(b, random, s - length / 2, s + length / 2, front, front + 8, side)
        else:
            plan.patches.append(
                Patch(s, length, front - 0.15, front + 6, side, str(random.choice(["parking", "gravel"])))
            )
            _parked(b, random, s, side * (front + 3.0), side, float(random.choice([0.0, np.pi / 2])))
    taken = random.uniform(0.0, 0.4)
    for s, _ in _stretches(plan, random, side, (5.4, 6.4), (0.0, 2.0), 3.0):
        if random.random() < taken:
            _parked(b, random, s, side * (plan.half_road + 0.3), side)
    for s, _ in _stretches(plan, random, side, (1, 1), (15, 60)):
        structures.pole(
            b, random, s, side * (front - 0.3), float(random.choice([0.9, 3.0, 6.0])), random.uniform(0.04, 0.12)
        )
    for s, _ in _stretches(plan, random, side, (1, 1), (25, 90)):
        structures.sign(b, random, s, side * (front - 0.3), float(random.choice([0.0, np.pi, 0.4])))
    for s, _ in _stretches(plan, random, side, (1, 2), (30, 150)):
        vehicles.person(b, random, s, side * (plan.half_road + 0.3), random.uniform(0, 6.28))
    for s, _ in _stretches(plan, random, side, (2, 3), (20, 80)):
        structures.clutter(b, random, s, side * (front - 0.2))
    for s, _ in _stretches(plan, random, side, (2, 3), (40, 200)):
        vehicles.bicycle(b, random, s, side * (front - 0.3), random.normal(0, 0.1))


def _yard(plan: Plan, b: Builder, random: Random, s: float, length: float, front: float, side: int) -> None:
    """A car park or a paved yard with a wall or a house at its end."""
    deep = random.uniform(9, 18)
    surface = str(random.choice(["gravel", "parking"], p=[0.6, 0.4]))
    plan.patches.append(Patch(s, length, front - 0.2, front + deep, side, surface))
    for x in np.arange(-length / 2 + 2, length / 2 - 1.5, 2.8):
        if random.random() < 0.4:
            _parked(b, random, float(s + x), side * (front + deep - 3.0), side, np.pi / 2)
    if random.random() < 0.7:
        depth = 9.0
        structures.building(b, random, s, side * (front + deep + depth / 2), length, depth, 7.0, side)
    else:
        structures.fence(b, random, s, side * (front + deep), length, 1.8, int(random.integers(3)))
    if random.random() < 0.3:
        vehicles.trailer(b, random, s, side * (front + 3.0))


def _behind(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """The second row: houses and trees that show through the gaps."""
    front = plan.edge(side)
    for s, length in _stretches(plan, random, side, (10, 18), (4, 16), 6.0, 34.0):
        n = front + random.uniform(30, 42)
        if random.random() < 0.55:
            structures.building(b, random, s, side * n, length, 10.0, random.uniform(5, 10), side)
        else:
            plants.thicket(b, random, s, side * n, length, random.uniform(3, 7))
    for s, _ in _stretches(plan, random, side, (2, 3), (2, 9), 2.0, 24.0):
        n = side * (front + random.uniform(18, 30))
        plants.tree(b, random, s, n, random.uniform(0.8, 1.6), random.uniform(0.8, 2.2))


def _side_street(plan: Plan, b: Builder, random: Random, crossing: Crossing, side: int) -> None:
    """Cars, hedges, fences and houses along a side street, and the signs at its mouth."""
    start, half, yaw = plan.edge(side), crossing.half, np.pi / 2 - side * np.arctan(crossing.slant)
    mouth = crossing.s + half + 1.0 + 0.3 * crossing.corner
    structures.sign(b, random, mouth, side * (start + 0.5), float(random.choice([0.0, np.pi / 2, np.pi])))
    for flank in (-1, 1):
        near = start + max(4.0, crossing.corner)
        while near < 60:
            length = random.uniform(6, 16)
            middle, n = crossing.at(near + length / 2 - plan.half_road), side * (near + length / 2)
            at = middle + flank * (half + 2.6)
            draw = random.random()
            if plan.kind == "country":
                if draw < 0.65:
                    plants.thicket(b, random, at + flank * 3, n, 5.0, random.uniform(2, 5))
            elif draw < 0.3:
                plants.hedge(b, random, at, n, length, random.uniform(0.9, 2.2), yaw)
            elif draw < 0.55:
                structures.fence(b, random, at, n, length, random.uniform(0.8, 2.1), int(random.integers(4)), yaw)
            elif draw < 0.75 and near > start + 14:
                turned = yaw - np.pi / 2
                structures.building(b, random, at + flank * 5.5, n, 9.0, length, 7.0, side, turned)
            if plan.kind != "country" and near > 10 and random.random() < 0.35:
                _parked(b, random, middle + flank * (half - 1.0), n, side, yaw)
            near += length + random.uniform(0.5, 5)


# ---- open country --------------------------------------------------------------------------------------------


def _country(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """Meadows, banks, thickets and a few farms; posts and signs at the roadside."""
    front = plan.edge(side)
    wood = front + float(random.choice([2.5, 5.0, 12.0, 22.0], p=[0.25, 0.25, 0.3, 0.2]))
    for s, length in _stretches(plan, random, side, (12, 60), (1, 16)):
        height = random.uniform(2.0, 7.0)
        plants.thicket(b, random, s, side * (wood + random.uniform(0, 6)), length, height)
    for s, length in _stretches(plan, random, side, (20, 70), (3, 16)):
        plants.thicket(b, random, s, side * (wood + random.uniform(14, 34)), length, random.uniform(4, 9))
    for s, _ in _stretches(plan, random, side, (1, 2), (5, 30)):
        n = side * (front + random.uniform(1.5, 20))
        plants.tree(b, random, s, n, random.uniform(0.7, 1.5), random.uniform(1.2, 2.4))
    for s, _ in _stretches(plan, random, side, (1, 2), (6, 30)):
        plants.bush(b, random, s, side * (front + random.uniform(1.0, 10)), random.uniform(0.4, 1.5))
    if random.random() < 0.3:  # a hedge along the road
        for s, length in _stretches(plan, random, side, (15, 50), (3, 40)):
            n = side * (front + random.uniform(0.8, 4.0))
            plants.hedge(b, random, s, n, length, random.uniform(1.0, 3.5))
    if random.random() < 0.45:
        kind = int(random.choice([1, 2, 2, 3]))
        for s, length in _stretches(plan, random, side, (15, 60), (5, 40)):
            structures.fence(b, random, s, side * (front + 0.6), length, random.uniform(0.9, 1.5), kind)
    for s, _ in _stretches(plan, random, side, (10, 14), (70, 200)):
        n = side * (front + random.uniform(8, 22))
        structures.building(b, random, s, n + side * 5, 12.0, 9.0, random.uniform(4, 8), side)
        plan.patches.append(Patch(s, 12.0, front + 0.5, abs(n), side, str(random.choice(["gravel", "parking"]))))
        _parked(b, random, s, n - side * 3.5, side, float(random.choice([0.0, np.pi / 2])))
    _roadside(plan, b, random, side, (25, 50))


def _highway(plan: Plan, b: Builder, random: Random, side: int) -> None:
    """Crash barriers, a sloping verge, a wood or a noise barrier, direction boards."""
    front = plan.edge(side)
    if plan.median and side > 0:
        for s, length in _stretches(plan, random, side, (100, 200), (0, 15)):
            structures.rail(b, random, s, 0.0, length)
    if random.random() < 0.8:
        for s, length in _stretches(plan, random, side, (80, 150), (5, 40)):
            structures.rail(b, random, s, side * (plan.edge(side, "grass") + 0.4), length)
    far = front + random.uniform(5, 22)
    if random.random() < 0.3:
        for s, length in _stretches(plan, random, side, (60, 140), (10, 60)):
            structures.fence(b, random, s, side * (far - 2), length, random.uniform(2, 3.5), 1)
    for s, length in _stretches(plan, random, side, (20, 80), (1, 12)):
        plants.thicket(b, random, s, side * (far + random.uniform(0, 5)), length, random.uniform(4, 9), 6.0)
    for s, _ in _stretches(plan, random, side, (1, 2), (60, 150)):
        structures.sign(b, random, s, side * (front + 1.0), float(random.choice([0.0, np.pi])), True)
    for s, _ in _stretches(plan, random, side, (1, 2), (120, 300)):
        structures.gantry(b, random, s, side * (front + 0.3))
    _roadside(plan, b, random, side, (25, 50))


def _roadside(plan: Plan, b: Builder, random: Random, side: int, gap: tuple[float, float]) -> None:
    """Marker posts, power poles and signs."""
    n = side * (plan.half_road + 1.2)
    for s, _ in _stretches(plan, random, side, (0.5, 1), gap):
        structures.pole(b, random, s, n, 1.0, 0.06)
    for s, _ in _stretches(plan, random, side, (0.5, 1), (35, 70)):
        structures.pole(b, random, s, side * (plan.edge(side) + 1.2), 7.5, 0.12)
    for s, _ in _stretches(plan, random, side, (0.5, 1), (30, 140)):
        structures.sign(
            b, random, s, side * (plan.half_road + 2.0), float(random.choice([0.0, np.pi])), random.random() < 0.25
        )
    for s, _ in _stretches(plan, random, side, (2, 3), (40, 160)):
        structures.clutter(b, random, s, side * (plan.edge(side) + 1.0))


_SIDES = {"residential": _residential, "urban": _urban, "lane": _lane, "country": _country, "highway": _highway}
