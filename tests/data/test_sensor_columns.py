"""A further column of a sensor, by its name from the file to the feature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import scan_points, small_model
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.data.augmentation import Augmentation
from pointseg.data.augmentation.pasting import InstancePaste
from pointseg.data.augmentation.polarmix import PolarMix
from pointseg.data.batches import Batch
from pointseg.data.datamodules import SemanticKITTIDataModule, SyntheticDataModule
from pointseg.data.features import FEATURES, FeatureSpec
from pointseg.data.formats import PointCloud
from pointseg.data.scan import Scan
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.store import PackSettings, pack
from pointseg.engine.bundle import TrainedModel, load, save_bundle
from pointseg.engine.evaluation import evaluate_model
from pointseg.engine.labelling import predict_cloud
from pointseg.engine.predictor import Predictor
from pointseg.engine.views import Views

if TYPE_CHECKING:
    from conftest import KittiTree

COLUMNS = ("x", "y", "z", "remission", "time", "ring")
RING = FeatureSpec(use=("x", "y", "z", "remission", "ring"), offset={"ring": 31.5}, scale={"ring": 16.0})


def ring_of(remission: Any) -> Any:
    """What the made-up sensor writes, so that a point that has got another's ring is seen."""
    return np.floor(np.asarray(remission) * 64)


