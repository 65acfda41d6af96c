"""A trained model as a folder: `weights.safetensors` and `model.yaml`.

`model.yaml` holds plain values only: the architecture, the feature settings, the label map, how to infer, and where the
model comes from. Reading a bundle, or a Lightning checkpoint of ours, executes nothing that the file brings.
Needs torch, NumPy, safetensors and PyYAML.
"""

from __future__ import annotations

import os
import pickle
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pointseg.errors import CheckpointError, OutputError, PointsegError
from pointseg.features import FeatureSpec
from pointseg.files import expanded, is_file, is_there
from pointseg.labels import LabelMap
from pointseg.models import SegmentationModel, build, describe

__all__ = [
    "CHECKPOINT_KEY",
    "TrainedModel",
    "find_checkpoint",
    "holds_export",
    "load",
    "load_bundle",
    "load_checkpoint",
    "save_bundle",
]

FORMAT = 1
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.yaml"
EXPORT = "model.onnx"  # in the place of the weights, of what `export` has written
CHECKPOINT_KEY = "pointseg"  # where a Lightning checkpoint keeps what `model.yaml` holds
MODEL_PREFIX = "model."
ZIP_MAGIC = b"PK\x03\x04"  # what a file of `torch.save` begins with


@dataclass(frozen=True)
class TrainedModel:
    """A model with all that prediction needs.

    Attributes:
        model: with its weights, in eval mode.
        features: what it sees.
        label_map: what its classes are.
        inference: keyword arguments of `Predictor`, such as points per pass.
        provenance: where it comes from: plain values for people and tables.
        input_statistics: what the training scans look like, as `pointseg.data.statistics` writes it, to tell whether new
            scans do; None where it is not known.
    """

    model: SegmentationModel
    features: FeatureSpec
    label_map: LabelMap
    inference: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    input_statistics: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """All but the weights, as plain values."""
        known = {} if self.input_statistics is None else {"input_statistics": self.input_statistics}
        return {
            "format": FORMAT,
            "architecture": describe(self.model),
            "features": self.features.to_dict(),
            "label_map": self.label_map.to_dict(),
            "inference": dict(self.inference),
            "provenance": dict(self.provenance),
            **known,
        }


def save_bundle(folder: str | Path, trained: TrainedModel) -> Path:
    """Write a bundle: the folder appears whole, in place of an older one.

    Raises:
        OutputError: if it cannot be written.
    """
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.model.state_dict().items()}
        save_file(weights, temporary / WEIGHTS)
        text = yaml.safe_dump(trained.describe(), sort_keys=False, allow_unicode=True)
        (temporary / DESCRIPTION).write_text(text, encoding="utf-8")
        for file in temporary.iterdir():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        _exchange(temporary, folder)
    except OSError as error:
        raise OutputError(f"the bundle cannot be written ({error.strerror})", where=folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _exchange(new: Path, folder: Path) -> None:
    """Rename a folder to `folder`; the older one goes only after the new one has its name."""
    if not folder.exists():
        new.rename(folder)
        return
    older = new.with_suffix(".old")
    folder.rename(older)
    try:
        new.rename(folder)
    except OSError:
        older.rename(folder)
        raise
    shutil.rmtree(older, ignore_errors=True)


def find_checkpoint(path: str | Path) -> Path:
    """What `checkpoint=` names: a `.ckpt` file, a bundle, or a run folder (its best checkpoint, else its bundle).

    Raises:
        CheckpointError: if there is none.
    """
    given = expanded(path)
    if is_file(given) or is_file(given / DESCRIPTION):
        return given
    for candidate in (given / "checkpoints" / "best.ckpt", given / "bundle", given / "checkpoints" / "last.ckpt"):
        if is_there(candidate):
            return candidate
    raise CheckpointError(
        "there is no checkpoint" if is_there(given) else "the checkpoint does not exist",
        where=path,
        remedy="Name a .ckpt file, a run folder with checkpoints/, or a bundle with model.yaml.",
    )


def holds_export(path: str | Path) -> bool:
    """Whether a path names what `export` has written, which ONNX Runtime reads, rather than a model of torch."""
    path = expanded(path)
    return path.suffix == ".onnx" or (is_file(path / EXPORT) and not is_file(path / WEIGHTS))


def load(path: str | Path) -> TrainedModel:
    """The model that `checkpoint=` names (see `find_checkpoint`).

    Raises:
        CheckpointError: if it is missing, damaged, of another kind, or brings code.

    Example:
        >>> trained = load("outputs/2026-11-21/10-15-00")
    """
    found = find_checkpoint(path)
    return load_bundle(found) if found.is_dir() else load_checkpoint(found)


def load_bundle(folder: str | Path) -> TrainedModel:
    """Read a bundle folder."""
    folder = Path(folder)
    try:
        description = yaml.safe_load((folder / DESCRIPTION).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointError(
            f"the bundle cannot be read ({error})", where=folder, remedy="Export it again from its run folder."
        ) from error
    return _assemble(description, weights, folder)


def load_checkpoint(path: str | Path) -> TrainedModel:
    """Read the model out of a Lightning checkpoint of ours."""
    content = read_checkpoint(path)
    state = content.get("state_dict")
    state = state if isinstance(state, dict) else {}
    weights = {name.removeprefix(MODEL_PREFIX): t for name, t in state.items() if name.startswith(MODEL_PREFIX)}
    return _assemble(content[CHECKPOINT_KEY], weights, Path(path))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The whole content of a Lightning checkpoint of ours, on the CPU, without executing code.

    Raises:
        CheckpointError: if it is missing, cut off, no checkpoint of pointseg, or brings code.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
                raise CheckpointError("not a checkpoint", where=path, remedy="Name a .ckpt that pointseg wrote.")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "the checkpoint holds more than tensors and plain values, and is not loaded: it could run code",
            where=path,
            remedy="Use a checkpoint that pointseg wrote, from a source you trust.",
        ) from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(
            f"the checkpoint cannot be read ({reason})", where=path, remedy="It is cut off or damaged; copy it again."
        ) from error
    if not isinstance(content, dict) or CHECKPOINT_KEY not in content:
        raise CheckpointError(
            "not a checkpoint of pointseg", where=path, remedy="Name a .ckpt that `python -m pointseg.train` wrote."
        )
    return content


def _assemble(description: Any, weights: Mapping[str, Tensor], where: Path) -> TrainedModel:
    try:
        if description["format"] != FORMAT:
            raise CheckpointError(
                f"format {description['format']!r}, and this version reads {FORMAT}",
                where=where,
                remedy="Use the version of pointseg that wrote it.",
            )
        model = build(description["architecture"])
        model.load_state_dict(dict(weights))
        features = FeatureSpec(**description["features"])
        label_map = LabelMap.from_dict(description["label_map"], where=where)
        inference, provenance = dict(description["inference"]), dict(description["provenance"])
        statistics = description.get("input_statistics")  # bundles of earlier versions have none
        if (model.in_features, model.num_classes) != (len(features), label_map.num_classes):
            raise ValueError(
                f"the model has {model.in_features} features and {model.num_classes} classes, the description "
                f"{len(features)} and {label_map.num_classes}"
            )
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the model does not fit its description ({type(error).__name__}: {reason})",
            where=where,
            remedy="The file is damaged or was changed by hand.",
        ) from error
    except PointsegError as error:
        raise CheckpointError(error.what, where=where, remedy=error.remedy) from error
    return TrainedModel(model.eval(), features, label_map, inference, provenance, statistics)
