"""The ONNX graphs of FRNet and WaffleIron compute what the models do, from inputs that are found outside of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from pointseg.core.errors import CheckpointError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.onnx_model import ARCHITECTURE, OnnxModel
from pointseg.engine.predictor import Predictor
from pointseg.exporting.int8 import quantize
from pointseg.exporting.onnx_file import build_graph, export_onnx
from pointseg.exporting.triton import export_triton
from pointseg.models import FRNet, SegmentationModel, WaffleIron

FRNETS: dict[str, dict[str, Any]] = {
    "published form": {"fuse_kernel": 3, "act": "hardswish", "fusion": True},
    "small form": {"fuse_kernel": 1, "act": "relu", "fusion": False},
    "beams": {"beams": [2.0, 0.0, -3.0, -9.0, -20.0], "width": 37, "height": 10},
}
WAFFLEIRONS: dict[str, dict[str, Any]] = {
    "published form": {},
    "layer norm, GELU, MLP": {"norm": "layer", "activation": "gelu", "head": "mlp"},
    "narrow branch": {"embedding_channels": 5, "neighbours": 3},
}
SIZES = (1, 2, 17, 600)


def frnet(**settings: Any) -> FRNet:
    small: dict[str, Any] = {"height": 16, "width": 40, "point_widths": (8, 12, 16), "channels": 8, "image_channels": 5}
    return FRNet(
        4, 7, **{**small, "blocks": (1, 2), "strides": (1, 2), "fused_widths": (12, 6), "auxiliary": (0,), **settings}
    )


def waffleiron(**settings: Any) -> WaffleIron:
    small: dict[str, Any] = {"channels": 8, "layers": 4, "voxel": 0.5, "grid": (40, 30, 5), "neighbours": 6}
    return WaffleIron(4, 7, **{**small, **settings})


def trained(model: SegmentationModel) -> SegmentationModel:
    """With statistics that are not those it begins with."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def cloud(points: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(points)
    coords = torch.randn(1, points, 3) * torch.tensor([15.0, 15.0, 1.0])
    coords[:, points // 2] = 0.0  # the sensor itself, which has no direction
    return torch.randn(1, points, 4), coords


def graph_of(model: SegmentationModel) -> OnnxModel:
    graph = build_graph(model)
    onnx.checker.check_model(graph, full_check=True)
    return OnnxModel(graph.SerializeToString(), threads=2)


MODELS = [(frnet, settings) for settings in FRNETS.values()] + [(waffleiron, s) for s in WAFFLEIRONS.values()]
NAMES = [f"FRNet, {name}" for name in FRNETS] + [f"WaffleIron, {name}" for name in WAFFLEIRONS]


@torch.no_grad()
@pytest.mark.parametrize(("make", "settings"), MODELS, ids=NAMES)
def test_the_graph_computes_what_the_model_does(make: Any, settings: dict[str, Any]) -> None:
    model = trained(make(**settings))
    runs = graph_of(model)
    for points in SIZES:
        features, coords = cloud(points)
        expected = model(features, coords=coords)
        assert torch.allclose(runs(features, coords), expected, atol=2e-5, rtol=1e-5), points


@torch.no_grad()
@pytest.mark.parametrize("make", [frnet, waffleiron])
def test_clouds_of_a_padded_batch_are_answered_one_by_one(make: Any) -> None:
    runs = graph_of(trained(make()))
    clouds = [cloud(points) for points in (40, 25)]
    features, coords = (torch.zeros(3, 40, size) for size in (4, 3))
    mask = torch.zeros(3, 40, dtype=torch.bool)  # the third has no point
    for row, (own_features, own_coords) in enumerate(clouds):
        points = own_features.shape[1]
        features[row, :points], coords[row, :points], mask[row, :points] = own_features[0], own_coords[0], True
    together = runs.logits_and_penalty(features, coords, mask)[0]
    for row, (own_features, own_coords) in enumerate(clouds):
        assert torch.equal(together[row, mask[row]], runs(own_features, own_coords)[0])
    assert not together[~mask].any()


@torch.no_grad()
@pytest.mark.parametrize("make", [frnet, waffleiron])
def test_two_threads_give_one_answer(make: Any) -> None:
    """Several points write to one cell: a scatter whose threads did so at once would lose some of them."""
    runs = graph_of(trained(make()))
    features, coords = cloud(20_000)
    first = runs(features, coords)
    for _ in range(5):
        assert torch.equal(runs(features, coords), first)


def bundled(model: SegmentationModel, kitti_map: LabelMap) -> TrainedModel:
    features = FeatureSpec(use=("x", "y", "z", "remission"))
    inference = {"points_per_pass": None, "votes": 1}
    return TrainedModel(model, features, kitti_map, inference, {})


@pytest.mark.parametrize("family", ["frnet", "waffleiron"])
def test_exported_folder_predicts_as_the_model(family: str, kitti_map: LabelMap, tmp_path: Path, scan: Any) -> None:
    model = frnet() if family == "frnet" else waffleiron()
    whole = type(model)(**{**model.hyperparameters, "num_classes": 19})
    own = bundled(trained(whole), kitti_map)
    check = export_onnx(own, tmp_path / "export")
    assert max(check.difference.values()) < 1e-3
    exported = Predictor.load(tmp_path / "export")
    same = (exported(scan) == Predictor(own)(scan)).mean()
    assert same > 0.9999


def test_a_file_that_names_another_class_imports_nothing() -> None:
    graph = build_graph(trained(frnet()))
    (architecture,) = (entry for entry in graph.metadata_props if entry.key == ARCHITECTURE)
    architecture.value = architecture.value.replace("FRNet", "os.system")
    with pytest.raises(CheckpointError, match=r"there is no model 'os\.system'"):
        OnnxModel(graph.SerializeToString())


def test_a_file_that_does_not_say_how_its_inputs_are_made_is_refused() -> None:
    graph = build_graph(trained(waffleiron()))
    del graph.metadata_props[:]
    with pytest.raises(CheckpointError, match=r"needs kept, cells, neighbours, answer.*does not say"):
        OnnxModel(graph.SerializeToString())


def test_triton_is_told_of_all_inputs_and_joins_no_requests(kitti_map: LabelMap, tmp_path: Path) -> None:
    whole = FRNet(**{**frnet().hyperparameters, "num_classes": 19})
    place = export_triton(bundled(trained(whole), kitti_map), tmp_path).path.parent.parent
    text = (place / "config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 0" in text
    assert "dynamic_batching" not in text
    declared = re.findall(r'name: "(\w+)"\s+data_type: (\w+)\s+dims: \[ ([-\d, ]+) \]', text)
    assert declared == [
        ("features", "TYPE_FP32", "1, -1, 4"),
        ("coords", "TYPE_FP32", "1, -1, 3"),
        ("pixels", "TYPE_INT64", "1, -1"),
        ("logits", "TYPE_FP32", "1, -1, 19"),
    ]


@torch.no_grad()
@pytest.mark.parametrize("make", [frnet, waffleiron])
def test_eight_bits_keep_most_classes(make: Any, tmp_path: Path) -> None:
    model = trained(make(**({"channels": 32} if make is waffleiron else {})))
    onnx.save(build_graph(model), tmp_path / "float.onnx")
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", model.float32_nodes)
    runs = OnnxModel(tmp_path / "int8.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert "MatMulInteger" in kinds
    features, coords = cloud(4000)
    same = (runs(features, coords).argmax(-1) == model(features, coords=coords).argmax(-1)).float().mean()
    assert same > 0.95
