"""An exported model as one that `Predictor` takes: the same path from points to labels, with ONNX Runtime inside.

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

from pointseg.bundle import DESCRIPTION, TrainedModel
from pointseg.errors import CheckpointError, PointsegError
from pointseg.extras import needed
from pointseg.features import FeatureSpec
from pointseg.files import expanded, is_file
from pointseg.labels import LabelMap
from pointseg.models import SegmentationModel

__all__ = ["MODEL", "OnnxModel", "load_exported"]

MODEL = "model.onnx"
POINTS_AT_ONCE = 2048  # small clouds share a run up to this: activations stay in the processor's cache
INPUT, OUTPUT = "features", "logits"


class OnnxModel(SegmentationModel):
    """A `model.onnx` of ours on the CPU.

    Args:
        source: the file, or its bytes.
        threads: of one run; None takes as many as torch does.

    Raises:
        CheckpointError: if ONNX Runtime cannot read it, or it is not one of ours.
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
        where = "model.onnx" if isinstance(source, bytes) else source
        try:
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            self.digest = hashlib.sha256(content).hexdigest()  # tells this model from others
            self.session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.metadata = {
                key: json.loads(value)
                for key, value in self.session.get_modelmeta().custom_metadata_map.items()
                if key.startswith("pointseg.")
            }
            self.in_features = int(self.session.get_inputs()[0].shape[-1])
            self.num_classes = int(self.session.get_outputs()[0].shape[-1])
            names = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        except Exception as error:  # ONNX Runtime has its own classes for everything, below Exception only
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"not an ONNX model that can be read ({reason})", where=where, remedy="Export it again."
            ) from error
        if names != (INPUT, OUTPUT):
            raise CheckpointError(
                f"the model takes {names[0]!r} and gives {names[1]!r}, not {INPUT!r} and {OUTPUT!r}",
                where=where,
                remedy="Name a file that `python -m pointseg.export` wrote.",
            )
        self.hyperparameters: dict[str, Any] = {"in_features": self.in_features, "num_classes": self.num_classes}

    def logits_and_penalty(
        self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N, K), zeros where there is no point, and 0; `coords` are not used."""
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
    """A `model.onnx` and the `model.yaml` beside it, as what `Predictor` takes.

    Args:
        path: the file or its folder.

    Raises:
        CheckpointError: if one is missing or damaged, or they do not belong together.
        ConfigError: if onnxruntime is not installed.
    """
    path = expanded(path)
    file = path if path.suffix == ".onnx" else path / MODEL
    if not is_file(file):
        raise CheckpointError(
            "there is no exported model",
            where=path,
            remedy="Make it: python -m pointseg.export checkpoint=... output=DIR.",
        )
    try:
        description = yaml.safe_load((file.parent / DESCRIPTION).read_text(encoding="utf-8"))
        features = FeatureSpec(**description["features"])
        label_map = LabelMap.from_dict(description["label_map"], where=file.parent / DESCRIPTION)
        inference, provenance = dict(description["inference"]), dict(description["provenance"])
    except (OSError, yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the description of the model cannot be read ({type(error).__name__}: {error})",
            where=file.parent / DESCRIPTION,
            remedy="Keep model.yaml beside model.onnx, or export again.",
        ) from error
    except PointsegError as error:
        raise CheckpointError(error.what, where=error.where, remedy=error.remedy) from error
    model = OnnxModel(file)
    told = model.metadata.get("pointseg.features"), model.metadata.get("pointseg.label_map_hash")
    if told != (features.to_dict(), label_map.hash) or model.metadata.get("pointseg.inference") != inference:
        raise CheckpointError(
            "model.onnx and model.yaml do not belong together", where=file.parent, remedy="Export the model again."
        )
    return TrainedModel(model.eval(), features, label_map, inference, provenance)
