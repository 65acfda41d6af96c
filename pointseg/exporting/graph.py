"""A folded PointNetSeg as an ONNX graph, written node by node: dynamic clouds and points, no loop, no exporter.

    features (B, N, F) --> logits (B, N, K)

It is the network of `pointseg.models.pointnet_inference`: BatchNorm lies in the weights, the max comes before its layer's
bias and ReLU, and the head's first layer adds the global vector as a bias of each cloud. Shared layers work on rows
(B N, C), because runtimes fuse a matrix product with its bias and ReLU only in two dimensions. Clouds of a batch have one
number of points and never touch each other.

Legend: B clouds, N points, R rows, F features, C, O channels, K classes.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from pointseg.bundle import TrainedModel
from pointseg.exporting.runtime import INPUT, OUTPUT
from pointseg.models.pointnet_inference import FoldedPointNet, FoldedTNet, Layer

__all__ = ["build_graph", "metadata_of"]

OPSET, IR_VERSION = 17, 8  # what ONNX Runtime has read since 1.12 (2022)


def build_graph(net: FoldedPointNet, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """The model `features` (B, N, F) float32 -> `logits` (B, N, K) float32, with B and N dynamic.

    Args:
        net: what `fold_model` gives.
        metadata: strings to keep in the file (see `metadata_of`).

    Example:
        >>> onnx.save(build_graph(fold_model(model)), "model.onnx")
    """
    features, classes = net.local[0].weight.shape[1], len(net.head[-1].weight)
    writer = _Writer()
    writer.write(net)
    graph = helper.make_graph(
        writer.nodes,
        "pointnetseg",
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["clouds", "points", features])],
        outputs=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["clouds", "points", classes])],
        initializer=writer.initializers,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="pointseg")
    helper.set_model_props(model, metadata or {})
    return model


def metadata_of(trained: TrainedModel) -> dict[str, str]:
    """What a file says of itself, each value as JSON: how to make its features, what its classes are, how to infer."""
    values = {
        "pointseg.features": trained.features.to_dict(),
        "pointseg.class_names": list(trained.label_map.class_names),
        "pointseg.label_map_hash": trained.label_map.hash,
        "pointseg.inference": dict(trained.inference),
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


class _Writer:
    """Collects nodes and initializers; its methods take and return names of tensors. Nodes are named by their layer, so
    that quantisation can be told which to leave alone."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def write(self, net: FoldedPointNet) -> None:
        """The whole network."""
        features = net.local[0].weight.shape[1]
        self.clouds_and_points = self.node("Shape", [INPUT], "clouds_and_points", end=2)
        rows_RF = self.node("Reshape", [INPUT, self.integers([-1, features])], "rows")
        if net.input_transform is not None:
            rows_RF = self._turn_coordinates(net.input_transform, rows_RF, features)
        local_RC = self._layers(rows_RF, net.local, "local")
        if net.feature_transform is not None:
            matrix_BCC = self._matrix(net.feature_transform, local_RC, "feature_transform")
            local_RC = self._turn(local_RC, matrix_BCC, net.feature_transform.size, "feature_transform")
        global_BO = self._pool(local_RC, net.pooled, "global")
        bias_BO = self._linear(global_BO, net.head_global, "head_global", relu=False)
        first_RO = self._head_first(local_RC, net.head_local, bias_BO)
        logits_RK = self._layers(first_RO, net.head, "head", last_relu=False)
        self._by_cloud(logits_RK, len(net.head[-1].weight), OUTPUT)

    def _head_first(self, local_RC: str, weight_OC: Tensor, bias_BO: str) -> str:
        """relu(local W^T + b), b being of each cloud: rows (R, O)."""
        rows_RO = self.node("MatMul", [local_RC, self.floats("head_local.weight", weight_OC.T)], "head_local")
        first_BNO = self._by_cloud(rows_RO, len(weight_OC), "head_local.by_cloud")
        bias_B1O = self.node("Unsqueeze", [bias_BO, self.integers([1])], "head_local.bias")
        biased_BNO = self.node("Add", [first_BNO, bias_B1O], "head_local.biased")
        rows_RO = self.node("Reshape", [biased_BNO, self.integers([-1, len(weight_OC)])], "head_local.rows")
        return self.node("Relu", [rows_RO], "head_local.relu")

    # ---- transforms ------------------------------------------------------------------------------------------

    def _turn_coordinates(self, net: FoldedTNet, rows_RF: str, features: int) -> str:
        """x, y, z, which are the first three features, times the matrix of their cloud."""
        name = "input_transform"
        matrix_B33 = self._matrix(net, rows_RF, name)
        ends = [self.integers([position]) for position in (0, 3, features)]
        axis = self.integers([1])
        xyz_R3 = self.node("Slice", [rows_RF, ends[0], ends[1], axis], f"{name}.xyz")
        turned_R3 = self._turn(xyz_R3, matrix_B33, 3, name)
        if features == 3:
            return turned_R3
        rest = self.node("Slice", [rows_RF, ends[1], ends[2], axis], f"{name}.rest")
        return self.node("Concat", [turned_R3, rest], f"{name}.rows", axis=1)

    def _matrix(self, net: FoldedTNet, rows_RC: str, name: str) -> str:
        """What a T-Net predicts: (B, C, C)."""
        pooled_BO = self._layers(self._pool(rows_RC, net.shared, f"{name}.shared"), net.pooled, f"{name}.pooled")
        flat = self._linear(pooled_BO, net.matrix, f"{name}.matrix", relu=False)
        return self.node("Reshape", [flat, self.integers([-1, net.size, net.size])], f"{name}.square")

    def _turn(self, rows_RC: str, matrix_BCC: str, size: int, name: str) -> str:
        clouds_BNC = self._by_cloud(rows_RC, size, f"{name}.by_cloud")
        turned_BNC = self.node("MatMul", [clouds_BNC, matrix_BCC], f"{name}.turned")
        return self.node("Reshape", [turned_BNC, self.integers([-1, size])], f"{name}.turned_rows")

    # ---- layers ----------------------------------------------------------------------------------------------

    def _pool(self, rows_RC: str, layers: list[Layer], name: str) -> str:
        """relu(max over the points of a cloud of the last layer's product, plus its bias): (B, O).

        The product is made as W x^T, points last: ONNX Runtime takes a max over columns several times slower than one
        over adjacent values, and turning the narrow hidden rows costs little.
        """
        hidden_RC, last = self._layers(rows_RC, layers[:-1], name), layers[-1]
        name = f"{name}.{len(layers) - 1}"
        hidden_BNC = self._by_cloud(hidden_RC, last.weight.shape[1], f"{name}.by_cloud")
        hidden_BCN = self.node("Transpose", [hidden_BNC], f"{name}.points_last", perm=[0, 2, 1])
        product_BON = self.node("MatMul", [self.floats(f"{name}.weight", last.weight), hidden_BCN], name)
        largest_BO = self.node("ReduceMax", [product_BON], f"{name}.max", axes=[2], keepdims=0)
        biased_BO = self.node("Add", [largest_BO, self.floats(f"{name}.bias", last.bias)], f"{name}.biased")
        return self.node("Relu", [biased_BO], f"{name}.relu")

    def _layers(self, rows_RC: str, layers: list[Layer], name: str, last_relu: bool = True) -> str:
        for number, layer in enumerate(layers):
            relu = last_relu or number < len(layers) - 1
            rows_RC = self._linear(rows_RC, layer, f"{name}.{number}", relu)
        return rows_RC

    def _linear(self, rows_RC: str, layer: Layer, name: str, relu: bool) -> str:
        weight, bias = self.floats(f"{name}.weight", layer.weight.T), self.floats(f"{name}.bias", layer.bias)
        rows_RO = self.node("Gemm", [rows_RC, weight, bias], name)
        return self.node("Relu", [rows_RO], f"{name}.relu") if relu else rows_RO

    def _by_cloud(self, rows_RC: str, channels: int, name: str) -> str:
        """(R, C) -> (B, N, C)"""
        shape = self.node("Concat", [self.clouds_and_points, self.integers([channels])], f"{name}.shape", axis=0)
        return self.node("Reshape", [rows_RC, shape], name)

    # ---- the parts of a graph --------------------------------------------------------------------------------

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """One operator with one output, which has its name."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def floats(self, name: str, values: Tensor) -> str:
        """A weight or bias."""
        return self._initializer(name, values.detach().cpu().float().contiguous().numpy())

    def integers(self, values: list[int]) -> str:
        """A shape or a position; equal ones are kept once."""
        name = "integers." + "_".join(map(str, values))
        if all(known.name != name for known in self.initializers):
            self._initializer(name, np.array(values, np.int64))
        return name

    def _initializer(self, name: str, values: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(values, name))
        return name