def six_columns(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.column_stack([points, np.linspace(0, 0.1, len(points)), ring_of(points[:, 3])]).astype(np.float32)


@pytest.fixture
def root(tree: KittiTree) -> Path:
    """The tree, as a sensor with six columns writes it."""
    for name, points in tree.points.items():
        six_columns(points).tofile(tree.bin(name))
        labels = tree.labels[name]
        labels[:60] = 30 | (7 << 16)  # a person, to be pasted
        labels.tofile(tree.label(name))
    return tree.root


def data_of(root: Path, **settings: Any) -> SemanticKITTIDataModule:
    given = {"columns": COLUMNS, "features": RING, "points": 400, "batch_size": 3, **settings}
    return SemanticKITTIDataModule(root, split={"train": ["00"], "val": ["08"], "test": ["08"]}, **given)


def batches(data: ScanDataModule) -> list[Batch]:
    return [data.to_model_input(batch) for batch in data.train_dataloader()]


def rings(batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Remission and ring of all real points, back from the features."""
    real = slice(None) if batch.mask is None else batch.mask
    values = batch.features[real].reshape(-1, len(RING)).double()
    remission = values[:, 3] * RING.scale["remission"] + RING.offset["remission"]
    return remission.numpy(), (values[:, 4] * 16 + 31.5).numpy()


def same_point(batch: Batch) -> bool:
    remission, ring = rings(batch)
    inside = np.abs(remission * 64 - np.rint(remission * 64)) > 1e-3  # not at the edge of a ring
    return bool(np.allclose(ring[inside], ring_of(remission)[inside], atol=1e-3)) and inside.sum() > 100


# ---- the features ----------------------------------------------------------------------------------------------------


def test_a_column_is_normalised_like_a_feature() -> None:
    points = torch.from_numpy(six_columns(scan_points(50)))[:, [0, 1, 2, 3, 5]]
    features = RING(RING.measure(points))
    assert len(RING) == 5
    assert torch.equal(features[:, 4], (points[:, 4] - 31.5) / 16)
    plain = FeatureSpec(use=RING.use[:4])
    assert torch.equal(features[:, :4], plain(plain.measure(points[:, :4])))


def test_columns_stand_before_the_surroundings() -> None:
    given = {"ring": 1.0, "ambient": 1.0}
    spec = FeatureSpec(use=("ring", "height", "x", "ambient"), offset=given, scale=given, ground_cell=2.0)
    assert spec.extra == ("ring", "ambient")
    assert spec.measured == ("x", "y", "z", "remission", "ring", "ambient", "height")
    assert spec.metric_columns == [6]
    points = torch.rand(30, 6)
    measured = spec.measure(points)
    assert torch.equal(measured[:, :6], points)
    assert torch.equal(spec(measured)[:, 0], points[:, 4] - 1)


def test_settings_come_back() -> None:
    assert FeatureSpec(**RING.to_dict()) == RING


@pytest.mark.parametrize("given", [{}, {"offset": {"rnig": 0}}, {"scale": {"rnig": 1}}])
def test_a_name_without_normalisation_is_a_mistake(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"no feature 'rnig'.*features\.offset\.rnig=\.\.\. features\.scale\.rnig"):
        FeatureSpec(use=("x", "rnig"), **given)


def test_what_is_normalised_and_not_used_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no feature 'ring'"):
        FeatureSpec(use=("x",), offset={"ring": 0}, scale={"ring": 1})


def test_a_name_that_no_file_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the name of a column"):
        FeatureSpec(use=("a@b",), offset={"a@b": 0}, scale={"a@b": 1})


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", ["disk", "memory"])
def test_the_column_of_each_point_reaches_the_model(root: Path, residency: str) -> None:
    found = batches(data_of(root, residency=residency))
    assert all(map(same_point, found))
    assert len(np.unique(rings(found[0])[1])) > 30


def test_points_that_are_mixed_pasted_and_augmented_keep_theirs(root: Path) -> None:
    mixed = {"polarmix": PolarMix(swap=1.0, paste=1.0), "paste": InstancePaste(probability=1.0, rare=1.0)}
    found = batches(data_of(root, augmentation=Augmentation(yaw=180, scale=0.2, jitter=0.1, dropout=0.3), **mixed))
    assert all(map(same_point, found))
    assert found[0].mask is not None


def packed(root: Path, folder: Path, label_map: LabelMap, columns: Any = COLUMNS) -> Path:
    source = SemanticKITTIScans(root, None, columns=columns)
    pack(source, folder, label_map, PackSettings(features=RING if columns == COLUMNS else None), processes=1)
    return folder


def test_a_store_gives_the_same_batches(root: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    store = packed(root, tmp_path / "store", kitti_map)
    for raw, kept in zip(batches(data_of(root)), batches(data_of(store)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(raw[:3], kept[:3], strict=True))


def test_whole_scans_have_it(root: Path, tmp_path: Path, kitti_map: LabelMap, tree: KittiTree) -> None:
    expected = six_columns(tree.points["08/000000"])[:, [0, 1, 2, 3, 5]]
    scan = next(iter(data_of(root).val_dataloader()))
    assert np.array_equal(scan.points.numpy(), expected)
    kept = next(iter(data_of(packed(root, tmp_path / "store", kitti_map)).val_dataloader())).points.numpy()
    assert np.array_equal(np.sort(kept[:, 4]), np.sort(expected[:, 4]))


def test_scans_without_it_are_refused(root: Path, shared_tree: KittiTree, tmp_path: Path, kitti_map: LabelMap) -> None:
    message = r"no column ring among x, y, z, remission, and.*columns=\[x,y,z,remission,\.\.\.\]"
    store = packed(shared_tree.root, tmp_path / "store", kitti_map, COLUMNS[:4])
    for data, where in (
        (data_of(shared_tree.root, columns=COLUMNS[:4]), str(shared_tree.root)),
        (data_of(store), str(store)),
        (SyntheticDataModule({"train": 1}, features=RING), "SyntheticDataModule"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            data.source("train")
        assert str(caught.value.where) == where


def test_a_scan_says_which_column_it_lacks() -> None:
    scan = Scan(scan_points(3), None, "a.bin", extra=np.ones((3, 1), np.float32), extra_names=("time",))
    assert scan.with_columns(()) is scan.points
    with pytest.raises(DataError, match="no column ring among x, y, z, remission, time") as caught:
        scan.with_columns(["time", "ring"])
    assert caught.value.where == "a.bin"


# ---- prediction ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(kitti_map: LabelMap) -> TrainedModel:
    return TrainedModel(small_model(5), RING, kitti_map, {"points_per_pass": 700, "votes": 1, "remission_mean": 0.25})


SCAN = six_columns(scan_points(1500))
WANTED = np.ascontiguousarray(SCAN[:, [0, 1, 2, 3, 5]])


def test_the_column_decides(trained: TrainedModel) -> None:
    predictor = Predictor(trained)
    assert predictor.extra == ("ring",)
    other = WANTED.copy()
    other[:, 4] = 63 - other[:, 4]
    assert (predictor(WANTED) != predictor(other)).mean() > 0.1


def test_columns_may_be_named(trained: TrainedModel) -> None:
    predictor = Predictor(trained)
    order = ("ring", "z", "time", "x", "remission", "y")
    shuffled = SCAN[:, [COLUMNS.index(name) for name in order]]
    assert np.array_equal(predictor(shuffled, columns=order), predictor(WANTED))


def test_names_serve_models_without_further_columns() -> None:
    model = TrainedModel(small_model(4), FeatureSpec(use=RING.use[:4]), LabelMap.load("semantickitti"))
    predictor = Predictor(model)
    assert np.array_equal(predictor(SCAN, columns=COLUMNS), predictor(SCAN[:, :4]))
    with pytest.warns(UserWarning, match="no remission"):
        bare = predictor(SCAN[:, :3])
    with pytest.warns(UserWarning, match="no remission"):
        assert np.array_equal(predictor(SCAN[:, [2, 1, 0, 5]], columns=["z", "y", "x", "ring"]), bare)


@pytest.mark.parametrize(
    ("points", "columns", "message"),
    [
        (SCAN[:, :4], None, r"Give \(N, 5\): x, y, z, remission, ring, or name"),
        (SCAN, None, r"shape \(1500, 6\) is not a scan"),
        (SCAN[:, :4], COLUMNS[:4], "no column ring among x, y, z, remission"),
        (SCAN[:, 1:], COLUMNS[1:], "no column x among"),
        (SCAN, COLUMNS[:5], "does not have the columns"),
        (SCAN[:, :5], ("x", "y", "z", "ring", "ring"), "Name each of them once"),
    ],
)
def test_arrays_that_lack_a_column_are_refused(trained: TrainedModel, points: Any, columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Predictor(trained)(points, columns=columns)


def test_remission_may_be_missing(trained: TrainedModel) -> None:
    predictor, filled = Predictor(trained), WANTED.copy()
    filled[:, 3] = 0.25
    expected = predictor(filled)
    with pytest.warns(UserWarning, match="no remission"):
        assert np.array_equal(predictor(SCAN[:, [0, 1, 2, 5]], columns=["x", "y", "z", "ring"]), expected)
    cloud = PointCloud(WANTED[:, :3], extra=WANTED[:, 4:], extra_names=("ring",))
    found = predict_cloud(predictor, cloud)
    assert np.array_equal(found.raw_ids, expected)
    assert [note.kind for note in found.notes] == ["no remission"]


def test_views_leave_it_alone() -> None:
    view = Views(3, yaw_degrees=90).of(torch.from_numpy(WANTED), 1)
    assert not np.allclose(view[:, :2], WANTED[:, :2])
    assert np.array_equal(view[:, 3:], WANTED[:, 3:])


def test_a_point_whose_value_is_not_finite_gets_no_class(trained: TrainedModel) -> None:
    extra = WANTED[:, 4:].copy()
    extra[7] = np.nan
    found = predict_cloud(Predictor(trained), PointCloud(WANTED[:, :4], extra=extra, extra_names=("ring",)))
    assert found.raw_ids[7] == 0
    assert [note.kind for note in found.notes] == ["not finite"]


def test_a_bundle_keeps_it(trained: TrainedModel, tmp_path: Path) -> None:
    folder = save_bundle(tmp_path / "bundle", trained)
    assert load(folder).features == RING
    assert np.array_equal(Predictor.load(folder)(WANTED), Predictor(trained)(WANTED))


def test_scores_are_those_of_the_predictions(trained: TrainedModel, root: Path, kitti_map: LabelMap) -> None:
    source, predictor = SemanticKITTIScans(root, ["08"], columns=COLUMNS), Predictor(trained)
    found = evaluate_model(predictor, source)
    scan = source[0]
    expected = predictor.train_ids(scan.with_columns(["ring"]))
    assert np.array_equal(found.shown[0].prediction, expected)
    with pytest.raises(DataError, match="no column ring"):
        evaluate_model(predictor, SemanticKITTIScans(root, ["08"], columns=(*COLUMNS[:5], "other")))


def test_no_feature_is_taken_for_a_column() -> None:
    assert FeatureSpec(use=FEATURES).extra == ()
