"""Models, scans and calls of the tests of batch endpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from conftest import KittiTree, small_model, write_tree
from verbs import Done, run

from pointseg.bundle import TrainedModel, save_bundle
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap

ENDPOINT = "street-batch"


def write_bundle(folder: Path, seed: int = 0) -> Path:
    features = FeatureSpec(use=("x", "y", "z", "remission", "range", "height", "extent", "count"))
    inference = {"points_per_pass": 700, "votes": 1, "remission_mean": 0.25}
    model = small_model(len(features), seed=seed)
    return save_bundle(folder, TrainedModel(model, features, LabelMap.load("semantickitti"), inference))


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
