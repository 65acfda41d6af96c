"""The plan of a street by its seed: what kind it is, its cross-section, side streets, and the ground painted from them.

Cross-sections are given for the left (+1) and right (-1) side as bands from the road's edge outwards. Traffic keeps
right: the recording vehicle drives on the right half, along +s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.data.synthetic.ground import CELL, HALF_WIDTH, LENGTH, TURN, CenterLine, Ground
from pointseg.data.synthetic.materials import material_index
from pointseg.data.synthetic.objects import raw_id

__all__ = ["KINDS", "SURFACES", "Band", "Crossing", "Patch", "Plan", "draw_plan", "make_ground", "surface_tables"]

Random = np.random.Generator

SURFACES: dict[str, tuple[str, str]] = {  # surface: (class, material)
    "road": ("road", "asphalt"),
    "marking": ("lane-marking", "marking"),
    "parking": ("parking", "parking"),
    "sidewalk": ("sidewalk", "paving"),
    "gravel": ("other-ground", "gravel"),
    "grass": ("terrain", "grass"),
    "soil": ("terrain", "soil"),
}
_UNEVEN = {  # metres: standard deviation of the height
    "road": 0.004,
    "marking": 0.004,
    "parking": 0.006,
    "sidewalk": 0.008,
    "gravel": 0.015,
    "grass": 0.026,
    "soil": 0.026,
}
_NUMBER = {name: i for i, name in enumerate(SURFACES)}
# The kinds of street and how common they are; SemanticKITTI's drives are mostly through residential quarters.
KINDS: dict[str, float] = {"residential": 0.30, "urban": 0.20, "lane": 0.16, "country": 0.24, "highway": 0.10}


class Band(NamedTuple):
    """A strip along the road."""

    surface: str
    width: float  # metres
    height: float  # above the road's edge, metres


class Crossing(NamedTuple):
    """A side street, or the arm of a junction, to one or both sides."""

    s: float
    half: float  # half its width, metres
    sides: tuple[int, ...]
    slant: float = 0.0  # how far along the street it goes for each metre outwards
    corner: float = 4.0  # radius of its rounded corners, metres

    def at(self, out: float) -> float:
        """s of its middle, so many metres outside the roadway."""
        return self.s + self.slant * out


class Patch(NamedTuple):
    """A rectangle of ground with a surface of its own, in street coordinates."""

    s: float
    length: float
    near: float  # |n| from
    far: float  # |n| to
    side: int
    surface: str


@dataclass
class Plan:
    """All that the furnishing of a street needs to know.

    Attributes:
        kind: one of KINDS.
        half_road: half the width of the roadway, metres.
        lane: n of the recording vehicle is -lane.
        speed: of the recording vehicle, metres per second.
        bands: per side, from the road's edge outwards; beyond them is `rest`.
        rest: per side, the surface behind the bands.
        bank: per side, how the land rises (or falls) with distance from the road.
        crossings: side streets.
        line: the centre line.
        median: half the width of the strip between the two carriageways, metres; 0 where there is none.
        patches: ground that differs from the cross-section.
    """

    kind: str
    half_road: float
    lane: float
    speed: float
    bands: dict[int, list[Band]]
    rest: dict[int, str]
    bank: dict[int, float]
    crossings: list[Crossing]
    line: CenterLine
    median: float
    patches: list[Patch] = field(default_factory=list)

    def edge(self, side: int, surface: str | None = None) -> float:
        """|n| where a band begins, or where the last band ends."""
        at = self.half_road
        for band in self.bands[side]:
            if band.surface == surface:
                return at
            at += band.width
        return at

    def width(self, side: int, surface: str) -> float:
        """Width of the first band with this surface, 0 if there is none."""
        return next((band.width for band in self.bands[side] if band.surface == surface), 0.0)

    def free(self, s: float, side: int, margin: float, out: float) -> bool:
        """Whether no side street is within `margin` metres of s on this side, `out` metres outside the roadway."""
        for crossing in self.crossings:
            away = abs((s - crossing.at(out) + LENGTH / 2) % LENGTH - LENGTH / 2)
            if side in crossing.sides and away < crossing.half + margin:
                return False
        return True


def _center_line(random: Random, bend: float) -> CenterLine:
    wave = np.arange(1, 5, dtype=np.float64)
    amplitude = random.normal(0, 1, 4) / wave**1.3
    steepest = (np.abs(amplitude) * wave).sum() * TURN / LENGTH
    return CenterLine(amplitude * 0.55 / steepest * bend, wave, random.uniform(0, TURN, 4))


def _crossings(random: Random, nearest: float, farthest: float, both: float) -> list[Crossing]:
    crossings: list[Crossing] = []
    s = random.uniform(10, 60)
    while s < LENGTH - 25:
        sides = (-1, 1) if random.random() < both else (int(random.choice([-1, 1])),)
        half = random.uniform(2.6, 4.2) if random.random() < 0.5 else random.uniform(3.5, 7.0)
        slant = float(np.clip(random.normal(0, 0.25), -0.7, 0.7))
        crossings.append(Crossing(s, half, sides, slant, random.uniform(2.5, 10.0)))
        s += random.uniform(nearest, farthest)
    return crossings


def _second_road(random: Random, kind: str) -> list[Band]:
    """A road beside the road, behind a strip: for access, for buses, a slip road, the other carriageway."""
    strips = {"highway": (3.0, 14.0), "country": (1.5, 10.0)}
    widths = {"highway": (4.0, 11.0), "country": (3.0, 6.5)}
    between = "grass" if random.random() < 0.7 else "sidewalk"
    strip = Band(between, random.uniform(*strips.get(kind, (1.2, 6.0))), random.uniform(0.04, 0.12))
    return [strip, Band("road", random.uniform(*widths.get(kind, (3.5, 7.0))), 0.0)]


def _bands(random: Random, kind: str) -> list[Band]:
    """One side's cross-section."""
    if kind == "highway":
        bands = [Band("road", random.uniform(0.5, 2.5), 0.0), Band("grass", random.uniform(1.5, 4), 0.0)]
        if random.random() < 0.4:
            bands += [*_second_road(random, kind), Band("grass", random.uniform(1.5, 4), 0.0)]
        return bands
    bands = _second_road(random, kind) if kind != "lane" and random.random() < 0.12 else []
    if kind == "country":
        if random.random() < 0.68:  # a path for walkers and cyclists, often behind a strip of grass
            if random.random() < 0.5:
                bands.append(Band("grass", random.uniform(1.0, 3.0), 0.04))
            bands.append(Band("sidewalk", random.uniform(1.6, 3.2), 0.08))
        elif random.random() < 0.25:  # a lay-by or a gravelled verge
            bands.append(Band("gravel", random.uniform(2.0, 7.0), 0.02))
        else:
            bands.append(Band("grass", 1.5, 0.0))
        return bands
    if kind == "lane":  # a narrow sidewalk, or none
        if random.random() < 0.6:
            bands.append(Band("sidewalk", random.uniform(0.8, 2.4), random.uniform(0.03, 0.12)))
        elif random.random() < 0.5:
            bands.append(Band("grass", random.uniform(0.4, 1.4), 0.03))
        return bands
    if random.random() < 0.09:  # a car park, a forecourt or a yard along the street
        surface = str(random.choice(["parking", "gravel", "sidewalk"], p=[0.4, 0.3, 0.3]))
        bands.append(Band(surface, random.uniform(5.0, 16.0), random.uniform(0.0, 0.1)))
    elif random.random() < (0.36 if kind == "urban" else 0.2):
        bands.append(Band("parking", random.uniform(2.0, 2.4), 0.0))
    if random.random() < (0.3 if kind == "urban" else 0.2):
        bands.append(Band("grass", random.uniform(1.2, 4.0), 0.08))
    if random.random() < 0.07:
        bands.append(Band("gravel", random.uniform(1.5, 4.0), 0.08))
    wide = (2.0, 5.0) if kind == "urban" else (1.6, 4.2)
    bands.append(Band("sidewalk", random.uniform(*wide), random.uniform(0.05, 0.13)))
    return bands


