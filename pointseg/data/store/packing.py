"""Encodes one scan for the store; runs in the packing processes.

Legend: N points.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.core.limits import require_at_least, require_choice
from pointseg.data.checks.findings import Finding
from pointseg.data.checks.scan_check import ScanCheck
from pointseg.data.features import FeatureSpec
from pointseg.data.instances import Instances, instances_of
from pointseg.data.records import DoesNotFit, RecordFormat
from pointseg.data.scan import Scan
from pointseg.data.sources import ScanSource
from pointseg.data.store.layout import Index
from pointseg.data.tables import shuffled_order, surroundings_of

__all__ = ["PackOutcome", "PackSettings", "PackedScan", "Packer", "pack_scan"]


@dataclass(frozen=True)
class PackSettings:
    """What a store keeps.

    Args:
        record: "narrow" (8 bytes a point), "wide", or "auto": narrow if every value fits.
        features: whose surroundings are measured and kept, so that training need not read whole scans; None for none.
        keep_raw: raw labels with instance ids.
        keep_order: the place of each point in its file, needed to write label files in the original order.
        shard_scans: scans in one shard.
        on_error: "stop": a bad file leaves no store; "skip": the good ones are packed.

    Raises:
        ConfigError: for values that are none of these.
    """

    record: str = "auto"
    features: FeatureSpec | None = field(default_factory=FeatureSpec)
    keep_raw: bool = False
    keep_order: bool = False
    shard_scans: int = 256
    on_error: str = "stop"

    def __post_init__(self) -> None:
        require_choice(self.record, ("auto", "narrow", "wide"), "record")
        require_choice(self.on_error, ("stop", "skip"), "on_error")
        require_at_least(self.shard_scans, 1, "shard_scans")

    @property
    def surroundings(self) -> tuple[str, ...]:
        """Names of the measured columns that are kept."""
        return self.features.surroundings if self.features else ()

    def describe(self) -> dict[str, Any]:
        """Plain values of everything that decides on the store's bytes."""
        return {
            "record": self.record,
            "surroundings": list(self.surroundings),
            "keep_raw": self.keep_raw,
            "keep_order": self.keep_order,
            "shard_scans": self.shard_scans,
        }


@dataclass(frozen=True)
class PackedScan:
    """What the store keeps of a scan: rows by kind of shard file, its row of the index, its objects."""

    arrays: dict[str, NDArray[np.generic]]
    index: Index
    instances: Instances


def pack_scan(scan: Scan, name: str, label_map: LabelMap, form: RecordFormat, settings: PackSettings) -> PackedScan:
    """Encode, measure and shuffle a scan.

    Args:
        scan: with or without labels; without them every training id is 0.
        name: "SEQUENCE/FRAME", which decides on the shuffled order.
        form: of the records.

    Raises:
        DoesNotFit: if the format cannot hold a value.
        LabelMapError: for a raw id that the map does not know.
    """
    points, count = scan.points, len(scan.points)
    raw = np.zeros(count, np.uint32) if scan.labels is None else scan.labels
    train_ids = np.zeros(count, np.uint8) if scan.labels is None else scan.train_ids(label_map)
    order = shuffled_order(name, count)
    arrays: dict[str, NDArray[np.generic]] = {"records": form.encode(points, train_ids, scan.extra)[order]}
    if settings.features is not None:
        arrays["surroundings"] = surroundings_of(settings.features, torch.from_numpy(points)).numpy()[order]
    if settings.keep_raw:
        arrays["raw"] = raw[order].astype("<u4")
    if settings.keep_order:
        arrays["order"] = order.astype("<u4")
    remission = points[:, 3]
    sequence, _, frame = name.partition("/")
    index = Index(
        sequence=np.array([sequence], np.str_),
        frame=np.array([frame], np.str_),
        shard=np.zeros(1, np.int32),
        first=np.zeros(1, np.int64),
        points=np.array([count], np.int64),
        labelled=np.array([scan.labels is not None]),
        class_counts=np.bincount(train_ids, minlength=label_map.num_classes + 1).astype(np.int64)[None],
        remission_sum=np.array([remission.sum(dtype=np.float64)]),
        out_of_domain=np.array([remission.min() < 0 or remission.max() > 1]),
        poses=(np.full((4, 4), np.nan) if scan.pose is None else scan.pose)[None],
    )
    labels, sizes, rows = instances_of(raw[order], train_ids[order])
    return PackedScan(arrays, index, Instances(np.zeros(len(labels), np.int64), labels, sizes, rows))


@dataclass(frozen=True)
class PackOutcome:
    """Of one scan: the findings of its check; the packed scan, None if it has an error; why it does not fit the record."""

    findings: list[Finding]
    packed: PackedScan | None = None
    misfit: str | None = None


@dataclass(frozen=True)
class Packer:
    """Reads, checks and packs scans by number; sent to each packing process."""

    source: ScanSource
    label_map: LabelMap
    form: RecordFormat
    check: ScanCheck
    settings: PackSettings

    def __call__(self, number: int) -> PackOutcome:
        scan, findings = self.check.read(self.source, number)
        if scan is None or any(finding.is_error for finding in findings):
            return PackOutcome(findings)
        try:
            packed = pack_scan(scan, self.source.names[number], self.label_map, self.form, self.settings)
        except DoesNotFit as error:
            return PackOutcome(findings, misfit=f"{error} ({scan.path})")
        return PackOutcome(findings, packed)
