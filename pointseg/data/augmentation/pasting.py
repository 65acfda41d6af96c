"""Instance copy-and-paste: objects of rare classes from other training scans, set down on the ground of this one.

After Yan, Mao, Li, "SECOND" (Sensors 2018), who sample objects from a database, and the instance augmentation of Zhou et
al., "Panoptic-PolarNet" (CVPR 2021). An object is turned about the sensor, so it keeps its distance, and with it the
density and the side that the sensor sees. It is set down on a ground point at about that distance, only where nothing
stands, and what it would hide is removed.

Legend: B clouds, N points, n points of an object, M measured columns, T points of the bank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pointseg.core.limits import require_at_least, require_between
from pointseg.core.randomness import Purpose, below, random_key, unit
from pointseg.data.batches import PointBatch, compacted
from pointseg.data.instances import Instances
from pointseg.data.tables import RecordTable

__all__ = ["BankObject", "InstanceBank", "InstancePaste", "describe_object", "make_bank"]

BANK_SIZE = 1000  # objects of a class that are kept at most
TRIES = 6  # ground points tried for an object
NEAR = 2000  # mm: how much farther or nearer than the object the ground point may be
CLEARANCE = 300  # mm around an object where nothing may stand
LEAST_POINTS = 6  # of an object in a cloud


@dataclass(frozen=True)
class BankObject:
    """One object of the bank.

    Attributes:
        label: training id.
        first, size: where its points lie in the bank.
        x, y, radius: centre and extent seen from above, mm.
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
        """Horizontal distance from the sensor, mm."""
        return math.hypot(self.x, self.y)


@dataclass(frozen=True)
class InstanceBank:
    """Objects that can be pasted.

    Attributes:
        points: (T, M) float32 as measured, on the device where clouds are augmented.
        objects: by training id.
    """

    points: Tensor
    objects: dict[int, list[BankObject]]

    def to(self, device: torch.device) -> InstanceBank:
        return self if self.points.device == device else InstanceBank(self.points.to(device), self.objects)


def make_bank(
    table: RecordTable,
    instances: Instances,
    classes: Sequence[int],
    height_column: int | None,
    extra: Sequence[str] = (),
) -> InstanceBank:
    """Copy the objects of some classes out of a table.

    Args:
        table: of the training scans.
        instances: with scans counted as in the table.
        classes: training ids.
        height_column: measured column that holds the height above the ground; without one, an object is taken to stand on
            its lowest point.
        extra: further columns of the points that are measured.
    """
    starts = np.cumsum(instances.size) - instances.size
    chosen: list[int] = []
    for label in classes:
        numbers = np.flatnonzero(instances.label == label)
        chosen += numbers[:: max(1, math.ceil(len(numbers) / BANK_SIZE))].tolist()
    chosen.sort(key=lambda number: (int(instances.scan[number]), number))
    clouds: list[Tensor] = []
    objects: dict[int, list[BankObject]] = {}
    first, current, scan = 0, -1, None
    for number in chosen:
        if scan is None or int(instances.scan[number]) != current:
            current = int(instances.scan[number])
            scan = table.read(current)
        start, size = int(starts[number]), int(instances.size[number])
        rows = torch.from_numpy(instances.rows[start : start + size].astype(np.int64))
        records = scan.records[rows].cpu()
        xyzr, further = table.format.decode(records).points, table.format.extra_values(records, extra)
        points = torch.cat([xyzr, further, scan.surroundings[rows].cpu().float()], dim=1)
        label = int(instances.label[number])
        objects.setdefault(label, []).append(describe_object(points.numpy(), label, first, height_column))
        clouds.append(points)
        first += size
    return InstanceBank(torch.cat(clouds) if clouds else torch.empty(0, 4), objects)


