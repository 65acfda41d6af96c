"""Which scans a model was trained on is known again, also after a resumed run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import KittiTree, small_model

from pointseg.core.labels import LabelMap
from pointseg.data.datamodules import SemanticKITTIDataModule
from pointseg.data.features import FeatureSpec
from pointseg.data.scan_hashes import KEY, hashes_of, joined, read_hashes, write_hashes
from pointseg.data.sources import inspect
from pointseg.data.store import PackedScans, PackedStore, PackSettings, pack
from pointseg.engine.bundle import CHECKPOINT_KEY
from pointseg.engine.segmentation_module import SegmentationModule

COUNTS = np.arange(60, dtype=np.int64).reshape(3, 20)


def provenance(hashes: frozenset[bytes]) -> dict[str, object]:
    return {"seed": 0, "data": {"class": "Own", KEY: write_hashes(hashes)}}


def test_hashes_come_back_from_a_provenance() -> None:
    hashes = hashes_of(COUNTS)
    assert len(hashes) == 3
    assert read_hashes(provenance(hashes)) == hashes


def test_the_order_of_scans_does_not_matter_and_one_label_does() -> None:
    other = COUNTS.copy()
    other[1, 3] += 1
    assert hashes_of(COUNTS[::-1]) == hashes_of(COUNTS)
    assert len(hashes_of(other) & hashes_of(COUNTS)) == 2


@pytest.mark.parametrize(
    "said", [{}, {"data": None}, {"data": {"sha256": "ab"}}, *({"data": {KEY: v}} for v in ("", 5, "#", "AAAA"))]
)
def test_what_says_nothing_is_none(said: dict[str, object]) -> None:
    assert read_hashes(said) is None


def test_raw_scans_and_a_store_of_them_have_the_same(tree: KittiTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    data = SemanticKITTIDataModule(tree.root, split={"train": ["00"], "val": ["08"]})
    pack(data.source("train"), tmp_path / "packed", kitti_map, PackSettings())
    packed = PackedScans(PackedStore(tmp_path / "packed")).summary(kitti_map)
    raw = hashes_of(data.summary("train").scan_counts)
    assert hashes_of(packed.scan_counts) == raw
    assert not raw & hashes_of(inspect(data.source("val"), kitti_map).scan_counts)


def test_a_run_that_goes_on_has_seen_both() -> None:
    first, second = hashes_of(COUNTS[:2]), hashes_of(COUNTS[1:])
    assert read_hashes(joined(provenance(second), provenance(first))) == hashes_of(COUNTS)


def test_nobody_can_say_what_a_run_has_seen_whose_beginning_is_unknown() -> None:
    went_on = joined(provenance(hashes_of(COUNTS)), {"data": {"sha256": "old"}})
    assert read_hashes(went_on) is None
    assert went_on["data"] == {"class": "Own"}


def test_a_module_remembers_what_its_checkpoint_has_seen(kitti_map: LabelMap) -> None:
    def module(hashes: frozenset[bytes]) -> SegmentationModule:
        features = FeatureSpec(use=("x", "y", "z"))
        return SegmentationModule(small_model(len(features)), kitti_map, features, provenance=provenance(hashes))

    went_on = module(hashes_of(COUNTS[2:]))
    went_on.on_load_checkpoint({CHECKPOINT_KEY: module(hashes_of(COUNTS[:2])).trained().describe()})
    assert read_hashes(went_on.trained().provenance) == hashes_of(COUNTS)
