"""A trained model as a folder: `weights.safetensors` and `model.yaml`.

`model.yaml` holds plain values only: the architecture, the feature settings, the label map, the inference settings and the
provenance. Reading a bundle, or a Lightning checkpoint of pointseg, executes nothing that the file brings.
Needs torch, NumPy, safetensors and PyYAML; a WaffleIron SciPy, too.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import struct
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pointseg.core.addresses import is_shipped_model, shipped_model
from pointseg.core.errors import CheckpointError, DamagedCheckpoint, OutputError, PointsegError
from pointseg.core.files import expanded, is_file, is_there, write_text
from pointseg.core.labels import LabelMap
from pointseg.core.plain_yaml import as_plain_yaml, plain_yaml
from pointseg.data.features import FeatureSpec
from pointseg.models import ModelClasses, SegmentationModel, describe_model, rebuild_model
from pointseg.models.architectures import MODELS
from pointseg.models.sizes import refuse_other_weights, refuse_outsized

__all__ = [
    "CHECKPOINT_KEY",
    "TrainedModel",
    "check_same_model",
    "find_checkpoint",
    "holds_export",
    "load",
    "load_bundle",
    "load_checkpoint",
    "save_bundle",
]

FORMAT = 1
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.yaml"
EXPORT = "model.onnx"  # takes the place of the weights in what `export` writes
CHECKPOINT_KEY = "pointseg"  # where a Lightning checkpoint keeps what `model.yaml` holds
MODEL_PREFIX = "model."
ZIP_MAGIC = b"PK\x03\x04"  # the first bytes of a file of `torch.save`


@dataclass(frozen=True)
class TrainedModel:
    """A model with everything that prediction needs.

    Attributes:
        model: with its weights, in eval mode.
        features: its input.
        label_map: the meaning of its classes.
        inference: keyword arguments of `Predictor`, such as points per pass.
        provenance: where it comes from, as plain values.
        input_statistics: what the training scans look like, as `quality.input_statistics` writes it, to detect drift; None
            if unknown.
    """

    model: SegmentationModel
    features: FeatureSpec
    label_map: LabelMap
    inference: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    input_statistics: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """Everything but the weights, as plain values: the content of `model.yaml`."""
        known = {} if self.input_statistics is None else {"input_statistics": self.input_statistics}
        return {
            "format": FORMAT,
            "architecture": describe_model(self.model),
            "features": self.features.to_dict(),
            "label_map": self.label_map.to_dict(),
            "inference": dict(self.inference),
            "provenance": dict(self.provenance),
            **known,
        }

    @classmethod
    def from_description(
        cls, description: Any, make: Callable[[FeatureSpec, LabelMap], SegmentationModel], where: Path
    ) -> TrainedModel:
        """The inverse of `describe`, for a model that `make` provides.

        Raises:
            LookupError, TypeError, ValueError, AttributeError, PointsegError: if something is missing or wrong.
        """
        features = FeatureSpec(**description["features"])
        label_map = LabelMap.from_dict(description["label_map"], where=where)
        inference, provenance = dict(description["inference"]), dict(description["provenance"])
        statistics = description.get("input_statistics")  # earlier versions wrote none
        return cls(make(features, label_map).eval(), features, label_map, inference, provenance, statistics)


def save_bundle(folder: str | Path, trained: TrainedModel, *, half: bool = False) -> Path:
    """Write a bundle. The folder appears whole, in place of an older one.

    Args:
        half: store matrices and convolutions, which are nearly all of it, in half precision.

    Raises:
        OutputError: if it cannot be written.
    """
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.model.state_dict().items()}
        if half:  # not the statistics of normalisation, of which some are too large or small for it
            weights = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in weights.items()}
        save_file(weights, temporary / WEIGHTS)
        with open(temporary / WEIGHTS, "rb") as written:
            os.fsync(written.fileno())
        write_description(trained, temporary, weights_sha256=_sha256(temporary / WEIGHTS))
        _replace_folder(temporary, folder)
    except OSError as error:
        raise OutputError(f"the bundle cannot be written ({error.strerror})", where=folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def write_description(trained: TrainedModel, folder: Path, **further: str) -> None:
    """Write `model.yaml`: what `Predictor` needs beside the weights."""
    write_text(folder / DESCRIPTION, as_plain_yaml({**trained.describe(), **further}))


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _replace_folder(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; the old folder is removed only after the new one has its name."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_suffix(".old")
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(path: str | Path) -> Path:
    """What `checkpoint=` names: a `.ckpt` file, a bundle, a run folder (its best checkpoint, else its bundle), or a model
    inside this package by its name.

    Raises:
        CheckpointError: if there is none.
    """
    if is_shipped_model(path):
        return shipped_model(path)
    given = expanded(path)
    if is_file(given) or is_file(given / DESCRIPTION):
        return given
    for candidate in (given / "checkpoints" / "best.ckpt", given / "bundle", given / "checkpoints" / "last.ckpt"):
        if is_there(candidate):
            return candidate
    raise CheckpointError(
        "there is no checkpoint" if is_there(given) else "the checkpoint does not exist",
        where=path,
        remedy="Name a .ckpt file, a run folder with checkpoints/, a bundle with model.yaml, or street.",
    )


def holds_export(path: str | Path) -> bool:
    """Whether a path names an exported ONNX model rather than a torch model."""
    if is_shipped_model(path):
        return False
    path = expanded(path)
    return path.suffix == ".onnx" or (is_file(path / EXPORT) and not is_file(path / WEIGHTS))


def load(path: str | Path, models: ModelClasses = ()) -> TrainedModel:
    """The model that `checkpoint=` names (see `find_checkpoint`).

    Args:
        models: model classes, or their dotted names, that are allowed in addition to those of this package and of installed
            packages.

    Raises:
        CheckpointError: if it is missing, damaged, of another kind, or brings code.

    Example:
        >>> trained = load("outputs/2026-11-21/10-15-00")
    """
    checkpoint = find_checkpoint(path)
    return load_bundle(checkpoint, models) if checkpoint.is_dir() else load_checkpoint(checkpoint, models)


def load_bundle(folder: str | Path, models: ModelClasses = ()) -> TrainedModel:
    """Read a bundle folder; `models` as for `load`."""
    folder = Path(folder)
    try:
        description = plain_yaml((folder / DESCRIPTION).read_text(encoding="utf-8"))
        _refuse_other_content(folder / WEIGHTS, description)
        weights = load_file(folder / WEIGHTS)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"the bundle cannot be read ({error})", where=folder, remedy="Export it again from its run folder."
        ) from error
    return _assemble(description, weights, folder, models)


def _refuse_other_content(file: Path, description: Any) -> None:
    """Raise CheckpointError if a file is not the one that was written; bundles of version 0.1 and before do not say."""
    expected = description.get("weights_sha256") if isinstance(description, dict) else None
    if expected is not None and expected != _sha256(file):
        raise CheckpointError(
            "the weights are not those that were written: they are damaged, or were changed",
            where=file,
            remedy="Copy the bundle again, or export it again from its run folder.",
        )


def load_checkpoint(path: str | Path, models: ModelClasses = ()) -> TrainedModel:
    """Read the model from a Lightning checkpoint of pointseg; `models` as for `load`."""
    content = read_checkpoint(path)
    state = content.get("state_dict")
    state = state if isinstance(state, dict) else {}
    weights = {name.removeprefix(MODEL_PREFIX): t for name, t in state.items() if name.startswith(MODEL_PREFIX)}
    return _assemble(content[CHECKPOINT_KEY], weights, Path(path), models)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The whole content of a Lightning checkpoint of pointseg, on the CPU, without executing code.

    Raises:
        CheckpointError: if it is missing, cut off, damaged, not a checkpoint of pointseg, or brings code.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
                raise DamagedCheckpoint("not a checkpoint", where=path, remedy="Name a .ckpt that pointseg wrote.")
        if (damaged := _damaged_part(path)) is not None:
            raise ValueError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "the checkpoint holds more than tensors and plain values and could run code, so it is not loaded",
            where=path,
            remedy="Use a checkpoint that pointseg wrote, from a source you trust.",
        ) from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedCheckpoint(
            f"the checkpoint cannot be read ({reason})", where=path, remedy="It is cut off or damaged; copy it again."
        ) from error
    if not isinstance(content, dict) or CHECKPOINT_KEY not in content:
        raise CheckpointError(
            "not a checkpoint of pointseg", where=path, remedy="Name a .ckpt that `python -m pointseg.train` wrote."
        )
    return content


def _damaged_part(path: Path) -> str | None:
    """The part of a checkpoint whose bytes do not have the check sum that was written with them (CRC-32), which torch
    writes and does not look at; None if all have."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError, struct.error) as error:
        raise ValueError(f"no whole archive: {error}") from error