def describe_object(points: NDArray[np.float32], label: int, first: int, height_column: int | None) -> BankObject:
    """An object from its points (n, M), which lie from `first` on in the bank."""
    x, y, z = points[:, :3].astype(np.float64).T
    centre = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    reach = np.hypot(x - centre[0], y - centre[1]).max()
    middle = math.atan2(centre[1], centre[0])
    away = np.remainder(np.arctan2(y, x) - middle + math.pi, 2 * math.pi) - math.pi
    slope = z / np.maximum(np.hypot(x, y), 1e-3)
    ground = float(np.median(z - points[:, height_column])) if height_column is not None else float(z.min())
    return BankObject(
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
        probability: that a cloud receives objects.
        objects: how many are tried in such a cloud.
        rare: classes with a smaller share than this of the training points are pasted.

    Raises:
        ConfigError: for a value outside its limits.

    Example:
        >>> pasted = InstancePaste(probability=0.5)(batch, bank, ground=(9, 10, 11))
    """

    probability: float = 0.0
    objects: int = 4
    rare: float = 0.01

    def __post_init__(self) -> None:
        for name in ("probability", "rare"):
            require_between(getattr(self, name), 0, 1, f"data.paste.{name}")
        require_at_least(self.objects, 1, "data.paste.objects")

    @property
    def active(self) -> bool:
        return self.probability > 0

    def __call__(self, batch: PointBatch, bank: InstanceBank, ground: Sequence[int]) -> PointBatch:
        """Paste.

        Args:
            batch: before any augmentation that moves points: coordinates are whole millimetres.
            ground: training ids of the classes that objects stand on.
        """
        keys = batch.keys.tolist()
        receives = [unit(random_key(key, Purpose.PASTE, 0)) < self.probability for key in keys]
        if not any(receives) or not bank.objects:
            return batch
        clouds = []
        for row, key in enumerate(keys):
            cloud = _Cloud(batch, row, ground)
            for number in range(self.objects if receives[row] else 0):
                self._paste(cloud, bank, random_key(key, Purpose.PASTE, 1, number), float(batch.shares[row]))
            clouds.append(cloud)
        points, labels, kept = (
            pad_sequence([getattr(cloud, name) for cloud in clouds], batch_first=True)
            for name in ("points", "labels", "kept")
        )
        return compacted(points, labels, kept, batch)

    def _paste(self, cloud: _Cloud, bank: InstanceBank, stream: int, share: float) -> None:
        classes = sorted(bank.objects)
        label = classes[below(len(classes), random_key(stream, 0))]
        thing = bank.objects[label][below(len(bank.objects[label]), random_key(stream, 1))]
        place = cloud.place_for(thing, stream)
        if place is None:
            return
        angle, ground = place
        count = min(thing.size, max(LEAST_POINTS, round(thing.size * share)))
        start = below(thing.size, random_key(stream, 2))
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
        self.points, self.labels, self.kept = batch.points[row], batch.labels[row], batch.real[row]
        self.ground = torch.tensor(list(ground), device=self.labels.device)

    def place_for(self, thing: BankObject, stream: int) -> tuple[float, float] | None:
        """(angle to turn by, height of the ground there in metres), or None if no place is free."""
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
            row = int(candidates[below(len(candidates), random_key(stream, 3, attempt))])
            angle = math.atan2(*mm_N2[row].flip(0).tolist()) - math.atan2(thing.y, thing.x)
            cos, sin = math.cos(angle), math.sin(angle)
            centre = [round(cos * thing.x - sin * thing.y), round(sin * thing.x + cos * thing.y)]
            away = mm_N2 - torch.tensor(centre, device=mm_N2.device)
            if not bool((standing & ((away * away).sum(dim=1) < limit)).any()):
                return angle, float(self.points[row, 2])
        return None

    def add(self, points: Tensor, label: int, thing: BankObject, angle: float) -> None:
        """Add an object's points and remove what it hides: what lies behind it within its outline."""
        xyz = self.points[:, :3].double()
        left, right = ((math.cos(a + angle), math.sin(a + angle)) for a in thing.azimuths)
        between = (xyz[:, 0] * left[1] - xyz[:, 1] * left[0] >= 0) & (xyz[:, 1] * right[0] - xyz[:, 0] * right[1] >= 0)
        middle = sum(thing.azimuths) / 2 + angle
        ahead = xyz[:, 0] * math.cos(middle) + xyz[:, 1] * math.sin(middle)
        distance = torch.sqrt((xyz[:, :2] * xyz[:, :2]).sum(dim=1))
        slope = xyz[:, 2] / distance.clamp(min=1e-3)
        hidden = between & (ahead > 0) & (slope >= thing.slopes[0]) & (slope <= thing.slopes[1])
        hidden &= distance > thing.distance / 1000
        self.points = torch.cat([self.points, points])
        self.kept = torch.cat([self.kept & ~hidden, self.kept.new_ones(len(points))])
        self.labels = torch.cat([self.labels, self.labels.new_full((len(points),), label)])
