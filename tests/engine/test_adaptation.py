"""BatchNorm's statistics from unlabelled scans: what they are, what stays, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scan_points, small_model
from my_networks import Pointwise
from numpy.typing import NDArray
from verbs import run, succeed

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine import bundle
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.predictor import Predictor
from pointseg.models import FRNet, SegmentationModel, WaffleIron

Scan = NDArray[np.float32]
USE = ("x", "y", "z", "remission", "range")
FAMILIES = ("pointnet", "frnet", "waffleiron")


def other_scans(count: int = 3) -> list[Scan]:
    """Brighter and wider scans than those of training."""
    scans = [scan_points(900 + 50 * number, seed=20 + number) for number in range(count)]
    for points in scans:
        points[:, :2] *= 1.5
        points[:, 3] = np.clip(points[:, 3] * 2, 0, 1)
    return scans


def family(name: str) -> SegmentationModel:
    torch.manual_seed(3)
    if name == "frnet":
        return FRNet(5, 19, height=16, width=64, channels=16, blocks=(1, 1), strides=(1, 2), auxiliary=(),
                     point_widths=(8, 8, 16, 16), image_channels=8, fused_widths=(16, 16)).eval()  # fmt: skip
    if name == "waffleiron":
        return WaffleIron(5, 19, channels=8, layers=2).eval()
    return small_model(5)


def predictor_of(name: str, kitti_map: LabelMap) -> Predictor:
    return Predictor(TrainedModel(family(name), FeatureSpec(use=USE), kitti_map, {"remission_mean": 0.25}))


def test_the_statistics_are_those_of_the_scans(kitti_map: LabelMap) -> None:
    predictor, scans = predictor_of("frnet", kitti_map), other_scans()
    adapted = predictor.adapted(scans, share=1.0)
    spec, norm = predictor.trained.features, adapted.model.encoder.norm
    means, variances = [], []
    for points in scans:  # the first norm sees the features themselves
        measured = spec.measure(torch.from_numpy(points))[None]
        features = spec(measured)[0].double().numpy()
        means.append(features.mean(axis=0))
        variances.append(features.var(axis=0, ddof=1))
    assert np.allclose(norm.running_mean[:5], np.mean(means, axis=0), atol=1e-5)
    assert np.allclose(norm.running_var[:5], np.mean(variances, axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_share_mixes_both_as_one_population(kitti_map: LabelMap, share: float) -> None:
    predictor, scans = predictor_of("pointnet", kitti_map), other_scans()
    name = "local_mlp.1"  # the first BatchNorm
    old, new = (p.model.get_submodule(name) for p in (predictor, predictor.adapted(scans, share=1.0)))
    mixed = predictor.adapted(scans, share).model.get_submodule(name)
    random = np.random.default_rng(0)
    draws = [random.standard_normal((200_000, 1)) * v.double().sqrt().numpy() + m.double().numpy()
             for m, v in ((old.running_mean, old.running_var), (new.running_mean, new.running_var))]  # fmt: skip
    both = np.concatenate([draws[0][: round(200_000 * (1 - share))], draws[1][: round(200_000 * share)]])
    assert np.allclose(mixed.running_mean, both.mean(axis=0), atol=0.02 * both.std())
    assert np.allclose(mixed.running_var, both.var(axis=0), rtol=0.03)


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_statistics_change_and_only_in_the_copy(name: str, kitti_map: LabelMap) -> None:
    predictor, scans = predictor_of(name, kitti_map), other_scans()
    before = copy.deepcopy(predictor.model.state_dict())
    labels = predictor(scans[0])
    adapted = predictor.adapted(scans)
    after = adapted.model.state_dict()
    changed = {key.rsplit(".", 1)[1] for key in before if not torch.equal(before[key], after[key])}
    assert {"running_mean", "running_var"} <= changed <= {"running_mean", "running_var", "num_batches_tracked"}
    assert all(torch.equal(before[key], value) for key, value in predictor.model.state_dict().items())
    assert np.array_equal(labels, predictor(scans[0]))
    assert not adapted.model.training
    assert not torch.equal(adapted.logits(scans[0]), predictor.logits(scans[0]))
    assert adapted.trained.provenance["adapted"] == {"scans": 3, "share": 0.5}


def test_the_same_scans_give_the_same_model(kitti_map: LabelMap) -> None:
    predictor, scans = predictor_of("frnet", kitti_map), other_scans()
    assert torch.equal(predictor.adapted(scans).logits(scans[0]), predictor.adapted(scans).logits(scans[0]))


def test_no_scan_and_a_share_beyond_1_are_refused(kitti_map: LabelMap) -> None:
    predictor = predictor_of("pointnet", kitti_map)
    with pytest.raises(ConfigError, match="no scan to adapt to"):
        predictor.adapted([])
    with pytest.raises(ConfigError, match="adapt_share"):
        predictor.adapted(other_scans(1), share=1.5)


def test_a_model_without_batchnorm_is_refused(kitti_map: LabelMap) -> None:
    model = Pointwise(in_features=5, num_classes=19).eval()
    predictor = Predictor(TrainedModel(model, FeatureSpec(use=USE), kitti_map, {}))
    with pytest.raises(ConfigError, match="no BatchNorm"):
        predictor.adapted(other_scans(1))


def test_predict_and_an_exported_bundle_give_the_same_labels(tmp_path: Path) -> None:
    scans = other_scans()
    (tmp_path / "scans").mkdir()
    for number, points in enumerate(scans):
        points.tofile(tmp_path / f"scans/{number}.bin")
    (tmp_path / "scans/broken.bin").write_bytes(b"123")
    done = run("predict", "input=scans", "output=a", "adapt=scans", cwd=tmp_path)
    assert done.code == 2  # of the broken cloud
    assert "Adapted to 3 clouds of scans" in done.out
    assert "Not adapted to scans/broken.bin" in done.out + done.err
    succeed(run("export", "checkpoint=street", "format=bundle", "adapt=scans", "output=b", cwd=tmp_path))
    assert bundle.load(tmp_path / "b/bundle").provenance["adapted"] == {"scans": 3, "share": 0.5}
    assert run("predict", "checkpoint=b/bundle", "input=scans", "output=c", cwd=tmp_path).code == 2
    plain = Predictor.load("street")
    for number, points in enumerate(scans):
        labels = np.fromfile(tmp_path / f"a/{number}.label", "<u4")
        assert np.array_equal(labels, np.fromfile(tmp_path / f"c/{number}.label", "<u4"))
        assert np.array_equal(labels, plain.adapted(scans)(points))
    again = run("predict", "input=scans", "output=a", cwd=tmp_path)
    assert "another model" in again.err  # not adapted: the folder's labels are not its own


def test_refused_before_the_clouds_are_read(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    other_scans(1)[0].tofile(tmp_path / "scans/0.bin")
    for word, said in (
        ("adapt_share=2", "adapt_share"),
        ("adapt_scans=0", "adapt_scans"),
        ("adapt=nowhere", "adapt=nowhere"),
    ):
        words = ["input=scans", "output=o", *([word] if word.startswith("adapt=") else ["adapt=scans", word])]
        done = run("predict", *words, cwd=tmp_path)
        assert done.code == 1
        assert said in done.err
