"""An exported model for `Predictor`: the same path from points to labels, computed by ONNX Runtime.

Legend: B clouds, N points, F features, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from pointseg.core.errors import CheckpointError, PointsegError
from pointseg.core.extras import Prepare
from pointseg.core.files import expanded, is_file
from pointseg.core.optional_packages import needed
from pointseg.core.plain_yaml import plain_yaml
from pointseg.engine.bundle import DESCRIPTION, EXPORT, TrainedModel
from pointseg.models import Extras, SegmentationModel
from pointseg.models.architectures import ModelClasses, rebuild_model
from pointseg.models.sizes import refuse_outsized

__all__ = ["ARCHITECTURE", "INPUT", "OUTPUT", "OnnxModel", "load_exported"]

POINTS_AT_ONCE = 2048  # small clouds share a run of up to this many points: activations stay in the processor's cache
INPUT, OUTPUT = "features", "logits"
ARCHITECTURE = "pointseg.architecture"  # in the metadata of a graph with further inputs


class OnnxModel(SegmentationModel):
    """A `model.onnx` of pointseg, on the CPU.

    Args:
        source: the file, or its bytes.
        threads: of one run; None for as many as torch uses.
        models: classes of your own that may have been exported; looked at only if the graph needs more than the features
            (see `SegmentationModel.graph_inputs`).

    Raises:
        CheckpointError: if ONNX Runtime cannot read it, or pointseg did not write it.
        ConfigError: if onnxruntime is not installed.

    Example:
        >>> OnnxModel("export/model.onnx")(torch.rand(2, 4096, 4)).shape
        torch.Size([2, 4096, 19])
    """

    def __init__(self, source: str | Path | bytes, threads: int | None = None, models: ModelClasses = ()) -> None:
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
            self.further = [given.name for given in self.session.get_inputs()[1:]]
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
        self._graph_inputs = self._preparation(models, where) if self.further else None
        self.hyperparameters: dict[str, Any] = {"in_features": self.in_features, "num_classes": self.num_classes}

    def _preparation(self, models: ModelClasses, where: object) -> Prepare:
        """Makes the further inputs, as the model that was exported does."""
        try:
            architecture = self.metadata[ARCHITECTURE]
            refuse_outsized(architecture)
            with torch.device("meta"):  # its settings are needed, its weights are in the graph
                return rebuild_model(architecture, models).graph_preparation()
        except KeyError as error:
            raise CheckpointError(
                f"the graph needs {', '.join(self.further)} and does not say how they are made",
                where=where,
                remedy="Export it again.",
            ) from error

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
        if self.further:
            for cloud in range(clouds):
                real_N = slice(None) if mask is None else mask[cloud]
                assert coords is not None
                logits_BNK[cloud, real_N] = self._run_one(features[cloud][real_N], coords[cloud][real_N])
        elif mask is None:
            size = max(1, POINTS_AT_ONCE // max(1, points))
            for start in range(0, clouds if points else 0, size):
                logits_BNK[start : start + size] = self._run(features[start : start + size])
        else:
            for cloud in range(clouds):
                if bool(mask[cloud].any()):
                    logits_BNK[cloud][mask[cloud]] = self._run(features[cloud][mask[cloud]][None])[0]
        return logits_BNK, features.new_zeros(())

    def _run_one(self, features_nF: Tensor, coords_n3: Tensor) -> Tensor:
        """Of a graph with further inputs, which takes one cloud."""
        if len(features_nF) == 0:
            return features_nF.new_zeros(0, self.num_classes)
        assert self._graph_inputs is not None
        made = self._graph_inputs(coords_n3.detach().cpu().float(), features_nF.detach().cpu().float())
        return self._run(features_nF[None], {name: made[name][None].numpy() for name in self.further})[0]

    def _run(self, features_BNF: Tensor, further: Mapping[str, NDArray[Any]] | None = None) -> Tensor:
        values = np.ascontiguousarray(features_BNF.detach().cpu().float().numpy())
        logits = self.session.run([OUTPUT], {INPUT: values, **(further or {})})[0]
        return torch.from_numpy(logits).to(features_BNF.device)


def load_exported(path: str | Path, models: ModelClasses = ()) -> TrainedModel:
    """Read a `model.onnx` and the `model.yaml` beside it.

    Args:
        path: the file or its folder.
        models: classes of your own that may have been exported, see `OnnxModel`.

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
    model, place = OnnxModel(file, models=models), file.parent / DESCRIPTION
    try:
        description = plain_yaml(place.read_text(encoding="utf-8"))
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
