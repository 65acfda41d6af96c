"""The ONNX graph computes what the plain PointNet computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pointseg.engine.onnx_model import OnnxModel
from pointseg.exporting.int8 import quantize
from pointseg.exporting.onnx_file import build_graph
from pointseg.models import PointNetSeg

NARROW: dict[str, Any] = {"local_widths": (8, 8), "global_widths": (8, 16), "head_widths": (16, 8)}
MODELS: dict[str, dict[str, Any]] = {
    "narrow": {"input_transform": False, "feature_transform": False},
    "input_transform": {"input_transform": True, "feature_transform": False},
    "feature_transform": {"input_transform": False, "feature_transform": True},
    "both": {"input_transform": True, "feature_transform": True},
    "only_xyz": {"in_features": 3, "input_transform": True, "feature_transform": True},
    "shallow": {"local_widths": (5,), "global_widths": (7,), "head_widths": (6,), "input_transform": False},
    "deep": {"local_widths": (4, 8, 8), "global_widths": (8, 16, 32), "head_widths": (32, 16, 8)},
}


def plain_model(name: str) -> PointNetSeg:
    """A PointNet whose statistics and matrices are not those it begins with."""
    torch.manual_seed(0)
    model = PointNetSeg(**{"in_features": 5, "num_classes": 7, "implementation": "plain", **NARROW, **MODELS[name]})
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 64, model.in_features) * 2 + 1)
        for net in (model.input_transform, model.feature_transform):
            if net is not None:
                net.matrix.weight.normal_(0, 0.05)
    return model.eval()


def exported(model: PointNetSeg) -> OnnxModel:
    graph = build_graph(model)
    onnx.checker.check_model(graph, full_check=True)
    return OnnxModel(graph.SerializeToString(), threads=1)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_computes_what_the_plain_model_does(name: str) -> None:
    model = plain_model(name)
    runs = exported(model)
    for clouds, points in ((1, 1), (1, 17), (1, 500), (2, 1), (2, 17), (2, 500)):
        features = torch.randn(clouds, points, model.in_features) * 2 + 1
        assert torch.allclose(runs(features), model(features), atol=1e-5, rtol=1e-5), (clouds, points)


@torch.no_grad()
def test_clouds_of_a_batch_do_not_touch_each_other() -> None:
    runs = exported(plain_model("both"))
    features = torch.randn(3, 40, 5)
    other = features.clone()
    other[1:] = 100.0
    assert torch.allclose(runs(features)[0], runs(other)[0], atol=1e-6)
    assert torch.allclose(runs(features)[:1], runs(features[:1]), atol=1e-6)


@torch.no_grad()
def test_padded_points_get_zeros_and_change_nothing() -> None:
    model = plain_model("both")
    runs = exported(model)
    features, mask = torch.randn(3, 20, 5), torch.ones(3, 20, dtype=torch.bool)
    mask[0, 12:], mask[1] = False, False
    assert torch.allclose(runs(features, mask=mask), model(features, mask=mask), atol=1e-5)
    assert not runs(features, mask=mask)[~mask].any()


@torch.no_grad()
def test_order_of_points_goes_through() -> None:
    runs = exported(plain_model("both"))
    features, order = torch.randn(1, 50, 5), torch.randperm(50)
    assert torch.allclose(runs(features)[:, order], runs(features[:, order]), atol=1e-5)


def test_metadata_is_kept_and_sizes_are_dynamic() -> None:
    graph = build_graph(plain_model("narrow"), {"pointseg.x": "[1]"})
    assert OnnxModel(graph.SerializeToString()).metadata == {"pointseg.x": [1]}
    given, got = graph.graph.input[0].type.tensor_type.shape.dim, graph.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in given] == ["clouds", "points", 5]
    assert [d.dim_param or d.dim_value for d in got] == ["clouds", "points", 7]
    assert np.isfinite(graph.ByteSize())


@torch.no_grad()
@pytest.mark.parametrize("name", ["narrow", "both"])
def test_8_bits_are_near_and_spare_the_first_and_last_layer(name: str, tmp_path: Path) -> None:
    model = plain_model(name)
    graph = build_graph(model, {"pointseg.x": "[1]"})
    onnx.save(graph, tmp_path / "float.onnx")
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", model.float32_nodes)
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("MatMulInteger") >= 4
    inputs = {name for node in nodes for name in node.input}
    last = f"head.{len(model.hyperparameters['head_widths']) - 1}"
    assert {"local.0.weight", f"{last}.weight"} <= inputs  # as they were
    assert "local.1.weight" not in inputs
    runs = OnnxModel(tmp_path / "int8.onnx")
    assert runs.metadata == {"pointseg.x": [1]}
    features = torch.randn(2, 200, 5) * 2 + 1
    expected = model(features)
    assert float((runs(features) - expected).abs().max()) < 0.1 * float(expected.abs().max())
