"""What `export` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import MAPPING, READS, WRITES, key, section
from pointseg.workflows.settings.shared import (
    SPLITS,
    TrackingConfig,
    adapt_key,
    adapt_scans_key,
    adapt_share_key,
    models_key,
    untracked,
)

__all__ = ["FORMATS", "ExportConfig"]

FORMATS = ("onnx", "onnx-int8", "triton", "bundle", "half")


@dataclass
class ExportConfig:
    """Write a trained model as ONNX, 8-bit ONNX, a Triton model repository or a smaller bundle, checked and compared.

    Example:
        >>> ExportConfig(checkpoint="outputs/2026-11-21/10-15-00", format="onnx-int8", output="export")
    """

    data: dict[str, Any] = key(
        {},
        "data to compare the exported model on: data=OPTION, or single keys data.KEY=VALUE; "
        "{}: the data of the run that the model lies in",
        MAPPING,
    )
    tracking: TrackingConfig = section(untracked, "where a registered model is looked up; nothing is recorded")
    checkpoint: str | None = key(
        None,
        "a .ckpt, a run folder (its best), a bundle, models:/NAME@ALIAS, or street: the model in this package",
        READS,
    )
    models: list[str] = models_key()
    format: str = key(
        "onnx",
        "format to write; bundle: the model as it is, or as `adapt` changed it; half: one in half precision",
        choices=FORMATS,
    )
    output: str | None = key(None, "folder for the result; null: this run's own folder", WRITES)
    adapt: str | None = adapt_key()
    adapt_scans: int = adapt_scans_key()
    adapt_share: float = adapt_share_key()
    split: str = key(
        "val",
        "split whose scans are compared",
        choices=SPLITS,
        heading="The exported model is compared with what it was made from.",
    )
    scans: int = key(
        4, "scans to compare on, spread over the split; 0: no comparison on scans (format=onnx-int8 and half need them)"
    )
    min_agreement: float = key(0.97, "onnx-int8 or half is refused if a smaller share of the points keeps its class")
    max_miou_loss: float = key(0.01, "onnx-int8 or half is refused if it loses more mIoU; 0.01 is one percentage point")
    seed: int = key(0, "random seed")