def draw_plan(random: Random, kind: str) -> Plan:
    """Draw a street of this kind.

    Example:
        >>> draw_plan(np.random.default_rng(0), "urban").kind
        'urban'
    """
    median = 0.0
    if kind == "highway":
        lanes, width = int(random.integers(2, 4)), 3.6
        median, speed = float(random.choice([0.0, 1.0, 2.0])), random.uniform(17, 26)
        half, lane = median + lanes * width, median + width * float(random.choice([0.5, 1.5]))
    else:
        width = random.uniform(
            *{"residential": (2.9, 3.9), "urban": (3.0, 3.7), "lane": (2.4, 3.8), "country": (3.0, 4.0)}[kind]
        )
        lanes = 2 if kind == "urban" and random.random() < 0.35 else 1
        half, lane = lanes * width, (lanes - 0.5) * width
        speed = random.uniform(*{"residential": (5, 9), "urban": (6, 11), "lane": (3, 7), "country": (9, 15)}[kind])
        if lanes == 1 and random.random() < 0.5:
            lane *= random.uniform(0.85, 1.0)  # narrow streets are driven nearer their middle
    gaps = {
        "residential": (35.0, 90.0, 0.4),
        "urban": (40.0, 100.0, 0.6),
        "lane": (25.0, 80.0, 0.4),
        "country": (90.0, 260.0, 0.3),
    }
    crossings = _crossings(random, *gaps[kind]) if kind in gaps else []
    bends = {"residential": (0, 0.8), "urban": (0, 0.4), "lane": (0.1, 0.9), "country": (0.3, 1), "highway": (0.1, 0.7)}
    bend = float(random.uniform(*bends[kind]))
    return Plan(
        kind=kind,
        half_road=half,
        lane=lane,
        speed=speed,
        bands={side: _bands(random, kind) for side in (-1, 1)},
        rest={side: "soil" if random.random() < 0.12 else "grass" for side in (-1, 1)},
        bank={side: float(np.clip(random.normal(-0.015, 0.045), -0.10, 0.09)) for side in (-1, 1)},
        crossings=crossings,
        median=median,
        line=_center_line(random, bend),
    )


