"""One scan -> what the store keeps of it. Runs in the packing processes.

Legend: N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointseg.data.instances import instances_of
from pointseg.data.records import RecordFormat
from pointseg.data.scan import Scan
from pointseg.data.tables import shuffled_order, surroundings_of
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap

__all__ = ["PackedScan", "pack_scan"]


@dataclass(frozen=True)
class PackedScan:
    """What the store keeps of a scan: arrays by kind of shard, its row of the index, its instances."""

    name: str
    arrays: dict[str, NDArray[np.generic]]
    points: int
    labelled: bool
    class_counts: NDArray[np.int64]
    remission_sum: float
    out_of_domain: bool
    pose: NDArray[np.float64]
    instance_labels: NDArray[np.uint8]
    instance_sizes: NDArray[np.int64]
    instance_rows: NDArray[np.uint32]


def pack_scan(
    scan: Scan,
    name: str,
    label_map: LabelMap,
    form: RecordFormat,
    features: FeatureSpec | None,
    *,
    keep_raw: bool = False,
    keep_order: bool = False,
) -> PackedScan:
    """Encode, measure and shuffle a scan.

    Args:
        scan: with or without labels; without them every training id is 0.
        name: "SEQUENCE/FRAME": what the shuffled order depends on.
        label_map: of the labels.
        form: of the records.
        features: whose surroundings are kept; None for none.
        keep_raw: keep the raw labels with their instance ids.
        keep_order: keep where each point stood in the file.

    Raises:
        DoesNotFit: if the format cannot hold a value.
        LabelMapError: for a raw id that the map does not know.
    """
    points, labels = scan.points, scan.labels
    raw = np.zeros(len(points), np.uint32) if labels is None else labels
    none = np.zeros(len(points), np.uint8)
    train_ids = none if labels is None else label_map.to_train(labels, where=scan.labels_source)
    order = shuffled_order(name, len(points))
    arrays: dict[str, NDArray[np.generic]] = {"records": form.encode(points, train_ids, scan.extra)[order]}
    if features is not None:
        arrays["surroundings"] = surroundings_of(features, torch.from_numpy(points)).numpy()[order]
    if keep_raw:
        arrays["raw"] = raw[order].astype("<u4")
    if keep_order:
        arrays["order"] = order.astype("<u4")
    remission = points[:, 3]
    instance_labels, sizes, rows = instances_of(raw[order], train_ids[order])
    return PackedScan(
        name=name,
        arrays=arrays,
        points=len(points),
        labelled=labels is not None,
        class_counts=np.bincount(train_ids, minlength=label_map.num_classes + 1).astype(np.int64),
        remission_sum=float(remission.sum(dtype=np.float64)),
        out_of_domain=bool(remission.min() < 0 or remission.max() > 1),
        pose=np.full((4, 4), np.nan) if scan.pose is None else scan.pose,
        instance_labels=instance_labels,
        instance_sizes=sizes,
        instance_rows=rows,
    )
