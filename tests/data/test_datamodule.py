"""DataModules: batches that do not depend on who loads them, features as at prediction, and a place to resume from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.augmentation import Augmentation
from pointseg.data.batches import Batch, PointBatch, RecordBatch, decode_batch
from pointseg.data.datamodules import SemanticKITTIDataModule, SyntheticDataModule
from pointseg.data.features import FeatureSpec
from pointseg.data.sampling import Sampling
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.models import PointNetSeg

if TYPE_CHECKING:
    from conftest import KittiTree

FEATURES = FeatureSpec(use=("x", "y", "z", "height"))


def kitti(tree: KittiTree, **settings: Any) -> SemanticKITTIDataModule:
    split = {"train": ["00", "08"], "val": ["08"], "test": ["00"]}
    given = {"points": (200, 900), "batch_size": 2, "features": FEATURES, **settings}
    return SemanticKITTIDataModule(tree.root, split=split, **given)


def loaded(data: ScanDataModule, epoch: int = 0) -> list[RecordBatch]:
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return list(loader)


def equal(one: list[RecordBatch], other: list[RecordBatch]) -> bool:
    tensors = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in tensors)


def points_of(data: ScanDataModule, batch: RecordBatch) -> PointBatch:
    return decode_batch(batch, data.table()[1].format)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 4])
def test_batches_do_not_depend_on_workers(shared_tree: KittiTree, workers: int) -> None:
    alone, shared = kitti(shared_tree), kitti(shared_tree, num_workers=workers)
    assert equal(loaded(alone, epoch=1), loaded(shared, epoch=1))


@pytest.mark.parametrize("residency", ["memory", "device", "auto"])
def test_batches_do_not_depend_on_the_residency(shared_tree: KittiTree, residency: str) -> None:
    disk = kitti(shared_tree, residency="disk", sampling=Sampling("nearest"))
    assert equal(loaded(disk), loaded(kitti(shared_tree, residency=residency, sampling=Sampling("nearest"))))


def test_epochs_differ(shared_tree: KittiTree) -> None:
    data = kitti(shared_tree, points=300)
    assert not equal(loaded(data, 0), loaded(data, 1))


def test_validation_scores_every_scan_once(shared_tree: KittiTree) -> None:
    scans = list(kitti(shared_tree).val_dataloader())
    assert [len(scan.points) for scan in scans] == [2000, 2030, 2070]


def test_model_input_is_what_prediction_computes(shared_tree: KittiTree) -> None:
    data = kitti(shared_tree, points=5000)  # more than a scan has: each cloud is its scan
    batch = loaded(data)[0]
    model_input, points = data.to_model_input(batch), points_of(data, batch)
    mask = points.mask if points.mask is not None else torch.ones_like(points.labels, dtype=torch.bool)
    for row in range(len(points.points)):
        scan = points.points[row, mask[row], :4]  # to the millimetre: cells and pillars may differ at their edges
        expected = FEATURES(FEATURES.measure(scan))
        close = torch.isclose(model_input.features[row, mask[row]], expected, rtol=2e-3, atol=2e-3)
        assert float(close.float().mean()) > 0.99


def test_dropped_points_are_ignored(shared_tree: KittiTree) -> None:
    augmentation = Augmentation(yaw=0, flip_y=0, scale=0, jitter=0, dropout=0.9)
    data = kitti(shared_tree, points=900, augmentation=augmentation)
    model_input = data.to_model_input(loaded(data)[0])
    assert model_input.mask is not None
    assert bool((model_input.labels[~model_input.mask] == 0).all())
    assert bool((model_input.features[~model_input.mask] == 0).all())


def test_augmented_height_grows_with_the_cloud(shared_tree: KittiTree) -> None:
    plain = FeatureSpec(use=("z", "height"), offset={"z": 0, "height": 0}, scale={"z": 1, "height": 1})
    augmentation = Augmentation(yaw=0, flip_y=0, scale=0.5, jitter=0)
    data = kitti(shared_tree, points=900, augmentation=augmentation, features=plain)
    batch = loaded(data)[0]
    before, after = plain(points_of(data, batch).points), data.to_model_input(batch).features
    size_B1 = (after[..., 0] / before[..., 0]).median(dim=1, keepdim=True).values
    assert torch.allclose(after[..., 1], before[..., 1] * size_B1, rtol=1e-4, atol=1e-5)


def test_label_map_may_be_a_file(shared_tree: KittiTree, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nlabels: {0: [a, [0, 0, 0]], 1: [b, [1, 1, 1]]}\nclasses: [[1]]\nignored: [0]\n")
    assert kitti(shared_tree, labels=path).label_map.class_names == ("b",)


def test_bad_setting_is_refused_when_made(shared_tree: KittiTree) -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size"):
        kitti(shared_tree, batch_size=0)


def test_unknown_split_is_refused(shared_tree: KittiTree) -> None:
    with pytest.raises(ConfigError, match="no split 'training'"):
        kitti(shared_tree).source("training")


@pytest.fixture(scope="module")
def streets() -> SyntheticDataModule:
    return SyntheticDataModule(
        {"train": 2, "val": 1, "test": 1}, beams=16, azimuth_steps=200, points=512, batch_size=2, features=FEATURES
    )


def test_synthetic_splits_have_other_streets(streets: SyntheticDataModule) -> None:
    first = [streets.source(split)[0].points for split in ("train", "val", "test")]
    assert not any(a.shape == b.shape and (a == b).all() for a, b in zip(first, first[1:] + first[:1], strict=True))


def test_synthetic_labels_are_known(streets: SyntheticDataModule) -> None:
    assert streets.summary("train").class_counts[1:].sum() > 0


def test_synthetic_batch_has_its_shape(streets: SyntheticDataModule) -> None:
    batch = streets.to_model_input(loaded(streets)[0])
    assert (batch.features.shape, batch.coords.shape, batch.labels.shape) == ((2, 512, 4), (2, 512, 3), (2, 512))


# ---- with a real Trainer ----------------------------------------------------------------------------------------


class Watch(pl.Callback):
    """Keeps what a model trained on, and may stop after some steps with a checkpoint."""

    def __init__(self, stop: int | None = None, path: Path | None = None) -> None:
        self.coords: list[Tensor] = []
        self.stop, self.path = stop, path

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        batch = args[2]
        assert isinstance(batch, Batch)
        self.coords.append(batch.coords)
        if self.stop is not None and trainer.global_step == self.stop:
            trainer.save_checkpoint(str(self.path))
            trainer.should_stop = True


def fit(tree: KittiTree, watch: Watch, epochs: int, resume: Path | None = None) -> SegmentationModule:
    torch.manual_seed(0)
    widths: dict[str, Any] = {"local_widths": (4,), "global_widths": (4,), "head_widths": (4,)}
    model = PointNetSeg(4, 19, input_transform=False, feature_transform=False, **widths)
    module = SegmentationModule(model, LabelMap.load("semantickitti"), FEATURES, total_steps=12, warmup_steps=2)
    trainer = pl.Trainer(
        max_epochs=epochs,
        min_epochs=0,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[watch],
    )
    data = kitti(tree, augmentation=Augmentation(), clouds_per_scan=2, seed=4)
    trainer.fit(module, data, ckpt_path=str(resume) if resume else None, weights_only=True)
    return module


@pytest.fixture(scope="module")
def uninterrupted(shared_tree: KittiTree) -> tuple[list[Tensor], SegmentationModule]:
    watch = Watch()
    module = fit(shared_tree, watch, epochs=2)
    return watch.coords, module


def test_trainer_sees_a_new_epoch_each_time(
    uninterrupted: tuple[list[Tensor], SegmentationModule], shared_tree: KittiTree
) -> None:
    data = kitti(shared_tree, augmentation=Augmentation(), clouds_per_scan=2, seed=4)
    expected = [data.to_model_input(batch).coords for epoch in (0, 1) for batch in loaded(data, epoch)]
    assert len(expected) == 12
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted[0], expected, strict=True))


@pytest.mark.parametrize("stop", [2, 6, 9])  # within the first epoch, at its end, within the second
def test_resumed_run_is_the_uninterrupted_one(
    uninterrupted: tuple[list[Tensor], SegmentationModule], shared_tree: KittiTree, tmp_path: Path, stop: int
) -> None:
    path = tmp_path / "stop.ckpt"
    before, after = Watch(stop, path), Watch()
    fit(shared_tree, before, epochs=2)
    resumed = fit(shared_tree, after, epochs=2, resume=path)
    coords, module = uninterrupted
    assert len(before.coords) == stop
    assert all(torch.equal(a, b) for a, b in zip(before.coords + after.coords, coords, strict=True))
    ours, theirs = resumed.model.state_dict(), module.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
