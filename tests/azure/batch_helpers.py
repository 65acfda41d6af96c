"""Models, scans and calls of the tests of batch endpoints."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conftest import KittiTree, small_model, write_tree
from verbs import Done, run

from pointseg.azure.endpoints.batch import BatchSettings
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.workflows.settings.deploy import BatchConfig

ENDPOINT = "street-batch"


def write_bundle(folder: Path, seed: int = 0) -> Path:
    features = FeatureSpec(use=("x", "y", "z", "remission", "range", "height", "extent", "count"))
    inference = {"points_per_pass": 700, "votes": 1, "remission_mean": 0.25}
    model = small_model(len(features), seed=seed)
    return save_bundle(folder, TrainedModel(model, features, LabelMap.load("semantickitti"), inference))


def batch_settings(**changes: Any) -> BatchSettings:
    """Those of `batch` with nothing but defaults, and these changes."""
    names = BatchSettings.__dataclass_fields__
    return BatchSettings(**{**{key: value for key, value in asdict(BatchConfig()).items() if key in names}, **changes})


def write_scans(folder: Path, damaged: bool = False) -> KittiTree:
    """Two sequences of three scans each; with `damaged`, one of them is cut off."""
    tree = write_tree(folder, ("00", "08"))
    if damaged:
        tree.bin("08/000003").write_bytes(b"seven b")
    return tree


def deploy(here: Path, *words: str) -> Done:
    return run("deploy", "target=batch", f"endpoint={ENDPOINT}", *words, cwd=here)


def invoke(here: Path, *words: str) -> Done:
    return run("invoke", f"endpoint=batch:{ENDPOINT}", *words, cwd=here)


def default_of(client: Any, endpoint: str = ENDPOINT) -> str | None:
    return getattr(client.batch_endpoints.get(endpoint).defaults, "deployment_name", None)


def deployments_of(client: Any, endpoint: str = ENDPOINT) -> dict[str, str]:
    return {one.name: one.provisioning_state for one in client.batch_deployments.list(endpoint)}


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
