"""Synthetic streets beside a data set's scans: which scans are drawn, and that each part is read as it is alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.core.randomness import Purpose, random_key
from pointseg.data.augmentation.pasting import InstancePaste
from pointseg.data.augmentation.polarmix import PolarMix
from pointseg.data.datamodules import SemanticKITTIDataModule
from pointseg.data.datasets import Draw, TrainingClouds
from pointseg.data.features import FeatureSpec
from pointseg.data.joined import JoinedScans, instances_in, summary_of, table_of
from pointseg.data.sampling import Sampling
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.sources import inspect
from pointseg.data.store import PackedScans, PackedStore, PackSettings, pack
from pointseg.data.streets import Streets
from pointseg.data.synthetic import SyntheticScans
from pointseg.data.tables import ScanTable

if TYPE_CHECKING:
    from conftest import KittiTree

FEATURES = FeatureSpec(use=("x", "y", "z", "remission", "height"))
RING = FeatureSpec(use=("x", "y", "z", "remission", "ring"), offset={"ring": 31.5}, scale={"ring": 16.0})
SMALL = {"beams": 16, "azimuth_steps": 120}


def streets(count: int = 6, share: float = 0.5, seed: int = 3) -> Streets:
    return Streets(count, share, seed, **SMALL)


def kitti(tree: KittiTree, **settings: Any) -> SemanticKITTIDataModule:
    split = {"train": ["00", "08"], "val": ["08"], "test": ["00"]}
    return SemanticKITTIDataModule(tree.root, split=split, points=300, batch_size=2, features=FEATURES, **settings)


def test_streets_follow_the_scans(shared_tree: KittiTree) -> None:
    data = kitti(shared_tree, streets=streets())
    own, all_scans = data.source("train"), data.training_source()
    assert [*own.names] == list(all_scans.names[: len(own)])
    assert list(all_scans.names[len(own) :]) == [f"street {number:03d}/000000" for number in range(6)]
    alone = SyntheticScans(6, 3, scans_per_street=1, **SMALL)[4]
    assert np.array_equal(all_scans[len(own) + 4].points, alone.points)
    with pytest.raises(IndexError):
        all_scans[len(all_scans)]


def test_only_training_has_streets(shared_tree: KittiTree) -> None:
    plain, joined = kitti(shared_tree), kitti(shared_tree, streets=streets())
    assert joined.summary("val").fingerprint == plain.summary("val").fingerprint
    assert list(joined.source("train").names) == list(plain.source("train").names)


def test_summary_is_that_of_reading_every_scan(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    source = kitti(shared_tree, streets=streets()).training_source()
    found, expected = summary_of(source, kitti_map), inspect(source, kitti_map)
    assert found.fingerprint == expected.fingerprint
    assert found.class_counts.tolist() == expected.class_counts.tolist()
    assert (found.scans, found.points) == (expected.scans, expected.points)
    assert found.remission_mean == pytest.approx(expected.remission_mean, rel=1e-12)


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_share_is_that_of_clouds_and_of_partners(shared_tree: KittiTree, share: float) -> None:
    data = kitti(shared_tree, streets=streets(share=share), polarmix=PolarMix(swap=0.5), clouds_per_scan=300)
    own = len(data.source("train"))
    loader = data.train_dataloader()
    draws = [draw for batch in loader.batch_sampler for draw in batch]  # type: ignore[union-attr]
    assert np.mean([draw.scan >= own for draw in draws]) == pytest.approx(share, abs=0.03)
    clouds = loader.dataset
    assert isinstance(clouds, TrainingClouds)
    keys = [random_key(0, index, Purpose.MIX_PARTNER) for index in range(3000)]
    assert np.mean([clouds._odds.scan(key) >= own for key in keys]) == pytest.approx(share, abs=0.03)


def test_rare_scans_are_drawn_more_often_within_each_part(shared_tree: KittiTree) -> None:
    both = kitti(shared_tree, streets=streets(share=0.5), repeat_rare=0.9)
    alone = kitti(shared_tree, streets=streets(share=0.5))
    rare, shares = both.scan_weights(), alone.scan_weights()
    assert rare is not None
    assert shares is not None
    own = len(both.source("train"))
    assert shares[:own].sum() == pytest.approx(shares[own:].sum())
    assert len(set(np.round(rare / shares, 6).tolist())) > 1


def test_partner_of_a_weighted_draw_is_never_a_scan_of_weight_zero(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    source = SemanticKITTIScans(shared_tree.root, ["00", "08"])
    table = ScanTable(source, kitti_map, FEATURES, inspect(source, kitti_map).lengths)
    weights = np.zeros(len(source))
    weights[2] = 1.0
    clouds = TrainingClouds(table, Sampling(), 0, partners=True, weights=weights)
    batch = clouds.__getitems__([Draw(0, index, 0, 10_000) for index in range(20)])
    assert batch.partner is not None
    whole = len(table.read(2).records)
    assert batch.partner.records.shape[1] == whole
    assert batch.partner.mask is None


def test_a_store_beside_streets_gives_the_samples_of_its_raw_scans(shared_tree: KittiTree, tmp_path: Path) -> None:
    """Records of a store are narrow, those of streets wide."""
    label_map = LabelMap.load("semantickitti")
    raw = SemanticKITTIScans(shared_tree.root, ["00", "08"])
    pack(raw, tmp_path / "store", label_map, PackSettings())
    store = PackedScans(PackedStore(tmp_path / "store"), ["00", "08"])
    more = SyntheticScans(2, 3, **SMALL)
    tables = []
    for own in (raw, store):
        joined = JoinedScans([own, more])
        tables.append(table_of(joined, label_map, FEATURES, summary_of(joined, label_map).lengths))
    assert tables[0].lengths == tables[1].lengths
    for scan in range(len(tables[0].lengths)):
        one, other = (table.read(scan) for table in tables)
        assert torch.equal(one.records, other.records)
        assert torch.equal(one.surroundings, other.surroundings)


def test_objects_of_the_second_part_are_counted_after_the_first(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    own, more = SemanticKITTIScans(shared_tree.root, ["00"]), SyntheticScans(2, 10, beams=64, azimuth_steps=500)
    found, alone = instances_in(JoinedScans([own, more]), kitti_map), instances_in(more, kitti_map)
    behind = found.scan >= len(own)
    assert len(alone.scan) > 0
    assert (found.scan[behind] - len(own)).tolist() == alone.scan.tolist()
    assert found.label[behind].tolist() == alone.label.tolist()


def test_objects_of_streets_are_pasted(shared_tree: KittiTree) -> None:
    data = kitti(shared_tree, streets=Streets(3, 0.5, 3, 64, 500), paste=InstancePaste(probability=1.0, rare=0.5))
    assert data.bank().objects


def test_further_columns_are_refused_beside_streets(shared_tree: KittiTree) -> None:
    with pytest.raises(ConfigError, match=r"no column ring.*data\.streets\.count=6"):
        SemanticKITTIDataModule(shared_tree.root, streets=streets(), features=RING)


@pytest.mark.parametrize(("key", "settings"), [("count", {"count": -1}), ("share", {"share": 1.5})])
def test_bad_values_name_their_key(key: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"data\.streets\.{key}"):
        Streets(**settings)
