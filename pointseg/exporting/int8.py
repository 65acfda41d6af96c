"""8-bit weights and activations after training, kept only if the labels stay what they were.

Dynamic quantisation: weights are stored in 8 bits, each output channel with its own scale, and activations get their
scale as they come. It needs no calibration, and on synthetic streets it agreed with float32 more often than static
quantisation did (docs/export.md). In float32 stay what sees coordinates first; the last one, which makes the
logits; what is computed once a cloud; and the layer before a max, whose weight is the left factor of its product.

Weights are unsigned: products of unsigned and signed bytes saturate on processors without VNNI, so the same file would
give other labels there.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from pointseg.bundle import TrainedModel
from pointseg.data.sources import ScanSource
from pointseg.errors import ConfigError
from pointseg.exporting.compare import Comparison, compare
from pointseg.exporting.onnx_file import Check, export_onnx, write_description
from pointseg.exporting.runtime import MODEL, OnnxModel
from pointseg.files import whole_file
from pointseg.labels import LabelMap
from pointseg.predictor import Predictor

__all__ = ["export_int8", "quantize"]

ONCE_A_CLOUD = (".pooled", ".matrix", "head_global")


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
) -> tuple[Check, Comparison]:
    """Write a quantised `model.onnx` and `model.yaml` into a folder.

    Args:
        source: labelled scans on which it is compared with float32 in ONNX Runtime.
        scans: how many of them.
        min_agreement: the least share of points that keep their class.
        max_miou_loss: the largest loss of mIoU, 0.01 being one percentage point.

    Returns:
        The check of the float32 file that it was made from, and the comparison.

    Raises:
        ConfigError: if the model changes more than the limits allow; nothing is left behind.
        As `export_onnx` and `compare`.
    """
    path = Path(folder) / MODEL
    with tempfile.TemporaryDirectory(prefix="pointseg-") as place:
        check = export_onnx(trained, place)
        before = Predictor(dataclasses.replace(trained, model=OnnxModel(check.path)))
        with whole_file(path) as temporary:
            quantize(check.path, temporary)
            after = Predictor(dataclasses.replace(trained, model=OnnxModel(temporary)))
            comparison = compare(
                ("float32", before), ("int8", after), source, label_map=label_map, scans=scans, progress=progress
            )
            _refuse(comparison, min_agreement, max_miou_loss)
            write_description(trained, path.parent)
    return check, comparison


def quantize(file: Path, result: Path) -> None:
    """Write the quantised form of a `model.onnx` of ours, with its metadata."""
    model = onnx.load(file)
    layers = [node.name for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    kept = {layers[-1], "local.0", "input_transform.shared.0"}
    kept |= {name for name in layers if any(part in name for part in ONCE_A_CLOUD)}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns on the root logger, of preparations that our graph does not need
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


def _refuse(comparison: Comparison, min_agreement: float, max_miou_loss: float) -> None:
    if comparison.agreement < min_agreement:
        raise ConfigError(
            f"in 8 bits {100 * comparison.agreement:.2f} % of the points keep their class, fewer than the limit of "
            f"{100 * min_agreement:g} %",
            where=f"min_agreement={min_agreement}",
            remedy="Use format=onnx, or lower the limit.",
        )
    if comparison.miou_loss > max_miou_loss:
        raise ConfigError(
            f"8 bits lose {100 * comparison.miou_loss:.2f} percentage points of mIoU, more than the limit of "
            f"{100 * max_miou_loss:g}",
            where=f"max_miou_loss={max_miou_loss}",
            remedy="Use format=onnx, or raise the limit.",
        )
