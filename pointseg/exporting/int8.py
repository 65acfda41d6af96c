"""Quantise an exported model to 8 bits, and keep the result only if its labels hardly change.

Dynamic quantisation: weights are stored in 8 bits with a scale for each output channel, and activations are scaled when they
occur. It needs no calibration and agreed with float32 more often than static quantisation did (docs/export.md). The layers
that the model names (`float32_nodes`) and the last one, which gives the logits, stay in float32.

Weights are unsigned: products of unsigned and signed bytes saturate on processors without VNNI, where the same file would
give other labels.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from pointseg.core.files import whole_file
from pointseg.core.labels import LabelMap
from pointseg.data.sources import ScanSource
from pointseg.engine.bundle import EXPORT, TrainedModel, write_description
from pointseg.engine.onnx_model import OnnxModel
from pointseg.engine.predictor import Predictor
from pointseg.exporting.compare import Comparison, compare, refuse_changed
from pointseg.exporting.onnx_file import ExportCheck, export_onnx

__all__ = ["export_int8", "quantize"]


def export_int8(
    trained: TrainedModel,
    folder: str | Path,
    source: ScanSource,
    *,
    label_map: LabelMap,
    scans: int = 4,
    min_agreement: float = 0.97,
    max_miou_loss: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ExportCheck, Comparison]:
    """Write a quantised `model.onnx` and `model.yaml` into a folder.

    Args:
        source: labelled scans on which it is compared with float32 in ONNX Runtime.
        scans: how many of them are used.
        min_agreement: the smallest share of points that must keep their class.
        max_miou_loss: the largest loss of mIoU; 0.01 is one percentage point.

    Returns:
        The check of the float32 file that was quantised, and the comparison.

    Raises:
        ConfigError: if the model changes more than the limits allow; nothing is left behind.
        PointsegError: as `export_onnx` and `compare`.
    """
    path = Path(folder) / EXPORT
    with tempfile.TemporaryDirectory(prefix="pointseg-") as place:
        check = export_onnx(trained, place)
        models = [type(trained.model.network_called)]
        before = Predictor(dataclasses.replace(trained, model=OnnxModel(check.path, models=models)))
        with whole_file(path) as temporary:
            quantize(check.path, temporary, trained.model.float32_nodes)
            after = Predictor(dataclasses.replace(trained, model=OnnxModel(temporary, models=models)))
            comparison = compare(
                ("float32", before), ("int8", after), source, label_map=label_map, scans=scans, progress=progress
            )
            refuse_changed(comparison, "8 bits", min_agreement, max_miou_loss)
            write_description(trained, path.parent)
    return check, comparison


def quantize(file: Path, result: Path, float32_nodes: Sequence[str]) -> None:
    """Write the quantised form of an exported file, with its metadata; nodes of these patterns stay in float32."""
    model = onnx.load(file)
    layers = [node.name for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    kept = {layers[-1], *(name for name in layers if any(fnmatchcase(name, pattern) for pattern in float32_nodes))}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns, on the root logger, of missing preparations that this graph does not need
    try:
        quantize_dynamic(
            model,
            result,
            op_types_to_quantize=["Gemm", "MatMul"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
            nodes_to_exclude=sorted(kept | {f"{name}_MatMul" for name in kept}),  # a Gemm is renamed on the way
        )
    finally:
        root.setLevel(level)
    quantized = onnx.load(result)
    onnx.helper.set_model_props(quantized, {entry.key: entry.value for entry in onnx.load(file).metadata_props})
    result.write_bytes(quantized.SerializeToString())