def _rows(s: float, length: float, rows: int) -> NDArray[np.int64]:
    return np.arange(round((s - length / 2) / CELL), round((s + length / 2) / CELL)) % rows


def _column(n: float) -> int:
    return int(np.clip(round((n + HALF_WIDTH) / CELL), 0, 2 * HALF_WIDTH / CELL))


def _columns(side: int, near: float, far: float) -> slice:
    low, high = sorted((side * near, side * far))
    return slice(_column(low), _column(high))


def make_ground(plan: Plan, random: Random) -> Ground:
    """Paint the plan's cross-section, side streets, patches and hills."""
    rows, columns = int(LENGTH / CELL), int(2 * HALF_WIDTH / CELL)
    n: NDArray[np.float64] = (np.arange(columns, dtype=np.float64) + 0.5) * CELL - HALF_WIDTH
    surface = np.full(columns, _NUMBER["road"], np.uint8)
    height = (-0.02 * np.minimum(np.abs(n), plan.half_road)).astype(np.float32)  # the road's crown
    for side in (-1, 1):
        at, edge = plan.half_road, -0.02 * plan.half_road
        for band in (*plan.bands[side], Band(plan.rest[side], HALF_WIDTH, 0.06)):
            strip = _columns(side, at, at + band.width)
            surface[strip], height[strip] = _NUMBER[band.surface], edge + band.height
            at += band.width
        beyond = np.clip(side * n - plan.edge(side), 0, 45)
        height += (plan.bank[side] * beyond).astype(np.float32)
    surfaces, heights = np.tile(surface, (rows, 1)), np.tile(height, (rows, 1))
    _mark_lanes(plan, surfaces)
    for patch in plan.patches:
        where = np.ix_(
            _rows(patch.s, patch.length, rows), np.arange(columns)[_columns(patch.side, patch.near, patch.far)]
        )
        surfaces[where] = _NUMBER[patch.surface]
    for crossing in plan.crossings:
        _pave(plan, crossing, surfaces, heights)
    return Ground(plan.line, heights + _hills(plan, random, n) + _bumps(surfaces, random), surfaces)


