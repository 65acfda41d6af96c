"""`model.onnx`, checked against the model it came from before it gets its name, and `model.yaml` beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
import yaml

from pointseg.bundle import DESCRIPTION, TrainedModel
from pointseg.errors import CheckpointError, ConfigError
from pointseg.exporting.graph import build_graph, metadata_of
from pointseg.exporting.runtime import MODEL, OnnxModel
from pointseg.files import whole_file, write_text
from pointseg.models import PointNetSeg
from pointseg.models.pointnet_inference import fold_model

__all__ = ["CHECKED_POINTS", "Check", "export_onnx", "onnx_model", "write_description"]

CHECKED_POINTS = (1, 17, 4096, 130_000)
TOLERANCE = 1e-4  # of the largest logit, and at least absolute: rounding of sums in another order is far below


@dataclass(frozen=True)
class Check:
    """What the check of an exported file found.

    Attributes:
        path: the file.
        difference: points of a cloud -> largest difference of a logit to the model's.
        largest: the largest logit.
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


def export_onnx(trained: TrainedModel, folder: str | Path) -> Check:
    """Write `model.onnx` and `model.yaml` into a folder; files of these names are replaced.

    The file is checked by ONNX's own checker and, in ONNX Runtime, against the model on clouds of `CHECKED_POINTS`
    points; it gets its name only after that.

    Raises:
        ConfigError: if the model is not a PointNetSeg, or onnx or onnxruntime is not installed.
        CheckpointError: if the file does not compute what the model does; nothing is left behind.
        OutputError: if it cannot be written.

    Example:
        >>> print(export_onnx(bundle.load(run_folder), "export"))
        logits of clouds of 1, 17, 4,096, 130,000 points differ by at most 1.5e-05 (the largest is 21.3)
    """
    path = Path(folder) / MODEL
    model = onnx_model(trained)
    with whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(temporary), full_check=True)
        check = _compared(trained, temporary, path)
        write_description(trained, path.parent)
    return check


def onnx_model(trained: TrainedModel) -> onnx.ModelProto:
    """The graph of a trained model with its metadata.

    Raises:
        ConfigError: if the model is not a PointNetSeg.
    """
    if not isinstance(trained.model, PointNetSeg):
        raise ConfigError(
            f"a {type(trained.model).__name__} cannot be exported",
            where="checkpoint",
            remedy="Name a checkpoint, run folder or bundle of a PointNetSeg.",
        )
    return build_graph(fold_model(trained.model), metadata_of(trained))


def write_description(trained: TrainedModel, folder: Path) -> Path:
    """`model.yaml`, as in a bundle: what `Predictor` needs beside the weights."""
    text = yaml.safe_dump(trained.describe(), sort_keys=False, allow_unicode=True)
    write_text(folder / DESCRIPTION, text)
    return folder / DESCRIPTION


@torch.inference_mode()
def _compared(trained: TrainedModel, file: Path, path: Path) -> Check:
    """Compare a file with the model on random scans.

    Raises:
        CheckpointError: if they differ.
    """
    exported, model = OnnxModel(file), trained.model
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([-50.0, -50.0, -2.0, 0.0]), torch.tensor([50.0, 50.0, 4.0, 1.0])
    difference: dict[int, float] = {}
    largest = 0.0
    for points in CHECKED_POINTS:
        scan_N4 = low + (high - low) * torch.rand(points, 4, generator=generator)
        features_1NF = trained.features(trained.features.measure(scan_N4))[None]
        expected = model.eval()(features_1NF.to(device)).float().cpu()
        found = exported(features_1NF)
        difference[points] = float((found - expected).abs().max())
        size = float(expected.abs().max())
        largest = max(largest, size)
        if not difference[points] <= TOLERANCE * max(1.0, size):  # a NaN is refused as well
            raise CheckpointError(
                f"the exported model differs from the model by {difference[points]:.3g} for {points:,} points, where "
                f"logits are up to {size:.3g}",
                where=path,
                remedy="Check the checkpoint's weights, and the versions of onnx and onnxruntime.",
            )
    return Check(path, difference, largest)
