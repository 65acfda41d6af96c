"""What a prediction costs: multiply-adds against arithmetic, time and memory that are there, a scan of the asked size."""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from my_networks import Pointwise
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pointseg.core.memory import peak_memory, restart_peak
from pointseg.data.features import FeatureSpec
from pointseg.engine.inference import cloud_logits, inference_settings
from pointseg.engine.prediction_cost import multiply_adds, prediction_cost, street_scan
from pointseg.models import FRNet, PointNetSeg, SegmentationModel, WaffleIron
from pointseg.models.pointnet import products
from pointseg.models.waffleiron.planes import PLANES, Voxels

FEATURES = FeatureSpec(use=("x", "y", "z", "remission", "range"))
F, K = len(FEATURES), 7


def chain(*widths: int) -> int:
    """Multiply-adds of the layers of a perceptron."""
    return sum(a * b for a, b in pairwise(widths))


def counted(model: SegmentationModel, points: int) -> int:
    return multiply_adds(model.eval(), FEATURES, street_scan(points, FEATURES))


def test_a_perceptron_is_counted_as_by_hand() -> None:
    assert counted(Pointwise(F, K, width=12), 1000) == 1000 * (F * 12 + 12 * K)


def test_what_makes_the_features_does_not_count() -> None:
    piecewise = FeatureSpec(use=("x", "y", "z"), knots=(-1.0, 0.0, 1.0))
    model = Pointwise(len(piecewise), K, width=12).eval()
    assert multiply_adds(model, piecewise, street_scan(1000, piecewise)) == 1000 * (len(piecewise) * 12 + 12 * K)


@pytest.mark.parametrize("by_onednn", [False, True])
def test_a_pointnet_is_counted_as_by_hand(by_onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter of torch does not know the product of oneDNN."""
    if by_onednn and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no such product")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: by_onednn)
    widths = {"local_widths": (8, 16), "global_widths": (24, 32), "head_widths": (20, 12)}
    model = PointNetSeg(F, K, **widths, input_transform=False, feature_transform=False)
    local, pooled, head = chain(F, 8, 16), chain(16, 24, 32), chain(16, 20, 12, K)
    passes, points = 3, 3 * 1024  # local features are computed twice, before the maximum and after it
    assert counted(model, points) == points * (2 * local + pooled + head) + passes * 32 * 20


def test_a_waffleiron_is_counted_as_by_hand() -> None:
    layers, channels, inner, neighbours = 4, 8, 6, 5
    model = WaffleIron(F, K, channels=channels, layers=layers, embedding_channels=inner, neighbours=neighbours)
    scan = street_scan(3000, FEATURES)
    extras = {
        name: values[None] for name, values in model.prepare(scan[:, :3], FEATURES(FEATURES.measure(scan))).items()
    }
    kept = Voxels(extras, len(scan), model.grid)
    voxels = len(kept.point_V)
    embedding = F * channels + neighbours * (F * inner + inner * inner) + (channels + inner) * channels
    cells = [math.prod(kept.plane(axes).shape) for axes in PLANES]
    planes = sum(2 * 9 * channels * cells[layer % 3] for layer in range(layers))
    expected = voxels * (embedding + layers * 2 * channels**2 + channels * K) + planes
    assert multiply_adds(model.eval(), FEATURES, scan) == expected


class Products(TorchFunctionMode):
    """Counts by the calls of linear layers and convolutions, which is another way than that of torch's counter."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is functional.linear:
            self.count += args[0].numel() * args[1].shape[0]
        elif func in (torch.conv2d, functional.conv2d):
            self.count += result.numel() * args[1][0].numel()
        return result


@pytest.mark.parametrize("fusion", [True, False])
def test_a_frnet_is_counted_as_by_its_calls(fusion: bool) -> None:
    sizes: dict[str, Any] = {"channels": 16, "blocks": (1, 1), "strides": (1, 2), "auxiliary": (), "width": 128}
    model = FRNet(F, K, **sizes, fusion=fusion).eval()
    scan = street_scan(2000, FEATURES)
    with torch.inference_mode(), Products() as calls:
        cloud_logits(model, FEATURES, scan, **inference_settings(model, "auto", "auto"))
    assert calls.count > 2000 * chain(F + 3, 64, 128, 256, 256)
    assert multiply_adds(model, FEATURES, scan) == calls.count


@pytest.mark.parametrize("points", [1, 300, 20_001])
def test_a_scan_has_as_many_points_as_asked(points: int) -> None:
    scan = street_scan(points, FeatureSpec(use=("x", "ring"), offset={"ring": 0.0}, scale={"ring": 1.0}))
    assert scan.shape == (points, 5)
    assert len(torch.unique(scan, dim=0)) == points
    assert points == 1 or float(scan[:, :3].norm(dim=1).median()) > 3


class Hungry(Pointwise):
    """Takes 200 MiB for a moment, of a whole scan only."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.shape[1] > 2000:
            torch.ones(200 << 18)
        return super().forward(features)


def test_time_and_memory_are_those_of_one_prediction() -> None:
    section = {"_target_": f"{__name__}.Hungry", "width": 8}
    threads = torch.get_num_threads()
    try:
        cost = prediction_cost(section, FEATURES, K, 5000, repeats=2, threads=1)
    finally:
        torch.set_num_threads(threads)
    assert cost.multiply_adds == 5000 * (F * 8 + 8 * K)
    assert 0 < cost.seconds < 60
    if sys.platform == "linux":
        assert cost.memory is not None
        assert 190 < cost.memory / 2**20 < 300


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process anew")
def test_a_peak_begins_anew() -> None:
    torch.ones(300 << 18)
    before = restart_peak()
    assert before is not None
    torch.ones(100 << 18)
    peak = peak_memory()
    assert peak is not None
    assert 90 < (peak - before) / 2**20 < 200
