"""Views: what they do to a scan, and that averaging them is the mean of probabilities."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.predictor import Predictor
from pointseg.engine.views import Views
from pointseg.models import PointNetSeg

SCAN = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 20)


def test_first_view_is_the_scan() -> None:
    assert torch.equal(Views(8).of(SCAN, 0), SCAN)


@pytest.mark.parametrize("number", range(1, 9))
def test_view_is_a_similarity_about_the_vertical_axis(number: int) -> None:
    views = Views(9, yaw_degrees=30.0, scale=0.1)
    seen = views.of(SCAN, number).double()
    scan = SCAN.double()
    assert torch.equal(seen[:, 3], scan[:, 3])
    scale = seen[:, 2] / scan[:, 2]
    assert float(scale.std()) < 1e-5
    assert 0.9 <= float(scale.mean()) <= 1.1
    # fit the plane's map: orthogonal up to the scale, mirrored for odd numbers, turned by no more than asked
    plane = torch.linalg.lstsq(scan[:, :2], seen[:, :2]).solution / scale.mean()
    assert torch.allclose(plane @ plane.T, torch.eye(2, dtype=torch.float64), atol=1e-5)
    assert float(torch.linalg.det(plane)) == pytest.approx(-1.0 if number % 2 else 1.0, abs=1e-5)
    assert abs(math.degrees(math.atan2(plane[0, 1], plane[0, 0]))) <= 30.0


def test_probabilities_are_the_mean_over_views() -> None:
    """Against predictions of the transformed scans one by one; labels are those of the largest mean."""
    trained = trained_model()
    views = Views(5)
    predictor = Predictor(trained, views=views)
    single = Predictor(trained)
    scan = SCAN.numpy() % np.array([60, 60, 4, 1], np.float32)
    each = [single(views.of(torch.from_numpy(scan), n).numpy(), probabilities=True)[1] for n in range(5)]
    raw_ids, probabilities = predictor(scan, probabilities=True)
    assert np.allclose(probabilities, np.mean(each, axis=0), atol=1e-5)
    assert np.array_equal(raw_ids, trained.label_map.to_raw(probabilities.argmax(axis=1) + 1))
    assert np.array_equal(raw_ids, predictor(scan))
    assert not np.allclose(probabilities, each[0], atol=1e-4)  # the views do change something


def trained_model() -> TrainedModel:
    """A small network with random weights."""
    torch.manual_seed(0)
    features, label_map = FeatureSpec(), LabelMap.load("semantickitti")
    model = PointNetSeg(
        len(features),
        label_map.num_classes,
        local_widths=(16,),
        global_widths=(32,),
        head_widths=(32,),
        input_transform=False,
        feature_transform=False,
    )
    return TrainedModel(model, features, label_map, {"points_per_pass": 64, "votes": 1})


def test_views_spread_over_the_range() -> None:
    views = Views(65, yaw_degrees=10.0, scale=0.0, flip=False)
    east = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    angles = sorted(math.degrees(math.atan2(v[0, 1], v[0, 0])) for v in (views.of(east, n) for n in range(1, 65)))
    assert max(b - a for a, b in pairwise(angles)) < 1.0
    assert angles[0] < -9.0
    assert angles[-1] > 9.0


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"count": 0}, "count"), ({"yaw_degrees": -1.0}, "yaw_degrees"), ({"scale": 1.0}, "scale")],
)
def test_refusals_name_the_key(settings: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        Views(**settings)  # type: ignore[arg-type]
