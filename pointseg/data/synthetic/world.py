"""The synthetic world: streets by number, scanned at any frame.

Everything follows from (seed, sequence, frame): streets and scans do not depend on what was made before them.

Shapes:  N points of a scan, R rays
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError
from pointseg.data.scan import Scan
from pointseg.data.synthetic.furnish import furnish
from pointseg.data.synthetic.ground import LENGTH, Ground, cast_ground
from pointseg.data.synthetic.layout import KINDS, SURFACES, Plan, draw_plan, make_ground, surface_tables
from pointseg.data.synthetic.materials import reflect
from pointseg.data.synthetic.objects import Builder, Objects, raw_id
from pointseg.data.synthetic.raycast import cast_primitives
from pointseg.data.synthetic.sensor import Sensor
from pointseg.data.synthetic.shapes import Floats
from pointseg.data.synthetic.traffic import add_traffic

__all__ = ["FRAME_SECONDS", "Street", "SyntheticWorld", "make_street"]

FRAME_SECONDS = 0.1  # a turn of the sensor
STREETS_KEPT = 24  # streets in memory at once, about 6 MB each
STREET, SCAN, KIND, BEAMS = 0, 1, 2, 3  # purposes of random numbers
GOLDEN = 0.6180339887498949


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@dataclass(frozen=True)
class Street:
    """A street with all that stands and moves in it.

    Attributes:
        plan: what it was built from.
        ground: heights and surfaces.
        objects: everything on it.
        start: s of the recording vehicle at frame 0, metres.
        mount: pitch and roll of the sensor on the vehicle, radians.
        shades: brightness of each kind of surface here: no two asphalts are alike.
    """

    plan: Plan
    ground: Ground
    objects: Objects
    start: float
    mount: tuple[float, float]
    shades: Floats

    def pose(self, frame: int, sensor: Sensor) -> NDArray[np.float64]:
        """(4, 4) sensor to world at a frame: on the road, along it, tilted with it."""
        s = self.start + self.plan.speed * FRAME_SECONDS * frame
        line, n = self.ground.line, -self.plan.lane
        heading = float(line.heading(np.array(s)))
        x, y = line.to_world(np.array(s), np.array(n))
        forward, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
        wheels = np.array([[x, y]] * 4) + np.stack([forward, -forward, left, -left]) * [[1.4], [1.4], [0.8], [0.8]]
        front, back, port, starboard = self.ground.height_at(*wheels.T.astype(np.float32)).astype(np.float64)
        pitch = np.arctan2(front - back, 2.8) + self.mount[0]
        roll = np.arctan2(port - starboard, 1.6) + self.mount[1]
        ahead = np.array([*forward * np.cos(pitch), np.sin(pitch)])
        aside = np.array([*left * np.cos(roll), np.sin(roll)])
        up = np.cross(ahead, aside)
        up /= np.linalg.norm(up)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([ahead, np.cross(up, ahead), up], axis=1)
        pose[:3, 3] = x, y, (front + back + port + starboard) / 4 + sensor.height
        return pose


def street_kind(seed: int, sequence: int) -> str:
    """The kind of a street. Golden-ratio steps spread the kinds evenly over any run of sequences."""
    position = (float(_random(seed, KIND).random()) + sequence * GOLDEN) % 1.0
    shares = np.cumsum(list(KINDS.values()))
    return list(KINDS)[int(np.searchsorted(shares / shares[-1], position, side="right"))]


def make_street(seed: int, sequence: int) -> Street:
    """Build street `sequence` of the world `seed`."""
    random = _random(seed, sequence, STREET)
    plan = draw_plan(random, street_kind(seed, sequence))
    start = random.uniform(0, LENGTH)
    if plan.crossings and random.random() < 0.4:  # junctions are where most is seen of other roads
        start = float(random.choice([crossing.s for crossing in plan.crossings]) + random.uniform(-20, 10)) % LENGTH
    mount = (random.normal(0, 0.006), random.normal(0, 0.004))
    builder = Builder()
    furnish(plan, builder, random)
    add_traffic(plan, builder, random, start)
    shades = np.clip(random.normal(1.0, 0.12, len(SURFACES)), 0.6, 1.4).astype(np.float32)
    return Street(plan, make_ground(plan, random), builder.finish(), start, mount, shades)


def _turn(rays: Floats, pose: NDArray[np.float64]) -> list[Floats]:
    """Rays (R, 3) of the sensor in the world's frame: x, y, z of (R,) each.

    Written out, because a matrix product may round differently with another number of threads.
    """
    x, y, z = (np.ascontiguousarray(axis) for axis in rays.T)
    return [row[0] * x + row[1] * y + row[2] * z for row in pose[:3, :3].astype(np.float32)]


class SyntheticWorld:
    """A seeded world of streets and a sensor that drives through them.

    Args:
        seed: other seeds are other, unseen streets.
        beams, azimuth_steps: of the sensor, see `Sensor`.
        label_range: points beyond this many metres are unlabelled, as in SemanticKITTI; None labels all.

    Raises:
        ConfigError: for a sensor that does not exist, or a negative seed.

    Example:
        >>> scan = SyntheticWorld(seed=1).scan(sequence=0, frame=5)
        >>> scan.points.shape[1], scan.path
        (4, 'synthetic/seed=1/street=000/frame=000005')
    """

    def __init__(
        self, seed: int = 0, beams: int = 64, azimuth_steps: int = 2000, label_range: float | None = 50.0
    ) -> None:
        if seed < 0:
            raise ConfigError(f"a seed of {seed}", where="synthetic.seed", remedy="Use 0 or more.")
        self.seed, self.sensor, self.label_range = seed, Sensor(beams, azimuth_steps), label_range
        self._streets: OrderedDict[int, Street] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_streets": OrderedDict()}  # workers build their own streets

    def street(self, sequence: int) -> Street:
        """The street of a sequence; the last ones used are kept."""
        if sequence not in self._streets:
            self._streets[sequence] = make_street(self.seed, sequence)
            if len(self._streets) > STREETS_KEPT:
                self._streets.popitem(last=False)
        self._streets.move_to_end(sequence)
        return self._streets[sequence]

    def pose(self, sequence: int, frame: int) -> NDArray[np.float64]:
        """(4, 4) sensor to world; a sequence's world is the sensor's frame at its frame 0, as in KITTI."""
        street = self.street(sequence)
        return np.asarray(np.linalg.inv(street.pose(0, self.sensor)) @ street.pose(frame, self.sensor))

    def scan(self, sequence: int, frame: int) -> Scan:
        """One turn of the sensor in a street at a frame (10 a second).

        Points are in the order of the sensor's rays: beam by beam from the highest, counter-clockwise from ahead.
        """
        street, sensor = self.street(sequence), self.sensor
        random = _random(self.seed, sequence, SCAN, frame)
        pose = street.pose(frame, sensor)
        directions = _turn(sensor.directions, pose)
        parts = street.objects.at(frame * FRAME_SECONDS, street.ground, around=float(pose[0, 3]))
        depth = cast_ground(street.ground, pose[:3, 3], directions, sensor)
        depth[sensor.blocked] = 0
        texture = np.roll(sensor.texture, int(random.integers(len(depth))))  # another pattern for every scan
        depth, part = cast_primitives(parts, pose, sensor, directions, depth, texture, random)

        rays = np.flatnonzero((depth > 0.3) & (depth < sensor.max_range))
        distance, part = depth[rays], part[rays]
        x, y = (np.float32(pose[i, 3]) + directions[i][rays] * distance for i in (0, 1))
        surface_labels, surface_materials = surface_tables()
        surface = street.ground.surface.reshape(-1).take(street.ground.cells(x, y))
        on_ground = part < 0
        labels = np.where(on_ground, surface_labels[surface], parts.label[part])
        material = np.where(on_ground, surface_materials[surface], parts.material[part])
        shade = np.where(on_ground, street.shades[surface], parts.shade[part]) * sensor.gains[rays]
        incidence = np.where(on_ground, np.abs(directions[2][rays]), np.float32(1))
        blotches, patches = (sensor.pattern(random)[rays] for _ in range(2))
        remission, rough, behind, returned = reflect(material, shade, distance, incidence, (blotches, patches), random)
        bias = _random(self.seed, sequence, BEAMS).normal(0, sensor.beam_bias, sensor.beams).astype(np.float32)
        noise = random.standard_normal(len(distance), np.float32) * np.hypot(rough * texture[rays], sensor.range_noise)
        distance = distance + behind + bias[rays // sensor.azimuth_steps] + noise
        points = np.empty((len(rays), 4), np.float32)
        points[:, :3] = sensor.directions[rays] * distance[:, None]
        points[:, 3] = remission
        returned &= distance < sensor.max_range
        labels = self._unlabel(labels, distance, random)
        path = f"synthetic/seed={self.seed}/street={sequence:03d}/frame={frame:06d}"
        return Scan(points[returned], labels[returned], path, self.pose(sequence, frame))

    def _unlabel(self, labels: NDArray[np.uint32], distance: Floats, random: np.random.Generator) -> NDArray[np.uint32]:
        """Annotators leave far points out, and a few near ones."""
        lost = random.random(len(labels), np.float32) < 0.004
        if self.label_range is not None:
            lost |= distance > self.label_range
        return np.where(lost, np.uint32(raw_id("unlabeled")), labels)
