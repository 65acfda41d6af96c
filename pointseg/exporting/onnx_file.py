"""Write a model as `model.onnx`, checked against the model it came from, and `model.yaml` beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from pointseg.core.errors import CheckpointError
from pointseg.core.files import whole_file
from pointseg.engine.bundle import EXPORT, TrainedModel, write_description
from pointseg.engine.onnx_model import ARCHITECTURE, INPUT, OUTPUT, OnnxModel
from pointseg.models import SegmentationModel
from pointseg.models.architectures import describe_model

__all__ = ["CHECKED_POINTS", "ExportCheck", "build_graph", "export_onnx", "graph_name"]

OPSET, IR_VERSION = 17, 8  # which ONNX Runtime reads since 1.12 (2022); models may ask for a later opset
CHECKED_POINTS = (1, 17, 4096, 130_000)
TOLERANCE = 1e-4  # relative to the largest logit, and at least absolute; sums in another order differ by far less


@dataclass(frozen=True)
class ExportCheck:
    """How far an exported file is from the model.

    Attributes:
        path: the file.
        difference: points of a cloud -> largest absolute difference of a logit.
        largest: the largest absolute logit.
    """

    path: Path
    difference: dict[int, float]
    largest: float

    def __str__(self) -> str:
        clouds = ", ".join(f"{points:,}" for points in self.difference)
        return (
            f"logits of clouds of {clouds} points differ by at most {max(self.difference.values()):.1e} "
            f"(the largest is {self.largest:.1f})"
        )


def export_onnx(trained: TrainedModel, folder: str | Path) -> ExportCheck:
    """Write `model.onnx` and `model.yaml` into a folder, replacing files of these names.

    The file is checked by ONNX's own checker and, in ONNX Runtime, against the model on clouds of `CHECKED_POINTS`
    points. It gets its name only after that.

    Raises:
        ConfigError: if the model cannot be exported, or onnx or onnxruntime is not installed.
        CheckpointError: if the file computes something else than the model; nothing is left behind.
        OutputError: if it cannot be written.

    Example:
        >>> print(export_onnx(bundle.load(run_folder), "export"))
        logits of clouds of 1, 17, 4,096, 130,000 points differ by at most 1.5e-05 (the largest is 21.3)
    """
    path = Path(folder) / EXPORT
    metadata = {
        "pointseg.features": trained.features.to_dict(),
        "pointseg.class_names": list(trained.label_map.class_names),
        "pointseg.label_map_hash": trained.label_map.hash,
        "pointseg.inference": dict(trained.inference),
    }
    model = build_graph(trained.model, {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()})
    with whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(temporary), full_check=True)
        check = _compared(trained, temporary, path)
        write_description(trained, path.parent)
    return check


@torch.inference_mode()
def _compared(trained: TrainedModel, file: Path, path: Path) -> ExportCheck:
    """Compare a file with the model on random scans."""
    model = trained.model
    exported = OnnxModel(file, models=[type(model.network_called)])
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([-50.0, -50.0, -2.0, 0.0]), torch.tensor([50.0, 50.0, 4.0, 1.0])
    difference: dict[int, float] = {}
    largest = 0.0
    for points in CHECKED_POINTS:
        scan_N4 = low + (high - low) * torch.rand(points, 4, generator=generator)
        further = [
            torch.randn(points, 1, generator=generator) * trained.features.scale[name] + trained.features.offset[name]
            for name in trained.features.extra
        ]
        scan = torch.cat([scan_N4, *further], dim=1)
        features_1NF, coords_1N3 = trained.features(trained.features.measure(scan))[None], scan[None, :, :3]
        expected = model.eval().predicted(features_1NF.to(device), coords_1N3.to(device)).float().cpu()
        found = exported(features_1NF, coords_1N3)
        difference[points] = float((found - expected).abs().max())
        size = float(expected.abs().max())
        largest = max(largest, size)
        if not difference[points] <= TOLERANCE * max(1.0, size):  # refuses NaN as well
            raise CheckpointError(
                f"the exported model differs from the model by {difference[points]:.3g} for {points:,} points, where "
                f"logits are up to {size:.3g}",
                where=path,
                remedy="Check the checkpoint's weights, and the versions of onnx and onnxruntime.",
            )
    return ExportCheck(path, difference, largest)


def build_graph(model: SegmentationModel, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """The graph of a model, float32, with B and N dynamic (B is 1 if it has further inputs), and `metadata` stored in it.

    Raises:
        ConfigError: if the model cannot be exported.

    Example:
        >>> onnx.save(build_graph(PointNetSeg(4, 19)), "model.onnx")
    """
    graph = Graph()
    model.write_onnx(graph)
    ends = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1 if graph.further else "clouds", "points", size])
        for name, size in ((INPUT, model.in_features), (OUTPUT, model.num_classes))
    }
    inputs = [ends[INPUT], *graph.further]
    onnx_graph = helper.make_graph(
        graph.nodes, graph_name(model), inputs, [ends[OUTPUT]], initializer=graph.initializers
    )
    opset = helper.make_opsetid("", graph.opset)
    onnx_model = helper.make_model(onnx_graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="pointseg")
    metadata = dict(metadata or {})
    if graph.further:
        metadata[ARCHITECTURE] = json.dumps(describe_model(model))
    helper.set_model_props(onnx_model, metadata)
    return onnx_model


def graph_name(model: SegmentationModel) -> str:
    """The model's name in a graph and in a model repository, such as "pointnetseg"."""
    return model.title.lower()


class Graph:
    """A `models.GraphWriter` that collects ONNX nodes and initializers."""

    input, output = INPUT, OUTPUT

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.further: list[onnx.ValueInfoProto] = []
        self.opset = OPSET

    def further_input(self, name: str, sizes: Sequence[str | int], *, integer: bool = False) -> str:
        kind = TensorProto.INT64 if integer else TensorProto.FLOAT
        self.further.append(helper.make_tensor_value_info(name, kind, list(sizes)))
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def floats(self, name: str, values: Tensor) -> str:
        return self._initializer(name, values.detach().cpu().float().contiguous().numpy())

    def integers(self, values: Sequence[int]) -> str:
        name = "integers." + "_".join(map(str, values))
        if all(known.name != name for known in self.initializers):
            self._initializer(name, np.array(values, np.int64))
        return name

    def _initializer(self, name: str, values: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(values, name))
        return name
