"""The one inference path: every point once, the same answer every time, and refusals that say what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scan_points
from my_networks import Pillars, Pointwise, Shrunken
from numpy.typing import NDArray
from torch import Tensor

from pointseg.core.errors import ConfigError, DataError, OutOfMemory
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.inference import cloud_logits, inference_settings
from pointseg.engine.predictor import Predictor
from pointseg.engine.views import Views
from pointseg.models import PointNetSeg, SegmentationModel

Scan = NDArray[np.float32]


def predictor_of(trained: TrainedModel, **inference: Any) -> Predictor:
    kept = {"remission_mean": 0.25, **inference}
    return Predictor(TrainedModel(trained.model, trained.features, trained.label_map, kept))


class Spy(SegmentationModel):
    """Its one feature is x, where tests put a point's number; it keeps the clouds that it saw."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.in_features, self.num_classes = 1, num_classes
        self.hyperparameters = {}
        self.clouds: list[list[int]] = []

    def logits_and_penalty(
        self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        assert coords is not None
        assert torch.equal(coords[..., 0], features[..., 0])
        self.clouds += [cloud[:, 0].long().tolist() for cloud in features]
        logits = features.repeat(1, 1, self.num_classes) * torch.arange(1, self.num_classes + 1)
        return logits, features.new_zeros(())


NUMBER = FeatureSpec(use=("x",), offset={"x": 0}, scale={"x": 1})


def spied(count: int, points_per_pass: int | None, votes: int = 1) -> tuple[Spy, Tensor]:
    spy = Spy()
    points = torch.zeros(count, 4)
    points[:, 0] = torch.arange(count)
    logits = cloud_logits(spy, NUMBER, points, points_per_pass=points_per_pass, votes=votes)
    return spy, logits


def flat(clouds: Sequence[Sequence[int]]) -> list[int]:
    return [number for cloud in clouds for number in cloud]


SIZES = [(10, 3), (10, 5), (1000, 999), (1001, 100), (7, 1), (70_001, 4096)]


@pytest.mark.parametrize(("count", "largest"), SIZES)
def test_subsets_cover_every_point_once(count: int, largest: int) -> None:
    spy, _ = spied(count, largest)
    assert sorted(flat(spy.clouds)) == list(range(count))


@pytest.mark.parametrize(("count", "largest"), SIZES)
def test_subsets_differ_by_at_most_one_point(count: int, largest: int) -> None:
    sizes = [len(cloud) for cloud in spied(count, largest)[0].clouds]
    assert max(sizes) <= largest
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("count", "largest"), SIZES)
def test_no_more_subsets_than_needed(count: int, largest: int) -> None:
    assert len(spied(count, largest)[0].clouds) == -(-count // largest)


@pytest.mark.parametrize(("count", "largest"), SIZES)
def test_logits_come_back_in_order(count: int, largest: int) -> None:
    assert torch.equal(spied(count, largest)[1], torch.arange(count)[:, None] * torch.tensor([1.0, 2.0, 3.0]))


def test_votes_cover_the_scan_with_other_subsets() -> None:
    spy, _ = spied(100, 50, votes=2)
    assert sorted(flat(spy.clouds[2:])) == list(range(100))
    assert sorted(spy.clouds[0]) not in (sorted(spy.clouds[2]), sorted(spy.clouds[3]))


def test_votes_average_probabilities(trained: TrainedModel, scan: Scan) -> None:
    points = torch.from_numpy(scan)
    model, features = trained.model, trained.features
    measured = features.measure(points)

    def forward(features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        answer: Tensor = original(features, coords, mask)
        seen.append((features, answer))
        return answer

    seen: list[tuple[Tensor, Tensor]] = []
    original = model.forward
    model.forward = forward  # type: ignore[method-assign]
    with torch.inference_mode():
        averaged = cloud_logits(model, features, points, points_per_pass=700, votes=3)
        wanted = features(measured)[0]
    answers = [answer[row] for clouds, answers in seen for cloud, answer in zip(clouds, answers, strict=True)
               for row in torch.nonzero((cloud == wanted).all(dim=1))[:, 0]]  # fmt: skip
    assert len(answers) == 3
    expected = torch.stack([torch.softmax(answer, dim=0) for answer in answers]).mean(dim=0)
    assert torch.allclose(averaged[0].exp(), expected, atol=1e-6)


@pytest.mark.parametrize("points_per_pass", [None, 2000, 5000])
def test_scan_that_fits_is_predicted_whole(trained: TrainedModel, scan: Scan, points_per_pass: int | None) -> None:
    features = trained.features(trained.features.measure(torch.from_numpy(scan)))
    with torch.inference_mode():
        expected = trained.model(features[None])[0]
    assert torch.equal(predictor_of(trained, points_per_pass=points_per_pass).logits(scan), expected)


def test_passes_see_the_surroundings_of_the_whole_scan(scan: Scan) -> None:
    features = FeatureSpec(use=("count",), offset={"count": 0}, scale={"count": 1}, pillar_cells=(2.0,))
    seen: list[float] = []

    class Keep(Spy):
        def logits_and_penalty(self, features: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
            seen.extend(features.flatten().tolist())
            return features.repeat(1, 1, 3), features.new_zeros(())

    points = torch.from_numpy(scan)
    cloud_logits(Keep(), features, points, points_per_pass=300)
    assert sorted(seen) == sorted(features(features.measure(points)).flatten().tolist())


def test_order_of_points_does_not_matter(trained: TrainedModel, scan: Scan) -> None:
    predictor = predictor_of(trained, points_per_pass=None)
    order = np.random.default_rng(0).permutation(len(scan))
    assert np.array_equal(predictor(scan)[order], predictor(scan[order]))


def test_two_runs_are_bit_equal(trained: TrainedModel, scan: Scan) -> None:
    predictor = predictor_of(trained, points_per_pass=300, votes=2)
    assert torch.equal(predictor.logits(scan), predictor.logits(scan))


def test_prediction_does_not_depend_on_torchs_seed(trained: TrainedModel, scan: Scan) -> None:
    predictor, answers = predictor_of(trained, points_per_pass=300), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        answers.append(predictor.logits(scan))
    assert torch.equal(*answers)


def test_raw_ids_are_canonical_and_never_ignored(trained: TrainedModel, scan: Scan, kitti_map: LabelMap) -> None:
    canonical = {group[0] for group in kitti_map.classes}
    raw = predictor_of(trained)(scan)
    assert raw.dtype == np.uint32
    assert set(raw.tolist()) <= canonical


def test_raw_ids_are_those_of_the_training_ids(trained: TrainedModel, scan: Scan, kitti_map: LabelMap) -> None:
    predictor = predictor_of(trained)
    best = predictor.logits(scan).numpy().argmax(axis=1)
    assert predictor(scan).tolist() == [kitti_map.classes[k][0] for k in best]


def test_scan_without_remission_takes_the_mean(trained: TrainedModel, scan: Scan) -> None:
    predictor = predictor_of(trained, remission_mean=0.4)
    filled = np.column_stack([scan[:, :3], np.full(len(scan), 0.4, np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logits = predictor.logits(scan[:, :3])
    assert torch.equal(logits, predictor.logits(filled))


def test_scan_without_remission_warns(trained: TrainedModel, scan: Scan) -> None:
    with pytest.warns(UserWarning, match=r"no remission: the training mean 0\.250"):
        predictor_of(trained)(scan[:, :3])


def test_float64_points_are_taken(trained: TrainedModel, scan: Scan) -> None:
    predictor = predictor_of(trained)
    assert np.array_equal(predictor(scan.astype(np.float64)), predictor(scan))  # type: ignore[arg-type]


def test_input_is_left_as_it_was(trained: TrainedModel, scan: Scan) -> None:
    before = scan.copy()
    predictor_of(trained)(scan)
    assert np.array_equal(scan, before)


def test_one_point_is_predicted(trained: TrainedModel, scan: Scan) -> None:
    assert predictor_of(trained)(scan[:1]).shape == (1,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(trained: TrainedModel, scan: Scan, value: float) -> None:
    points = scan.copy()
    points[7, 1] = value
    with pytest.raises(DataError, match="NaN or infinite"):
        predictor_of(trained)(points)


@pytest.mark.parametrize("shape", [(0, 4), (5, 2), (5, 5), (4,), (2, 5, 4)])
def test_array_of_another_shape_is_refused(trained: TrainedModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="is not a scan"):
        predictor_of(trained)(np.zeros(shape, np.float32))


@pytest.mark.parametrize(("points_per_pass", "votes", "key"), [(0, 1, "points_per_pass"), (None, 0, "votes")])
def test_bad_setting_names_its_key(points_per_pass: int | None, votes: int, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"inference\.{key}"):
        inference_settings(Spy(), points_per_pass, votes)


# ---- several clouds at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("points_per_pass", [None, 300])
def test_many_clouds_are_predicted_as_one_by_one(trained: TrainedModel, points_per_pass: int | None) -> None:
    predictor = predictor_of(trained, points_per_pass=points_per_pass)
    clouds = [scan_points(count, seed=count) for count in (1, 2, 299, 900, 300, 17)]
    clouds[4] = clouds[4][:, :3]
    for together, alone in zip(
        predictor.predict_many(clouds, probabilities=True),
        [predictor.predict(cloud, probabilities=True) for cloud in clouds],
        strict=True,
    ):
        assert np.array_equal(together.raw_ids, alone.raw_ids)
        assert together.probabilities is not None
        assert alone.probabilities is not None
        np.testing.assert_allclose(together.probabilities, alone.probabilities, atol=1e-6)
        assert together.notes == alone.notes


def test_several_views_of_many_clouds(trained: TrainedModel) -> None:
    predictor = Predictor(trained, views=Views(count=2))
    clouds = [scan_points(count, seed=count) for count in (100, 200)]
    expected = [predictor(cloud) for cloud in clouds]
    assert all(map(np.array_equal, [found.raw_ids for found in predictor.predict_many(clouds)], expected))


def test_small_clouds_share_a_pass() -> None:
    spy = Spy(19)
    predictor = Predictor(TrainedModel(spy, NUMBER, LabelMap.load("semantickitti"), {"points_per_pass": 10}))
    clouds = [np.full((count, 4), count, np.float32) for count in (3, 5, 30)]
    predictor.predict_many(clouds)
    assert sorted(map(len, spy.clouds)) == [5, 5, 10, 10, 10]  # the cloud of 3 is padded to the other's 5


def test_a_bad_cloud_among_many_is_refused(trained: TrainedModel) -> None:
    with pytest.raises(DataError, match="NaN"):
        Predictor(trained).predict_many([scan_points(50), np.full((5, 4), np.nan, np.float32)])


def test_notes_are_given_and_no_warning(trained: TrainedModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = Predictor(trained).predict(scan_points(200)[:, :3]).notes
    assert [note.kind for note in notes][:1] == ["no remission"]


def test_a_warning_names_the_line_that_calls(trained: TrainedModel) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Predictor(trained)(scan_points(200)[:, :3])
        Predictor(trained).train_ids(scan_points(200)[:, :3])
    assert {warning.filename for warning in caught} == {__file__}


class Greedy(Spy):
    """Wants more memory than there is."""

    def logits_and_penalty(
        self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return torch.empty(1 << 60), features.new_zeros(())


@pytest.mark.parametrize("points_per_pass", [None, 10])
def test_memory_that_is_not_there_is_said_on_the_cpu_too(kitti_map: LabelMap, points_per_pass: int | None) -> None:
    """torch has no kind of error for it there."""
    model = Greedy(kitti_map.num_classes)
    predictor = Predictor(TrainedModel(model, NUMBER, kitti_map, {"points_per_pass": points_per_pass}))
    for probabilities in (False, True):
        with pytest.raises(OutOfMemory, match="30 points"):
            predictor.predict(scan_points(30), probabilities=probabilities)


def test_other_errors_of_a_model_are_left_as_they_are(trained: TrainedModel, scan: Scan) -> None:
    predictor = Predictor(trained)
    predictor.model.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("shapes do not fit"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        predictor.predict(scan)


# ---- how a model wants to be used ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (PointNetSeg(), {"points_per_pass": 1024, "votes": 1}),
        (Pointwise(4, 3), {"points_per_pass": None, "votes": 1}),
        (Shrunken(4, 3), {"points_per_pass": 300, "votes": 2}),
    ],
)
def test_auto_is_what_the_model_says(model: SegmentationModel, expected: dict[str, Any]) -> None:
    assert inference_settings(model, "auto", "auto") == expected
    assert inference_settings(model, 77, "auto") == {**expected, "points_per_pass": 77}
    assert inference_settings(model, None, 5) == {"points_per_pass": None, "votes": 5}


@pytest.mark.parametrize(
    ("settings", "key"), [(("many", 1), "points_per_pass"), ((None, "many"), "votes"), ((1, None), "votes")]
)
def test_another_word_than_auto_is_refused(settings: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"inference\.{key}.*Give one, or auto"):
        inference_settings(Pointwise(4, 3), *settings)


# ---- what a model prepares -------------------------------------------------------------------------------------------


def pillars_of(trained: TrainedModel, **inference: Any) -> Predictor:
    torch.manual_seed(0)
    model = Pillars(len(trained.features), trained.label_map.num_classes, edge=4.0)
    return Predictor(TrainedModel(model, trained.features, trained.label_map, {"remission_mean": 0.25, **inference}))


def alone(predictor: Predictor, measured_NM: Tensor) -> Tensor:
    features_NF = predictor.trained.features(measured_NM)
    extras = {name: tensor[None] for name, tensor in predictor.model.prepare(measured_NM[:, :3], features_NF).items()}
    with torch.inference_mode():
        return predictor.model(features_NF[None], extras=extras)[0]


def test_a_whole_scan_is_prepared(trained: TrainedModel, scan: Scan) -> None:
    predictor = pillars_of(trained)
    assert torch.equal(predictor.logits(scan), alone(predictor, trained.features.measure(torch.from_numpy(scan))))


def test_each_subset_is_prepared_by_itself(trained: TrainedModel, scan: Scan) -> None:
    seen: list[int] = []

    class Counted(Pillars):
        def prepare(self, coords: Tensor, features: Tensor) -> Any:
            seen.append(len(coords))
            return super().prepare(coords, features)

    model = Counted(len(trained.features), trained.label_map.num_classes)
    predictor = Predictor(TrainedModel(model, trained.features, trained.label_map, {"points_per_pass": 300}))
    assert predictor(scan).shape == (2000,)
    assert sorted(seen) == [285, 285, 286, 286, 286, 286, 286]


def test_scans_of_different_sizes_in_a_batch_change_nothing(trained: TrainedModel, scan: Scan) -> None:
    predictor = pillars_of(trained)
    clouds = [scan[:700], scan[700:710], scan]
    together = predictor.predict_many(clouds, probabilities=True)
    for one, cloud in zip(together, clouds, strict=True):
        expected = predictor.predict(cloud, probabilities=True)
        assert np.array_equal(one.raw_ids, expected.raw_ids)
        assert one.probabilities is not None and expected.probabilities is not None
        np.testing.assert_allclose(one.probabilities, expected.probabilities, atol=1e-6)


def test_each_view_is_prepared_by_itself(trained: TrainedModel, scan: Scan) -> None:
    one = pillars_of(trained)
    views = Views(3, yaw_degrees=90)
    several = Predictor(one.trained, views=views)
    points = torch.from_numpy(scan)
    chances = [alone(one, trained.features.measure(views.of(points, n))).softmax(dim=1) for n in range(3)]
    assert torch.allclose(several.logits(scan).exp(), torch.stack(chances).mean(dim=0), atol=1e-5)


def test_what_was_prepared_in_advance_is_used(trained: TrainedModel, scan: Scan) -> None:
    predictor, points = pillars_of(trained), torch.from_numpy(scan)
    features = trained.features
    extras = dict(predictor.model.prepare(points[:, :3], features(features.measure(points))))
    expected = predictor.logits(scan)
    predictor.model.prepare = None  # type: ignore[assignment]
    with torch.inference_mode():
        assert torch.equal(cloud_logits(predictor.model, features, points, extras=extras), expected)
