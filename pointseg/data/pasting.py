"""Instance copy-and-paste: objects of rare classes, from other training scans, onto ground of this one.

After Yan, Mao, Li, "SECOND" (Sensors 2018), who sample objects from a database, and the instance augmentation of Zhou et
al., "Panoptic-PolarNet" (CVPR 2021). An object is turned about the sensor, so it keeps its distance, and with it the
density and the side that the sensor sees; it is set down on a ground point at about that distance, only where nothing
stands, and what it would hide is taken away.

Legend: B clouds, N points, M measured columns, T points of the bank, C candidates for a new cloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg.data.clouds import PointBatch, compacted
from pointseg.data.instances import Instances
from pointseg.data.records import RecordFormat
from pointseg.data.tables import RecordTable
from pointseg.errors import ConfigError
from pointseg.randomness import Purpose, below, key, unit

__all__ = ["InstanceBank", "InstancePaste", "Object", "describe", "make_bank"]

BANK_SIZE = 1000  # objects of a class that are kept at most
TRIES = 6  # ground points that are tried for an object
NEAR = 2000  # mm: how much farther or nearer the ground point may be
CLEARANCE = 300  # mm around an object where nothing may stand
LEAST_POINTS = 6  # of an object in a cloud


@dataclass(frozen=True)
class Object:
    """What is known of one object of the bank.

    Attributes:
        label: training id.
        first, size: its points in the bank.
        x, y, radius: its centre and extent seen from above, mm.
        ground: z of the ground it stood on, metres.
        azimuths: of its left and right edge seen from the sensor, radians; the left one is larger.
        slopes: z / distance of its lowest and highest point.
    """

    label: int
    first: int
    size: int
    x: int
    y: int
    radius: int
    ground: float
    azimuths: tuple[float, float]
    slopes: tuple[float, float]

    @property
    def distance(self) -> float:
        """From the sensor, level, mm."""
        return math.hypot(self.x, self.y)


@dataclass(frozen=True)
class InstanceBank:
    """Objects that can be pasted.

    Attributes:
        points: (T, M) float32 as measured, on the device where clouds are augmented.
        objects: by training id.
    """

    points: Tensor
    objects: dict[int, list[Object]]

    def to(self, device: torch.device) -> InstanceBank:
        """The bank with its points on a device."""
        return self if self.points.device == device else InstanceBank(self.points.to(device), self.objects)


def make_bank(
    table: RecordTable, instances: Instances, classes: Sequence[int], height_column: int | None
) -> InstanceBank:
    """Take the objects of some classes out of a table.

    Args:
        table: of the training scans.
        instances: with scans counted as in the table.
        classes: training ids.
        height_column: which measured column is the height above the ground; without one, an object is taken to stand on
            its lowest point.
    """
    starts = np.cumsum(instances.size) - instances.size
    chosen: list[int] = []
    for label in classes:
        numbers = np.flatnonzero(instances.label == label)
        step = max(1, math.ceil(len(numbers) / BANK_SIZE))
        chosen += numbers[::step].tolist()
    chosen.sort(key=lambda number: (int(instances.scan[number]), number))
    clouds: list[Tensor] = []
    objects: dict[int, list[Object]] = {}
    first, scan, whole = 0, -1, None
    for number in chosen:
        if int(instances.scan[number]) != scan:
            scan = int(instances.scan[number])
            whole = table.read(scan)
        assert whole is not None
        start, size = int(starts[number]), int(instances.size[number])
        rows = torch.from_numpy(instances.rows[start : start + size].astype(np.int64))
        points = _measured(whole.records[rows], whole.surroundings[rows], table.format)
        label = int(instances.label[number])
        objects.setdefault(label, []).append(describe(points.numpy(), label, first, height_column))
        clouds.append(points)
        first += size
    return InstanceBank(torch.cat(clouds) if clouds else torch.empty(0, 4), objects)


def _measured(records: Tensor, surroundings: Tensor, form: RecordFormat) -> Tensor:
    return torch.cat([form.decode(records.cpu()).points, surroundings.cpu().float()], dim=1)


def describe(points: NDArray[np.float32], label: int, first: int, height_column: int | None) -> Object:
    """What is known of an object from its points (n, M), which lie from `first` on in the bank."""
    x, y, z = points[:, :3].astype(np.float64).T
    centre = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    reach = np.hypot(x - centre[0], y - centre[1]).max()
    middle = math.atan2(centre[1], centre[0])
    away = np.remainder(np.arctan2(y, x) - middle + math.pi, 2 * math.pi) - math.pi
    slope = z / np.maximum(np.hypot(x, y), 1e-3)
    ground = float(np.median(z - points[:, height_column])) if height_column is not None else float(z.min())
    return Object(
        label=label,
        first=first,
        size=len(points),
        x=round(centre[0] * 1000),
        y=round(centre[1] * 1000),
        radius=round(reach * 1000),
        ground=ground,
        azimuths=(middle + float(away.max()), middle + float(away.min())),
        slopes=(float(slope.min()), float(slope.max())),
    )


@dataclass(frozen=True)
class InstancePaste:
    """Pastes objects into clouds.

    Args:
        probability: of a cloud to receive objects.
        objects: how many are tried in such a cloud.
        rare: classes with a smaller share than this of the training points are pasted.

    Raises:
        ConfigError: for values out of bounds.

    Example:
        >>> pasted = InstancePaste(probability=0.5)(batch, bank, ground=(9, 10, 11))
    """

    probability: float = 0.0
    objects: int = 4
    rare: float = 0.01

    def __post_init__(self) -> None:
        for name in ("probability", "rare"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{getattr(self, name)} is not between 0 and 1",
                    where=f"data.paste.{name}",
                    remedy="0 switches it off.",
                )
        if self.objects < 1:
            raise ConfigError(f"{self.objects} is less than 1", where="data.paste.objects")

    @property
    def active(self) -> bool:
        return self.probability > 0

    def __call__(self, batch: PointBatch, bank: InstanceBank, ground: Sequence[int]) -> PointBatch:
        """Paste.

        Args:
            batch: before any augmentation that moves points: coordinates are whole millimetres.
            bank: of objects.
            ground: training ids of the classes that objects stand on.
        """
        keys = batch.keys.tolist()
        lucky = [unit(key(k, Purpose.PASTE, 0)) < self.probability for k in keys]
        if not any(lucky) or not bank.objects:
            return batch
        clouds = []
        for row, k in enumerate(keys):
            cloud = _Cloud(batch, row, ground)
            for number in range(self.objects if lucky[row] else 0):
                self._paste(cloud, bank, key(k, Purpose.PASTE, 1, number), float(batch.shares[row]))
            clouds.append(cloud)
        longest = max(len(cloud.labels) for cloud in clouds)
        points = torch.stack([_padded(cloud.points, longest) for cloud in clouds])
        labels = torch.stack([_padded(cloud.labels, longest) for cloud in clouds])
        kept = torch.stack([_padded(cloud.kept, longest) for cloud in clouds])
        return compacted(points, labels, kept, batch)

    def _paste(self, cloud: _Cloud, bank: InstanceBank, stream: int, share: float) -> None:
        classes = sorted(bank.objects)
        label = classes[below(len(classes), key(stream, 0))]
        thing = bank.objects[label][below(len(bank.objects[label]), key(stream, 1))]
        place = cloud.place_for(thing, stream)
        if place is None:
            return
        angle, ground = place
        count = min(thing.size, max(LEAST_POINTS, round(thing.size * share)))
        start = below(thing.size, key(stream, 2))
        rows = (torch.arange(count, device=bank.points.device) + start) % thing.size + thing.first
        points = bank.points[rows].clone()
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = points[:, 0].clone(), points[:, 1].clone()
        points[:, 0], points[:, 1] = cos * x - sin * y, sin * x + cos * y
        points[:, 2] += ground - thing.ground
        cloud.add(points, label, thing, angle)


class _Cloud:
    """One cloud while objects are pasted into it."""

    def __init__(self, batch: PointBatch, row: int, ground: Sequence[int]) -> None:
        self.points, self.labels = batch.points[row], batch.labels[row]
        everything = torch.ones_like(self.labels, dtype=torch.bool)
        self.kept = everything if batch.mask is None else batch.mask[row]
        self.ground = torch.tensor(list(ground), device=self.labels.device)

    def place_for(self, thing: Object, stream: int) -> tuple[float, float] | None:
        """(angle to turn by, height of the ground there, metres), or None where no place was found."""
        mm_N2 = (self.points[:, :2].double() * 1000).round().long()
        squares = (mm_N2 * mm_N2).sum(dim=1)
        low, high = max(0.0, thing.distance - NEAR), thing.distance + NEAR
        on_ground = torch.isin(self.labels, self.ground) & self.kept
        candidates = (on_ground & (squares > round(low * low)) & (squares < round(high * high))).nonzero()[:, 0]
        if not len(candidates):
            return None
        standing = self.kept & ~on_ground & (self.labels > 0)
        limit = (thing.radius + CLEARANCE) ** 2
        for attempt in range(TRIES):
            row = int(candidates[below(len(candidates), key(stream, 3, attempt))])
            angle = math.atan2(*mm_N2[row].flip(0).tolist()) - math.atan2(thing.y, thing.x)
            cos, sin = math.cos(angle), math.sin(angle)
            centre = [round(cos * thing.x - sin * thing.y), round(sin * thing.x + cos * thing.y)]
            away = mm_N2 - torch.tensor(centre, device=mm_N2.device)
            if not bool((standing & ((away * away).sum(dim=1) < limit)).any()):
                return angle, float(self.points[row, 2])
        return None

    def add(self, points: Tensor, label: int, thing: Object, angle: float) -> None:
        """Add an object's points and take away what it hides: what lies behind it within its outline."""
        xyz = self.points[:, :3].double()
        left, right = ((math.cos(a + angle), math.sin(a + angle)) for a in thing.azimuths)
        between = (xyz[:, 0] * left[1] - xyz[:, 1] * left[0] >= 0) & (xyz[:, 1] * right[0] - xyz[:, 0] * right[1] >= 0)
        ahead = xyz[:, 0] * math.cos(sum(thing.azimuths) / 2 + angle) + xyz[:, 1] * math.sin(
            sum(thing.azimuths) / 2 + angle
        )
        distance = torch.sqrt((xyz[:, :2] * xyz[:, :2]).sum(dim=1))
        slope = xyz[:, 2] / distance.clamp(min=1e-3)
        hidden = between & (ahead > 0) & (slope >= thing.slopes[0]) & (slope <= thing.slopes[1])
        hidden &= distance > thing.distance / 1000
        self.points = torch.cat([self.points, points])
        self.kept = torch.cat([self.kept & ~hidden, self.kept.new_ones(len(points))])
        self.labels = torch.cat([self.labels, self.labels.new_full((len(points),), label)])


def _padded(tensor: Tensor, length: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])