def _mark_lanes(plan: Plan, surfaces: NDArray[np.uint8]) -> None:
    """Dashes along the middle, or a strip of grass between carriageways, and dashes between lanes."""
    dashes = (np.arange(surfaces.shape[0]) * CELL) % 8.0 < 4.0
    if plan.median:
        surfaces[:, _column(-plan.median) : _column(plan.median)] = _NUMBER["grass"]
    elif plan.half_road >= 3.0:
        surfaces[dashes, _column(0.0)] = _NUMBER["marking"]
    if plan.half_road > 6.0:
        for n in (-(plan.half_road + plan.median) / 2, (plan.half_road + plan.median) / 2):
            surfaces[dashes, _column(n)] = _NUMBER["marking"]


def _pave(plan: Plan, crossing: Crossing, surfaces: NDArray[np.uint8], heights: NDArray[np.float32]) -> None:
    """A side street with its sidewalks and rounded corners."""
    rows, columns = surfaces.shape
    walk = 2.2 if plan.kind in ("urban", "residential") else 0.0
    for side in crossing.sides:
        end = plan.edge(side)
        edge = -0.02 * plan.half_road
        every = np.arange(columns)
        if walk:
            for at in np.arange(end, HALF_WIDTH, 1.0):
                beside = _rows(crossing.at(at - plan.half_road), 2 * (crossing.half + walk), rows)
                surfaces[np.ix_(beside, every[_columns(side, float(at), float(at) + 1.0)])] = _NUMBER["sidewalk"]
        for at in np.arange(plan.half_road, HALF_WIDTH, 0.5):
            out = float(at) - plan.half_road
            rest = max(crossing.corner - out, 0.0)
            flare = crossing.corner - np.sqrt(crossing.corner**2 - rest**2)  # a quarter of a circle
            where = np.ix_(
                _rows(crossing.at(out), 2 * (crossing.half + float(flare)), rows),
                every[_columns(side, float(at), float(at) + 0.5)],
            )
            surfaces[where] = _NUMBER["road"]
            heights[where] = edge + plan.bank[side] * float(np.clip(at - end, 0, 45))


def _hills(plan: Plan, random: Random, n: NDArray[np.float64]) -> NDArray[np.float32]:
    """Long waves along the street, humps beside it, and the roughness of what is not paved."""
    rows = int(LENGTH / CELL)
    s = (np.arange(rows) + 0.5) * CELL
    steep = {"residential": 1.0, "urban": 0.6, "lane": 0.9, "country": 1.1, "highway": 0.6}[plan.kind]
    total = np.zeros((rows, len(n)), np.float32)
    along = sum(
        random.normal(0, 1.0) * steep / k**1.5 * np.sin(s * k * TURN / LENGTH + random.uniform(0, TURN))
        for k in range(1, 6)
    )
    total += np.asarray(along, np.float32)[:, None]
    for side in (-1, 1):
        ramp = np.clip((side * n - plan.edge(side) - 1.0) / 12.0, 0, 1)
        for k in (1, 2, 4, 7):
            wave = np.sin(s * k * TURN / LENGTH + random.uniform(0, TURN)).astype(np.float32)
            across = ramp * np.sin(n * random.uniform(0.05, 0.25) + random.uniform(0, TURN))
            total += wave[:, None] * (across * random.normal(0, 0.28) * steep).astype(np.float32)
    return total


def _bumps(surfaces: NDArray[np.uint8], random: Random) -> NDArray[np.float32]:
    """Unevenness of a few decimetres' length."""
    white = random.standard_normal(surfaces.shape, np.float32)
    smooth = sum(np.roll(white, shift, axis=0) for shift in (-1, 0, 1))
    smooth = sum(np.roll(smooth, shift, axis=1) for shift in (-1, 0, 1))
    height = np.array([_UNEVEN[name] / 3 for name in SURFACES], np.float32)
    return np.asarray(smooth * height[surfaces], np.float32)


def surface_tables() -> tuple[NDArray[np.uint32], NDArray[np.int16]]:
    """Raw label and material of each surface number."""
    labels = np.array([raw_id(name) for name, _ in SURFACES.values()], np.uint32)
    materials = np.array([material_index(material) for _, material in SURFACES.values()], np.int16)
    return labels, materials
