"""Moving objects: cars, trucks, buses and two-wheelers in their lanes, people on the sidewalks.

All vehicles of a lane have its speed, so that none runs into another, however long the drive; those in the recording
vehicle's own lane keep their distance to it.
"""

from __future__ import annotations

import numpy as np

from pointseg.data.synthetic import vehicles
from pointseg.data.synthetic.ground import LENGTH
from pointseg.data.synthetic.layout import Plan
from pointseg.data.synthetic.objects import Builder

__all__ = ["add_traffic"]

Random = np.random.Generator


def _vehicle(b: Builder, random: Random, s: float, n: float, speed: float, plan: Plan) -> None:
    yaw = 0.0 if speed > 0 else np.pi
    kinds = [vehicles.car, vehicles.truck, vehicles.bus, vehicles.trailer]
    share = [0.87, 0.07, 0.04, 0.02]
    if plan.kind == "highway":
        share = [0.80, 0.15, 0.03, 0.02]
    elif plan.half_road < 3.4:
        share = [1.0, 0.0, 0.0, 0.0]  # too narrow for two wide vehicles to pass
    if random.random() < 0.05:
        vehicles.rider(b, random, s, n, yaw, speed, motor=True)
    else:
        kinds[int(random.choice(4, p=share))](b, random, s, n, yaw, speed)


def _lanes(plan: Plan) -> list[float]:
    """n of the middle of each lane."""
    one_way = plan.half_road - plan.median
    count = max(1, round(one_way / 3.6)) if one_way > 5.5 else 1
    width = one_way / count
    return [side * (plan.median + (i + 0.5) * width) for side in (-1, 1) for i in range(count)]


def add_traffic(plan: Plan, b: Builder, random: Random, start: float) -> None:
    """Add all that moves; the recording vehicle is at s = `start` at time 0."""
    gaps = {
        "residential": (60, 260),
        "urban": (25, 110),
        "lane": (80, 300),
        "country": (50, 220),
        "highway": (30, 120),
    }[plan.kind]
    for n in _lanes(plan):
        own = n < 0 and abs(-n - plan.lane) < 1.6
        speed = plan.speed if own else random.uniform(0.8, 1.3) * plan.speed * (1 if n < 0 else -1)
        # own lane: from behind the recording vehicle all round the loop to well ahead of it
        s, end = start + 14.0 + random.uniform(0, gaps[1]), start + LENGTH - 18.0
        while s < end:
            _vehicle(b, random, s, n, speed, plan)
            s += 16.0 + random.uniform(*gaps)
    if plan.kind == "highway":
        return
    for side in (-1, 1):
        _walkers_and_cyclists(plan, b, random, side, start)


def _walkers_and_cyclists(plan: Plan, b: Builder, random: Random, side: int, start: float) -> None:
    walk = plan.width(side, "sidewalk")
    crowd = {"urban": 6, "residential": 2.5, "lane": 3, "country": 0.8}[plan.kind]
    if walk:
        middle = plan.edge(side, "sidewalk") + walk / 2
        for _ in range(int(random.poisson(crowd))):
            speed = float(random.choice([-1, 1]) * random.uniform(0.8, 1.7))
            n = side * (middle + random.uniform(-0.3, 0.3) * walk)
            vehicles.person(b, random, random.uniform(0, LENGTH), n, 0.0 if speed > 0 else np.pi, speed)
    for motor, mean in (
        (False, {"urban": 1.3, "residential": 0.8, "lane": 0.8, "country": 0.5}[plan.kind]),
        (True, 0.3),
    ):
        edge = plan.half_road - 0.45
        if side < 0 and edge - plan.lane < 1.6:  # no room beside the recording vehicle: stay ahead of it at its pace
            speeds, place = (plan.speed, plan.speed), (start + 9.0, start + 60.0)
        else:
            speeds, place = ((8.0, 12.0) if motor else (3.0, 6.0)), (0.0, LENGTH)
        for _ in range(int(random.poisson(mean))):
            speed = -side * random.uniform(*speeds)
            n = side * (edge if not motor else edge - 0.3)
            vehicles.rider(b, random, random.uniform(*place), n, 0.0 if speed > 0 else np.pi, speed, motor)