def _assemble(description: Any, weights: Mapping[str, Tensor], where: Path, models: ModelClasses) -> TrainedModel:
    def make(features: FeatureSpec, label_map: LabelMap) -> SegmentationModel:
        architecture = description["architecture"]
        refuse_outsized(architecture)
        if architecture.get("name") in MODELS:  # a class of the caller's is trusted, and may need real tensors
            refuse_other_weights(lambda: rebuild_model(architecture), weights)
        model = rebuild_model(architecture, models)
        model.load_state_dict(dict(weights))
        broken = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
        if broken:
            raise CheckpointError(
                f"{len(broken)} of its tensors hold values that are not finite, the first is {broken[0]}",
                where=where,
                remedy="The training diverged: train again, with a lower optimizer.lr.",
            )
        if (model.in_features, model.num_classes) != (len(features), label_map.num_classes):
            raise ValueError(
                f"the model has {model.in_features} features and {model.num_classes} classes, the description "
                f"{len(features)} and {label_map.num_classes}"
            )
        return model

    try:
        if description["format"] != FORMAT:
            raise CheckpointError(
                f"the file has format {description['format']!r}, and this version reads {FORMAT}",
                where=where,
                remedy="Use the version of pointseg that wrote it.",
            )
        return TrainedModel.from_description(description, make, where)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the model does not fit its description ({type(error).__name__}: {reason})",
            where=where,
            remedy="The file is damaged or was changed by hand.",
        ) from error
    except PointsegError as error:
        raise CheckpointError(error.what, where=where, remedy=error.remedy) from error


def check_same_model(saved: Any, present: dict[str, Any]) -> None:
    """Refuse to resume with weights of another architecture, class set or feature set.

    Args:
        saved, present: `TrainedModel.describe()` of the checkpoint and of the configured model.

    Raises:
        CheckpointError: naming what differs.
    """
    for part in ("architecture", "label_map", "features"):
        before, now = (saved or {}).get(part), present[part]
        if part == "label_map" and before is not None:
            before, now = LabelMap.from_dict(before).hash, LabelMap.from_dict(now).hash
        if before != now:
            raise CheckpointError(
                f"the checkpoint has another {part.replace('_', ' ')}{_difference(before, now)}",
                where=part,
                remedy="Resume with the run's own settings, or start a new run.",
            )


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return " (" + "; ".join(f"{key}: {before.get(key)} in it, {now.get(key)} here" for key in keys) + ")"
