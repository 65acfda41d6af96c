"""Copy-and-paste: objects of rare classes land on free ground, at their distance, and hide what is behind them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.augmentation.pasting import InstanceBank, InstancePaste, describe_object
from pointseg.data.batches import PointBatch
from pointseg.data.datamodules import SemanticKITTIDataModule, SyntheticDataModule
from pointseg.data.instances import LEAST_INSTANCE_POINTS, instances_of
from pointseg.data.store import pack
from pointseg.data.synthetic import SyntheticSequences, write_sequences

ROAD, POLE, PERSON = 9, 18, 6


def ground_batch(extra: list[tuple[float, float, float, int]] = ()) -> PointBatch:  # type: ignore[assignment]
    """Flat road to 30 m with a point each metre, and further points (x, y, z, label)."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-30.0, 31.0), np.arange(-30.0, 31.0)))
    points = np.column_stack([x, y, np.full(len(x), -1.7), np.full(len(x), 0.3)])
    labels = np.full(len(x), ROAD)
    for px, py, pz, label in extra:
        points, labels = np.vstack([points, [px, py, pz, 0.5]]), np.append(labels, label)
    return PointBatch(
        torch.from_numpy(points.astype(np.float32))[None],
        torch.from_numpy(labels)[None],
        None,
        torch.tensor([7]),
        torch.ones(1),
    )


def bank(distance: float = 10.0, size: int = 60) -> InstanceBank:
    """One person standing on ground at -1.9 m, ahead."""
    random = np.random.default_rng(0)
    points = np.column_stack(
        [
            random.uniform(distance - 0.2, distance + 0.2, size),
            random.uniform(-0.25, 0.25, size),
            random.uniform(-1.9, -0.2, size),
            np.full(size, 0.9),
        ]
    ).astype(np.float32)
    points[0, 2] = -1.9
    return InstanceBank(torch.from_numpy(points), {PERSON: [describe_object(points, PERSON, 0, None)]})


def pasted(batch: PointBatch, objects: int = 1, **settings: Any) -> PointBatch:
    return InstancePaste(probability=1.0, objects=objects)(batch, settings.get("bank", bank()), ground=(ROAD,))


