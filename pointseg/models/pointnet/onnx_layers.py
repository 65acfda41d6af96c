"""A folded PointNetSeg as ONNX, written node by node: dynamic numbers of clouds and points, no loop, no exporter.

It is the network of `pointseg.models.pointnet.inference`: BatchNorm is in the weights, the max comes before its layer's bias
and ReLU, and the head's first layer adds the global vector as a bias of each cloud. Shared layers work on rows (B N, C),
since runtimes fuse a matrix product with its bias and ReLU only in two dimensions. The clouds of a batch have equally many
points and do not affect each other. Nodes are named by their layer.

Legend: B clouds, N points, R rows, F features, C, O channels, K classes.
"""

from __future__ import annotations

from torch import Tensor

from pointseg.models.graph_layers import GraphLayers
from pointseg.models.pointnet.inference import FoldedPointNet, FoldedTNet, Layer

__all__ = ["FLOAT32_NODES", "PointNetGraph"]

# Layers of coordinates, layers that run once a cloud, and the layer before a max, whose weight is the left factor of its
# product, lose too much in 8 bits.
FLOAT32_NODES = ("local.0", "input_transform.shared.0", "*.pooled*", "*.matrix*", "*head_global*")


class PointNetGraph(GraphLayers):
    """Writes a network into a graph; its methods take and return names of tensors."""

    def write(self, net: FoldedPointNet) -> None:
        """The whole network."""
        features = net.local[0].weight.shape[1]
        self.clouds_and_points = self.graph.node("Shape", [self.graph.input], "clouds_and_points", end=2)
        rows_RF = self.graph.node("Reshape", [self.graph.input, self.graph.integers([-1, features])], "rows")
        if net.input_transform is not None:
            rows_RF = self._turn_coordinates(net.input_transform, rows_RF, features)
        local_RC = self._layers(rows_RF, net.local, "local")
        if net.feature_transform is not None:
            matrix_BCC = self._matrix(net.feature_transform, local_RC, "feature_transform")
            local_RC = self._turn(local_RC, matrix_BCC, net.feature_transform.size, "feature_transform")
        global_BO = self._pool(local_RC, net.pooled, "global")
        bias_BO = self.linear(global_BO, *net.head_global, "head_global", relu=False)
        first_RO = self._head_first(local_RC, net.head_local, bias_BO)
        logits_RK = self._layers(first_RO, net.head, "head", last_relu=False)
        self._by_cloud(logits_RK, len(net.head[-1].weight), self.graph.output)

    def _head_first(self, local_RC: str, weight_OC: Tensor, bias_BO: str) -> str:
        """relu(local W^T + b) with a bias b for each cloud: rows (R, O)."""
        weight = self.graph.floats("head_local.weight", weight_OC.T)
        rows_RO = self.graph.node("MatMul", [local_RC, weight], "head_local")
        first_BNO = self._by_cloud(rows_RO, len(weight_OC), "head_local.by_cloud")
        bias_B1O = self.graph.node("Unsqueeze", [bias_BO, self.graph.integers([1])], "head_local.bias")
        biased_BNO = self.graph.node("Add", [first_BNO, bias_B1O], "head_local.biased")
        rows_RO = self.graph.node("Reshape", [biased_BNO, self.graph.integers([-1, len(weight_OC)])], "head_local.rows")
        return self.graph.node("Relu", [rows_RO], "head_local.relu")

    def _turn_coordinates(self, net: FoldedTNet, rows_RF: str, features: int) -> str:
        """The first three features, x, y, z, times the matrix of their cloud."""
        name = "input_transform"
        matrix_B33 = self._matrix(net, rows_RF, name)
        xyz_R3 = self.columns(rows_RF, 0, 3, f"{name}.xyz")
        turned_R3 = self._turn(xyz_R3, matrix_B33, 3, name)
        if features == 3:
            return turned_R3
        rest = self.columns(rows_RF, 3, features, f"{name}.rest")
        return self.graph.node("Concat", [turned_R3, rest], f"{name}.rows", axis=1)

    def _matrix(self, net: FoldedTNet, rows_RC: str, name: str) -> str:
        """The prediction of a T-Net: (B, C, C)."""
        pooled_BO = self._layers(self._pool(rows_RC, net.shared, f"{name}.shared"), net.pooled, f"{name}.pooled")
        flat = self.linear(pooled_BO, *net.matrix, f"{name}.matrix", relu=False)
        return self.graph.node("Reshape", [flat, self.graph.integers([-1, net.size, net.size])], f"{name}.square")

    def _turn(self, rows_RC: str, matrix_BCC: str, size: int, name: str) -> str:
        clouds_BNC = self._by_cloud(rows_RC, size, f"{name}.by_cloud")
        turned_BNC = self.graph.node("MatMul", [clouds_BNC, matrix_BCC], f"{name}.turned")
        return self.graph.node("Reshape", [turned_BNC, self.graph.integers([-1, size])], f"{name}.turned_rows")

    def _pool(self, rows_RC: str, layers: list[Layer], name: str) -> str:
        """relu(max over the points of a cloud of the last layer's product, plus its bias): (B, O).

        The product is W x^T, points last: in ONNX Runtime a max over columns is several times slower than one over adjacent
        values, and transposing the narrow hidden rows costs little.
        """
        hidden_RC, last = self._layers(rows_RC, layers[:-1], name), layers[-1]
        name = f"{name}.{len(layers) - 1}"
        hidden_BNC = self._by_cloud(hidden_RC, last.weight.shape[1], f"{name}.by_cloud")
        hidden_BCN = self.graph.node("Transpose", [hidden_BNC], f"{name}.points_last", perm=[0, 2, 1])
        product_BON = self.graph.node("MatMul", [self.graph.floats(f"{name}.weight", last.weight), hidden_BCN], name)
        largest_BO = self.graph.node("ReduceMax", [product_BON], f"{name}.max", axes=[2], keepdims=0)
        biased_BO = self.graph.node("Add", [largest_BO, self.graph.floats(f"{name}.bias", last.bias)], f"{name}.biased")
        return self.graph.node("Relu", [biased_BO], f"{name}.relu")

    def _layers(self, rows_RC: str, layers: list[Layer], name: str, last_relu: bool = True) -> str:
        for number, layer in enumerate(layers):
            relu = last_relu or number < len(layers) - 1
            rows_RC = self.linear(rows_RC, *layer, f"{name}.{number}", relu=relu)
        return rows_RC

    def _by_cloud(self, rows_RC: str, channels: int, name: str) -> str:
        """(R, C) -> (B, N, C)"""
        parts = [self.clouds_and_points, self.graph.integers([channels])]
        shape = self.graph.node("Concat", parts, f"{name}.shape", axis=0)
        return self.graph.node("Reshape", [rows_RC, shape], name)
