"""A trained model as the folder that a registry keeps: for MLflow's own servers, as it is, or for Triton."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import numpy as np
import yaml

import pointseg
from pointseg.bundle import TrainedModel, save_bundle
from pointseg.data.synthetic import SyntheticScans
from pointseg.errors import ConfigError
from pointseg.extras import needed
from pointseg.files import write_text

__all__ = ["FORMATS", "bundle_sha256", "check_format", "package"]

FORMATS = ("mlflow_model", "custom_model", "triton_model")  # Azure ML's names for kinds of models
EXAMPLE_POINTS = 64
PYFUNC = Path(pointseg.__file__).parent / "serving" / "pyfunc.py"


def package(trained: TrainedModel, folder: Path, form: str) -> Path:
    """Write a trained model in a format of `FORMATS` into `folder`, which must not be there.

    Raises:
        ConfigError: if there is no such format, or triton_model lacks onnx or the model cannot be exported.
        OutputError: if it cannot be written.

    Example:
        >>> package(bundle.load(run_folder), Path("model"), "mlflow_model")  # doctest: +SKIP
    """
    check_format(form)
    if form == "custom_model":
        return save_bundle(folder, trained)
    if form == "triton_model":
        from pointseg.exporting.triton import REPOSITORY, export_triton

        parent = folder.with_name(f"{folder.name}-export")
        export_triton(trained, parent)
        return (parent / REPOSITORY).rename(folder)
    return _pyfunc(save_bundle(folder.with_name("bundle"), trained), folder)


def check_format(form: str) -> None:
    """Refuse what `package` cannot do, before any work.

    Raises:
        ConfigError: see `package`.
    """
    if form not in FORMATS:
        raise ConfigError(f"there is no format {form!r}", where="format", remedy=f"Use {', '.join(FORMATS)}.")
    if form == "triton_model":
        for name in ("onnx", "onnxruntime"):
            needed(name, "export", "triton_model")


def _pyfunc(bundle: Path, folder: Path) -> Path:
    """The bundle with the code that answers: no pickle, and nothing is looked up or installed."""
    import warnings

    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 4))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint32), (-1,))]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice on its own code
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(PYFUNC),
            artifacts={"bundle": str(bundle)},
            signature=signature,
            input_example=example_points(),
            pip_requirements=requirements(),
        )
    _forget_this_machine(folder / "MLmodel")
    return folder


def _forget_this_machine(file: Path) -> None:
    """MLflow notes where the parts came from: folders of ours, which are nobody's business and soon gone."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    flavor = content["flavors"]["python_function"]
    flavor["model_code_path"] = PYFUNC.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def example_points() -> np.ndarray:
    """(64, 4) float32 points of a synthetic street: an example of what the model takes, and nobody's scan."""
    points = SyntheticScans(scans=1, seed=0, beams=16, azimuth_steps=64)[0].points
    return points[np.linspace(0, len(points) - 1, EXAMPLE_POINTS).astype(int)]


def requirements() -> list[str]:
    """What prediction needs, in the versions that are here; torch without its build, such as +cpu."""
    names = ("torch", "numpy", "safetensors", "PyYAML")
    installed = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
    return [f"pointseg=={pointseg.__version__}", *installed]


def bundle_sha256(folder: Path) -> str:
    """Of the names and contents of a bundle's files: the same bundle is known again wherever it lies."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