def real(batch: PointBatch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    kept = slice(None) if batch.mask is None else batch.mask[0]
    return batch.points[0, kept].numpy(), batch.labels[0, kept].numpy()


def test_object_keeps_its_distance_shape_and_stands_on_the_ground() -> None:
    points, labels = real(pasted(ground_batch()))
    person = points[labels == PERSON]
    assert len(person) == 60
    assert np.hypot(person[:, 0], person[:, 1]).mean() == pytest.approx(10.0, abs=0.1)
    assert person[:, 2].min() == pytest.approx(-1.7, abs=1e-4)
    before = bank().points.numpy()
    pairs = [np.linalg.norm(p[:, None, :3] - p[None, :, :3], axis=2) for p in (before, person)]
    assert sorted(pairs[0].ravel()) == pytest.approx(sorted(pairs[1].ravel()), abs=1e-4)


def test_what_lies_behind_an_object_is_hidden() -> None:
    batch = ground_batch()
    points, labels = real(pasted(batch))
    person = points[labels == PERSON]
    azimuth = np.arctan2(person[:, 1], person[:, 0])
    middle = np.arctan2(np.sin(azimuth).mean(), np.cos(azimuth).mean())
    left = points[labels == ROAD]
    off = np.abs(np.remainder(np.arctan2(left[:, 1], left[:, 0]) - middle + np.pi, 2 * np.pi) - np.pi)
    shadow = (off < 0.01) & (np.hypot(left[:, 0], left[:, 1]) > 11)
    steep = left[:, 2] / np.hypot(left[:, 0], left[:, 1]) > (person[:, 2] / np.hypot(person[:, 0], person[:, 1])).min()
    assert not (shadow & steep).any()
    assert len(left) < batch.points.shape[1]  # some are hidden
    assert len(left) > 0.9 * batch.points.shape[1]  # most are not


def test_nothing_is_pasted_into_what_stands_there() -> None:
    ring = [(10 * np.cos(a), 10 * np.sin(a), 0.0, POLE) for a in np.linspace(0, 2 * np.pi, 720)]
    ring += [
        (r * np.cos(a), r * np.sin(a), 0.0, POLE)
        for r in (8.5, 9, 9.5, 10.5, 11, 11.5)
        for a in np.linspace(0, 6.28, 720)
    ]
    _, labels = real(pasted(ground_batch(ring), objects=5))
    assert not (labels == PERSON).any()


def test_nothing_is_pasted_where_there_is_no_ground() -> None:
    batch = ground_batch()
    batch = batch._replace(labels=torch.full_like(batch.labels, POLE))
    _, labels = real(pasted(batch))
    assert (labels == POLE).all()


def test_object_is_thinned_as_the_cloud_is() -> None:
    batch = ground_batch()._replace(shares=torch.tensor([0.25]))
    _, labels = real(pasted(batch))
    assert (labels == PERSON).sum() == 15


def test_cloud_without_luck_stays() -> None:
    batch = ground_batch()
    assert torch.equal(InstancePaste(probability=0.0)(batch, bank(), (ROAD,)).points, batch.points)


def test_pasting_does_not_depend_on_the_batch() -> None:
    one = ground_batch()
    two = PointBatch(
        *(torch.cat([a, a]) if a is not None else None for a in one)  # type: ignore[arg-type]
    )._replace(keys=torch.tensor([3, 7]))
    paste = InstancePaste(probability=1.0, objects=3)
    together, alone = paste(two, bank(), (ROAD,)), paste(one, bank(), (ROAD,))
    real_rows = slice(None) if together.mask is None else together.mask[1]
    own_rows = slice(None) if alone.mask is None else alone.mask[0]
    assert torch.equal(together.points[1, real_rows], alone.points[0, own_rows])


# ---- where objects come from ---------------------------------------------------------------------------------------


def test_instances_are_those_of_a_slow_count() -> None:
    random = np.random.default_rng(4)
    train_ids = random.integers(0, 4, 4000).astype(np.uint8)
    raw = (random.integers(0, 40, 4000).astype(np.uint32) << 16) | train_ids
    labels, sizes, rows = instances_of(raw, train_ids)
    expected = {}
    for label in range(1, 4):
        for number in range(1, 40):
            found = [i for i in range(4000) if train_ids[i] == label and raw[i] >> 16 == number]
            if len(found) >= LEAST_INSTANCE_POINTS:
                expected[(label, tuple(found))] = len(found)
    starts = np.cumsum(sizes) - sizes
    got = {
        (int(label), tuple(rows[start : start + size].tolist())): int(size)
        for label, start, size in zip(labels, starts, sizes, strict=True)
    }
    assert got == expected


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets") / "raw"
    write_sequences(folder, scans=4, seed=5, beams=32, azimuth_steps=500)
    return folder


SETTINGS: dict[str, Any] = {
    "split": {"train": ["00", "01", "02"], "val": ["08"]},
    "points": 4000,
    "paste": InstancePaste(probability=1.0, objects=8, rare=0.2),
}


def test_objects_of_a_store_are_those_of_its_raw_scans(streets: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    pack(SyntheticSequences(4, 5, 32, 500), tmp_path / "store", kitti_map, processes=1)
    banks = [SemanticKITTIDataModule(root, **SETTINGS).bank() for root in (streets, tmp_path / "store")]
    assert banks[0].objects == banks[1].objects
    assert len(banks[0].objects) >= 1
    assert torch.equal(banks[0].points, banks[1].points)


def test_training_clouds_receive_objects(streets: Path, kitti_map: LabelMap) -> None:
    data = SemanticKITTIDataModule(streets, **SETTINGS)
    without = SemanticKITTIDataModule(streets, **{**SETTINGS, "paste": None})
    batch = next(iter(data.train_dataloader()))
    rare = torch.tensor(sorted(data.bank().objects))
    counts = [int(torch.isin(d.to_model_input(batch).labels, rare).sum()) for d in (data, without)]
    assert counts[0] > counts[1]


def test_bank_holds_rare_classes_only(streets: Path) -> None:
    data = SemanticKITTIDataModule(streets, **SETTINGS)
    counts = data.summary("train").class_counts
    assert all(counts[label] < 0.2 * counts[1:].sum() for label in data.bank().objects)


def test_labels_without_instances_are_said(tmp_path: Path, streets: Path) -> None:
    shutil.copytree(streets, tmp_path / "raw")
    for path in (tmp_path / "raw").rglob("*.label"):
        (np.fromfile(path, np.uint32) & 0xFFFF).tofile(path)
    data = SemanticKITTIDataModule(tmp_path / "raw", **SETTINGS)
    with pytest.raises(ConfigError, match="instance ids"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"probability": 2.0}, "probability"), ({"objects": 0}, "objects"), ({"rare": -1.0}, "rare")],
)
def test_bad_setting_names_its_key(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.paste\.{named}"):
        InstancePaste(**settings)


def test_label_map_without_ground_is_refused(small_map: LabelMap) -> None:
    with pytest.raises(ConfigError, match="does not name its ground"):
        SyntheticDataModule(labels=small_map, paste=InstancePaste(0.5))
