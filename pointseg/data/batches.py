"""Batches of clouds on their way to the model: as they are loaded, as they are augmented, and as the model sees them.

Legend: B clouds, N points, E further columns of the sensor, S columns of surroundings, M measured columns, F features,
C candidate points of a cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pointseg.data.records import RecordFormat

__all__ = ["Batch", "Cloud", "PointBatch", "RecordBatch", "compacted", "decode_batch", "padded_stack"]


class RecordBatch(NamedTuple):
    """Clouds as they are loaded.

    records (B, N, ...) in the table's format; surroundings (B, N, S) float16; mask (B, N) bool, True = real point, None
    when all are; keys (B,) int64 of (seed, epoch, index); shares (B,) float32, how much of its scan each cloud is;
    partner: as many other clouds to mix with, or None.
    """

    records: Tensor
    surroundings: Tensor
    mask: Tensor | None
    keys: Tensor
    shares: Tensor
    partner: RecordBatch | None = None


class PointBatch(NamedTuple):
    """Clouds as they are augmented.

    points (B, N, M) float32 as `FeatureSpec.measure` gives them; labels (B, N) int64 training ids, 0 = ignored; mask,
    keys and shares as in `RecordBatch`.
    """

    points: Tensor
    labels: Tensor
    mask: Tensor | None
    keys: Tensor
    shares: Tensor

    @property
    def real(self) -> Tensor:
        """(B, N) bool: the mask, also when all points are real."""
        return torch.ones_like(self.labels, dtype=torch.bool) if self.mask is None else self.mask


class Batch(NamedTuple):
    """Clouds as the model sees them.

    features (B, N, F); coords (B, N, 3) metres; labels (B, N), 0 = not trained on; mask (B, N) or None; keys (B,) int64,
    which tell every cloud of a run from every other, or None; extras (B, ...) by name, what the model prepared, or None;
    all_labels (B, N), also those of points that are not trained on, or None where there are no others.
    """

    features: Tensor
    coords: Tensor
    labels: Tensor
    mask: Tensor | None
    keys: Tensor | None = None
    extras: Mapping[str, Tensor] | None = None
    all_labels: Tensor | None = None

    @property
    def known_labels(self) -> Tensor:
        """(B, N) every label that is known, 0 = ignored."""
        return self.labels if self.all_labels is None else self.all_labels

    def split(self, parts: int) -> list[Batch]:
        """At most `parts` smaller batches, along the clouds."""
        if parts == 1:
            return [self]
        size = -(-len(self.labels) // parts)
        return [self._slice(slice(start, start + size)) for start in range(0, len(self.labels), size)]

    def _slice(self, clouds: slice) -> Batch:
        optional = (self.mask, self.keys, self.all_labels)
        mask, keys, all_labels = (None if tensor is None else tensor[clouds] for tensor in optional)
        extras = None if self.extras is None else {name: tensor[clouds] for name, tensor in self.extras.items()}
        return Batch(self.features[clouds], self.coords[clouds], self.labels[clouds], mask, keys, extras, all_labels)


class Cloud(NamedTuple):
    """A whole scan: points (N, 4 + E) float32, labels (N,) int64 training ids, the scan's number, and what the model
    prepared of it, if that is done in advance."""

    points: Tensor
    labels: Tensor
    key: int
    extras: Mapping[str, Tensor] | None = None


def padded_stack(clouds: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """(N, ...) of each cloud -> (B, N, ...) and the mask, None if all have the same length; zeros are the padding."""
    longest = max(len(cloud) for cloud in clouds)
    if all(len(cloud) == longest for cloud in clouds):
        return torch.stack(list(clouds)), None
    padded = clouds[0].new_zeros(len(clouds), longest, *clouds[0].shape[1:])
    mask_BN = torch.zeros(len(clouds), longest, dtype=torch.bool, device=padded.device)
    for row, cloud in enumerate(clouds):
        padded[row, : len(cloud)], mask_BN[row, : len(cloud)] = cloud, True
    return padded, mask_BN


def decode_batch(batch: RecordBatch, form: RecordFormat, extra: Sequence[str] = ()) -> PointBatch:
    """Records -> points, on the device that holds them; padded points are zeros.

    Args:
        extra: further columns of the records that are wanted.
    """
    clouds, count, columns = batch.surroundings.shape
    first = 4 + len(extra)
    planes = torch.empty((first + columns, clouds, count), dtype=torch.float32, device=batch.records.device)
    _, labels = form.decode(batch.records, planes[:4])
    if extra:
        planes[4:first] = form.extra_values(batch.records, extra).movedim(-1, 0)
    planes[first:] = batch.surroundings.movedim(-1, 0)
    points = planes.movedim(0, -1)
    if batch.mask is not None:
        points, labels = points.masked_fill(~batch.mask[..., None], 0.0), labels.masked_fill(~batch.mask, 0)
    return PointBatch(points, labels, batch.mask, batch.keys, batch.shares)


def compacted(points_BCM: Tensor, labels_BC: Tensor, kept_BC: Tensor, like: PointBatch) -> PointBatch:
    """Clouds of the candidates that are kept, in their order; shorter clouds are padded and masked, no point is cut."""
    counts_B = kept_BC.sum(dim=1)
    longest = max(1, int(counts_B.max()))
    order_BN = torch.argsort((~kept_BC).to(torch.uint8), dim=1, stable=True)[:, :longest]
    mask_BN = torch.arange(longest, device=counts_B.device) < counts_B[:, None]
    points = points_BCM.gather(1, order_BN[..., None].expand(-1, -1, points_BCM.shape[-1]))
    labels = labels_BC.gather(1, order_BN)
    if bool(mask_BN.all()):
        return like._replace(points=points, labels=labels, mask=None)
    points, labels = points.masked_fill(~mask_BN[..., None], 0.0), labels.masked_fill(~mask_BN, 0)
    return like._replace(points=points, labels=labels, mask=mask_BN)
