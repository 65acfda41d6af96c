"""Package a trained model as a folder for the registry: for MLflow's servers, as a plain bundle, or for Triton."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from pointseg.core.errors import ConfigError
from pointseg.core.files import write_text
from pointseg.core.optional_packages import needed
from pointseg.core.package import FOLDER
from pointseg.data.synthetic import SyntheticScans
from pointseg.engine.bundle import TrainedModel, save_bundle

__all__ = ["MODEL_FORMATS", "bundle_sha256", "check_format", "package"]

MODEL_FORMATS = ("mlflow_model", "custom_model", "triton_model")  # Azure ML's names for kinds of models
EXAMPLE_POINTS = 64
PREDICTS = ("core", "data", "models", "engine")  # rooms of the package that prediction needs
PYFUNC = FOLDER / "tracking" / "pyfunc.py"


def package(
    trained: TrainedModel, folder: Path, form: str, *, triton: Callable[[TrainedModel, Path], Path] | None = None
) -> Path:
    """Write a trained model in a format of `MODEL_FORMATS` into `folder`, which must not exist.

    Args:
        triton: writes a Triton model repository of the model into a folder and returns its place; for triton_model.

    Raises:
        ConfigError: if there is no such format, onnx is missing for triton_model, or the model cannot be exported.
        OutputError: if it cannot be written.
    """
    check_format(form)
    if form == "custom_model":
        return save_bundle(folder, trained)
    if form == "triton_model":
        if triton is None:
            raise ConfigError("nothing writes a Triton repository", where="format", remedy="Pass `triton`.")
        return triton(trained, folder.with_name(f"{folder.name}-export")).rename(folder)
    return _pyfunc(save_bundle(folder.with_name("bundle"), trained), folder, len(trained.features.extra))


def check_format(form: str) -> None:
    """Raise the ConfigError of `package` before any work."""
    if form not in MODEL_FORMATS:
        raise ConfigError(f"there is no format {form!r}", where="format", remedy=f"Use {', '.join(MODEL_FORMATS)}.")
    if form == "triton_model":
        for name in ("onnx", "onnxruntime"):
            needed(name, "export", "triton_model")


def _pyfunc(bundle: Path, folder: Path, extra: int) -> Path:
    """The bundle with the code that serves it, without a pickle; `extra` is its number of further sensor columns.

    The code goes along, for pointseg is on no package index: an environment of what the model names is enough to serve it.
    """
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 4 + extra))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint32), (-1,))]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice on its own code
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(PYFUNC),
            artifacts={"bundle": str(bundle)},
            signature=signature,
            input_example=example_points(extra),
            pip_requirements=requirements(),
            code_paths=[str(_own_code(folder.with_name("code")))],
        )
    _forget_this_machine(folder / "MLmodel")
    return folder


def _own_code(folder: Path) -> Path:
    """What a `Predictor` needs of this package, in a folder of its name."""
    place = folder / FOLDER.name
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc", "shipped_models")
    for room in PREDICTS:
        shutil.copytree(FOLDER / room, place / room, ignore=skipped)
    for file in FOLDER.glob("*.py"):
        if file.stem in ("__init__", "errors"):  # the others are commands
            shutil.copy2(file, place)
    return place


def _forget_this_machine(file: Path) -> None:
    """Remove the local folders that MLflow records as the origin of the parts: private, and soon gone."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    flavor = content["flavors"]["python_function"]
    flavor["model_code_path"] = PYFUNC.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def example_points(extra: int = 0) -> np.ndarray:
    """(64, 4 + extra) float32 points of a synthetic street, with zeros as further columns: an example input."""
    points = SyntheticScans(scans=1, seed=0, beams=16, azimuth_steps=64)[0].points
    chosen = points[np.linspace(0, len(points) - 1, EXAMPLE_POINTS).astype(int)]
    return np.pad(chosen, ((0, 0), (0, extra)))


def requirements() -> list[str]:
    """The packages that prediction needs, in their installed versions; torch without its build, such as +cpu."""
    names = ("torch", "numpy", "scipy", "safetensors", "PyYAML")
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def bundle_sha256(folder: Path) -> str:
    """A hash of the names and contents of a bundle's files, wherever the bundle is."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
