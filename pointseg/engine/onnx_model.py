"""An exported model for `Predictor`: the same path from points to labels, computed by ONNX Runtime.

Legend: B clouds, N points, F features, K classes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from pointseg.core.errors import CheckpointError, PointsegError
from pointseg.core.files import expanded, is_file
from pointseg.core.optional_packages import needed
from pointseg.engine.bundle import DESCRIPTION, EXPORT, TrainedModel
from pointseg.models import Extras, SegmentationModel

__all__ = ["OnnxModel", "load_exported"]

POINTS_AT_ONCE = 2048  # small clouds share a run of up to this many points: activations stay in the processor's cache
INPUT, OUTPUT = "features", "logits"


class OnnxModel(SegmentationModel):
    """A `model.onnx` of pointseg, on the CPU.

    Args:
        source: the file, or its bytes.
        threads: of one run; None for as many as torch uses.

    Raises:
        CheckpointError: if ONNX Runtime cannot read it, or pointseg did not write it.
        ConfigError: if onnxruntime is not installed.

    Example:
        >>> OnnxModel("export/model.onnx")(torch.rand(2, 4096, 4)).shape
        torch.Size([2, 4096, 19])
    """

    def __init__(self, source: str | Path | bytes, threads: int | None = None) -> None:
        super().__init__()
        runtime = needed("onnxruntime", "export", "ONNX")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # its warnings are about its own optimisations
        where = EXPORT if isinstance(source, bytes) else source
        try:
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            self.digest = hashlib.sha256(content).hexdigest()  # identifies the model
            self.session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.metadata = {
                key: json.loads(value)
                for key, value in self.session.get_modelmeta().custom_metadata_map.items()
                if key.startswith("pointseg.")
            }
            self.in_features = int(self.session.get_inputs()[0].shape[-1])
            self.num_classes = int(self.session.get_outputs()[0].shape[-1])
            names = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        except Exception as error:  # the errors of ONNX Runtime have no common base class but Exception
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"not an ONNX model that can be read ({reason})", where=where, remedy="Export it again."
            ) from error
        if names != (INPUT, OUTPUT):
            raise CheckpointError(
                f"the model maps {names[0]!r} to {names[1]!r}, not {INPUT!r} to {OUTPUT!r}",
                where=where,
                remedy="Name a file that `python -m pointseg.export` wrote.",
            )
        self.hyperparameters: dict[str, Any] = {"in_features": self.in_features, "num_classes": self.num_classes}

    def logits_and_penalty(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N, K), zeros at padded points, and the penalty 0."""
        clouds, points, _ = features.shape
        logits_BNK = features.new_zeros(clouds, points, self.num_classes)
        if mask is None:
            size = max(1, POINTS_AT_ONCE // max(1, points))
            for start in range(0, clouds if points else 0, size):
                logits_BNK[start : start + size] = self._run(features[start : start + size])
        else:
            for cloud in range(clouds):
                if bool(mask[cloud].any()):
                    logits_BNK[cloud][mask[cloud]] = self._run(features[cloud][mask[cloud]][None])[0]
        return logits_BNK, features.new_zeros(())

    def _run(self, features_BNF: Tensor) -> Tensor:
        values = np.ascontiguousarray(features_BNF.detach().cpu().float().numpy())
        return torch.from_numpy(self.session.run([OUTPUT], {INPUT: values})[0]).to(features_BNF.device)


def load_exported(path: str | Path) -> TrainedModel:
    """Read a `model.onnx` and the `model.yaml` beside it.

    Args:
        path: the file or its folder.

    Raises:
        CheckpointError: if one is missing or damaged, or they do not belong together.
        ConfigError: if onnxruntime is not installed.
    """
    path = expanded(path)
    file = path if path.suffix == ".onnx" else path / EXPORT
    if not is_file(file):
        raise CheckpointError(
            "there is no exported model",
            where=path,
            remedy="Make it: python -m pointseg.export checkpoint=... output=DIR.",
        )
    model, place = OnnxModel(file), file.parent / DESCRIPTION
    try:
        description = yaml.safe_load(place.read_text(encoding="utf-8"))
        trained = TrainedModel.from_description(description, lambda *_: model, place)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the description of the model cannot be read ({type(error).__name__}: {error})",
            where=place,
            remedy="Keep model.yaml beside model.onnx, or export again.",
        ) from error
    except PointsegError as error:
        raise CheckpointError(error.what, where=error.where, remedy=error.remedy) from error
    expected = (trained.features.to_dict(), trained.label_map.hash, trained.inference)
    if (
        tuple(model.metadata.get(f"pointseg.{name}") for name in ("features", "label_map_hash", "inference"))
        != expected
    ):
        raise CheckpointError(
            "model.onnx and model.yaml do not belong together", where=file.parent, remedy="Export the model again."
        )
    return trained
