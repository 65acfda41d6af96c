"""What a container of Azure ML holds: the model, what it is called, the cores it may use, and the settings it is given."""

from __future__ import annotations

import os
from pathlib import Path

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.processes import usable_cores
from pointseg.engine.bundle import DESCRIPTION, WEIGHTS, TrainedModel
from pointseg.engine.prediction.output import model_identity

__all__ = ["available_cores", "find_bundle", "model_of", "number_setting", "switch_setting", "threads_of_worker"]

DEPTH = 4  # folders down: Azure mounts a model below its own name, an MLflow model has model/artifacts/bundle
REGISTERED = "azureml-models"  # /var/azureml-app/azureml-models/NAME/VERSION
CONTROL_GROUP = Path("/sys/fs/cgroup")  # where a container's limit stands


def find_bundle(folder: str | Path) -> Path:
    """The one bundle in a folder, or within the folders in it.

    Raises:
        CheckpointError: if there is none, or more than one.

    Example:
        >>> find_bundle(os.environ["AZUREML_MODEL_DIR"])
        PosixPath('/var/azureml-app/azureml-models/street/3/bundle')
    """
    if not str(folder):
        raise CheckpointError(
            "no model is named", where="AZUREML_MODEL_DIR", remedy="Set it to a folder with a bundle in it."
        )
    given = Path(folder)
    if not given.is_dir():
        remedy = "Copy or mount a bundle there."
        raise CheckpointError("the model's folder does not exist", where=f"AZUREML_MODEL_DIR={folder}", remedy=remedy)
    level, found = [given], []
    for _ in range(DEPTH + 1):
        found += [place for place in level if all((place / name).is_file() for name in (DESCRIPTION, WEIGHTS))]
        level = [below for place in level if place not in found for below in sorted(place.iterdir()) if below.is_dir()]
    if not found:
        raise CheckpointError(
            f"there is no bundle ({DESCRIPTION} with {WEIGHTS})",
            where=f"AZUREML_MODEL_DIR={folder}",
            remedy="Register the bundle/ folder of a run.",
        )
    if len(found) > 1:
        names = ", ".join(str(place.relative_to(given)) for place in found)
        raise CheckpointError(
            f"there are {len(found)} bundles ({names}), and which one to serve is not said",
            where=f"AZUREML_MODEL_DIR={folder}",
            remedy="Name the folder of one.",
        )
    return found[0]


def model_of(bundle: Path, trained: TrainedModel) -> dict[str, str]:
    """What callers are told: name and version of a model registered with Azure, by where it is mounted; elsewhere the
    architecture, and the beginning of the SHA-256 that stands for weights and settings."""
    identity = model_identity(trained)
    name, version = trained.model.title, identity[:12]
    parts = bundle.resolve().parts
    if REGISTERED in parts[:-2]:
        place = parts.index(REGISTERED)
        name, version = parts[place + 1 : place + 3]
    return {"name": name, "version": version, "sha256": identity}


def threads_of_worker(default: int) -> int:
    """Cores for each of the server's WORKER_COUNT processes, so that together they use no more than there are.

    Args:
        default: threads that torch would use, which are taken where OMP_NUM_THREADS has said so.
    """
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return default
    workers = os.environ.get("WORKER_COUNT", "1")
    return max(1, available_cores() // max(1, int(workers) if workers.isdecimal() else 1))


def available_cores(control_group: Path = CONTROL_GROUP) -> int:
    """Cores that this process may run on, within the limit of its container."""
    cores = usable_cores()
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # of either version
        try:
            words = " ".join((control_group / name).read_text(encoding="ascii") for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            cores = min(cores, max(1, quota // period))
    return cores


def switch_setting(name: str) -> bool:
    """Whether a variable of the environment says true or 1."""
    return os.environ.get(name, "").lower() in ("true", "1")


def number_setting(name: str, default: float, *, may_be_zero: bool = False) -> float:
    """The number in a variable of the environment.

    Raises:
        ConfigError: if it is none, infinite, negative, or zero where that makes no sense.
    """
    text = os.environ.get(name, "")
    try:
        value = float(text or default)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (value == 0 and not may_be_zero):
        kind = "no number" if may_be_zero else "no number above 0"
        raise ConfigError(f"{text!r} is {kind}", where=name, remedy="Mend the setting, or leave it out.")
    return value
