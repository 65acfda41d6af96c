"""What a model prepares of clouds: made in the loading processes, of the points that the model sees, whatever is around them."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from my_networks import Pillars
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.data.augmentation import Augmentation
from pointseg.data.augmentation.polarmix import PolarMix
from pointseg.data.batches import Batch, Cloud
from pointseg.data.datamodules import SemanticKITTIDataModule
from pointseg.data.extras import extras_of_batch, stacked
from pointseg.data.features import FeatureSpec
from pointseg.data.sampling import Sampling

if TYPE_CHECKING:
    from conftest import KittiTree

FEATURES = FeatureSpec(use=("x", "y", "z", "height"))
MODEL = Pillars(4, 19, edge=4.0)


def data_of(tree: KittiTree, **settings: Any) -> SemanticKITTIDataModule:
    split = {"train": ["00", "08"], "val": ["08"], "test": ["00"]}
    data = SemanticKITTIDataModule(
        tree.root, split=split, features=FEATURES, **{"points": 500, "batch_size": 2, **settings}
    )
    data.prepare_with(MODEL.preparation(), scans=True)
    return data


def batches(data: SemanticKITTIDataModule, epoch: int = 0) -> list[Batch]:
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return list(loader)


def extras_of(batch: Batch | Cloud) -> dict[str, Tensor]:
    assert batch.extras is not None
    return {name: tensor for name, tensor in batch.extras.items() if name != "pid"}


def same(one: Batch, other: Batch) -> bool:
    pairs = [*zip(one[:5], other[:5], strict=True), *((t, extras_of(other)[n]) for n, t in extras_of(one).items())]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


# ---- put together ----------------------------------------------------------------------------------------------------


def test_values_of_points_are_padded() -> None:
    batch = stacked([{"a": torch.ones(2, 3), "b": torch.tensor(5)}, {"a": torch.ones(4, 3), "b": torch.tensor(6)}])
    assert batch["a"].sum(dim=(1, 2)).tolist() == [6, 12]
    assert not batch["a"][0, 2:].any()
    assert batch["b"].tolist() == [5, 6]


@pytest.mark.parametrize(
    "other", [{"b": torch.ones(2)}, {"a": torch.ones(2, 4)}, {"a": torch.ones(2, 3), "b": torch.ones(1)}]
)
def test_clouds_that_do_not_fit_together_are_refused(other: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"the model prepares '[ab]' of shapes"):
        stacked([{"a": torch.ones(2, 3)}, other])


def test_only_real_points_are_prepared() -> None:
    seen: list[int] = []

    def prepare(coords: Tensor, features: Tensor) -> Any:
        seen.append(len(coords))
        return {"twice": np.array(coords[:, 0]) * 2, "count": len(coords)}

    coords = torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    extras = extras_of_batch(prepare, coords, coords, mask)
    assert seen == [3, 1]
    assert extras["twice"].tolist() == [[0, 6, 12], [24, 0, 0]]
    assert extras["count"].tolist() == [3, 1]


def test_a_batch_is_split_with_its_extras(shared_tree: KittiTree) -> None:
    batch = batches(data_of(shared_tree, batch_size=5))[0]
    parts = batch.split(2)
    assert [len(part.labels) for part in parts] == [3, 2]
    joined = {name: torch.cat([extras_of(part)[name] for part in parts]) for name in extras_of(batch)}
    assert all(torch.equal(joined[name], tensor) for name, tensor in extras_of(batch).items())


# ---- from the loading processes --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_extras_come_from_the_loading_processes_and_do_not_depend_on_them(shared_tree: KittiTree) -> None:
    augmentation = Augmentation(yaw=90, dropout=0.5, scale=0.2)
    settings: dict[str, Any] = {
        "augmentation": augmentation,
        "polarmix": PolarMix(swap=0.5),
        "sampling": Sampling("nearest"),
    }
    alone, shared = (batches(data_of(shared_tree, num_workers=n, **settings), epoch=1) for n in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    here, there = ({int(pid) for batch in found for pid in batch.extras["pid"]} for found in (alone, shared))  # type: ignore[index]
    assert here == {os.getpid()}
    assert len(there) == 2 and os.getpid() not in there


def test_clouds_are_prepared_as_the_model_sees_them(shared_tree: KittiTree) -> None:
    data = data_of(shared_tree, augmentation=Augmentation(yaw=180, dropout=0.6))
    for batch in batches(data):
        assert batch.mask is not None
        for cloud, real in enumerate(batch.mask):
            assert real.tolist() == sorted(real.tolist(), reverse=True)
            expected = MODEL.prepare(batch.coords[cloud][real], batch.features[cloud][real])
            for name in ("pillar", "counts"):
                found = batch.extras[name][cloud]  # type: ignore[index]
                assert torch.equal(found[: len(expected[name])], expected[name])
                assert not found[len(expected[name]) :].any()


@pytest.mark.parametrize("augmentation", [None, Augmentation(yaw=90, jitter=0.1)])
def test_the_model_sees_the_same_points_as_without(shared_tree: KittiTree, augmentation: Augmentation | None) -> None:
    data, plain = data_of(shared_tree, augmentation=augmentation), data_of(shared_tree, augmentation=augmentation)
    plain.prepare_with(None)
    for one, other in zip(batches(data), map(plain.to_model_input, batches(plain)), strict=True):  # type: ignore[arg-type]
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
        assert other.extras is None
        assert data.to_model_input(one) is one


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_whole_scans_are_prepared_as_well(shared_tree: KittiTree, workers: int) -> None:
    for scan in data_of(shared_tree, num_workers=workers).val_dataloader():
        features = FEATURES(FEATURES.measure(scan.points))
        expected = MODEL.prepare(scan.points[:, :3], features)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in extras_of(scan).items())
        assert (int(scan.extras["pid"]) == os.getpid()) == (workers == 0)


def test_scans_that_go_through_in_subsets_are_not(shared_tree: KittiTree) -> None:
    data = data_of(shared_tree)
    data.prepare_with(MODEL.preparation(), scans=False)
    assert next(iter(data.val_dataloader())).extras is None


def test_clouds_stay_in_memory_that_the_loading_processes_have(shared_tree: KittiTree) -> None:
    data = data_of(shared_tree, residency="device")
    data.place(torch.device("meta"))  # a device that nobody can compute on
    assert data.table()[0].device.type == "cpu"


def test_what_makes_them_can_be_sent_to_another_process(shared_tree: KittiTree) -> None:
    loader = data_of(shared_tree).train_dataloader()
    draws = next(iter(loader.batch_sampler or ()))
    sent = pickle.loads(pickle.dumps(loader.dataset))
    assert same(sent.__getitems__(draws), loader.dataset.__getitems__(draws))  # type: ignore[attr-defined]
