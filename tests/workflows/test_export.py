"""`workflows.export`, called as a program of one's own calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import KittiTree, scan_points
from safetensors.torch import load_file

from pointseg import workflows
from pointseg.core.errors import ConfigError
from pointseg.core.targets import target
from pointseg.data import SemanticKITTIDataModule
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.workflows import ExportConfig


@pytest.fixture
def config(trained: TrainedModel, shared_tree: KittiTree, tmp_path: Path) -> ExportConfig:
    split = {"train": [0], "val": [8], "test": []}
    data = target(SemanticKITTIDataModule, root=str(shared_tree.root), split=split)
    return ExportConfig(
        checkpoint=str(save_bundle(tmp_path / "model", trained)), data=data, output=str(tmp_path / "out")
    )


def test_a_model_is_exported_and_compared(config: ExportConfig, tmp_path: Path) -> None:
    exported = workflows.export(config)
    assert exported.model == tmp_path / "out/model.onnx"
    assert [file.name for file in exported.files] == ["model.onnx", "model.yaml", "export.json"]
    assert all(file.is_file() for file in exported.files)
    assert max(exported.check.difference.values()) < 1e-3
    assert exported.comparison is not None
    assert (exported.comparison.scans, exported.comparison.agreement) == (3, 1.0)
    assert json.loads((tmp_path / "out/export.json").read_text())["comparison"]["agreement"] == 1.0
    points = scan_points(300, seed=1)
    assert np.array_equal(Predictor.load(exported.model)(points), Predictor.load(str(config.checkpoint))(points))


def test_half_precision_is_half_the_size_and_gives_the_labels(config: ExportConfig, tmp_path: Path) -> None:
    exported = workflows.export(replace(config, format="half"))
    assert exported.model == tmp_path / "out/bundle/weights.safetensors"
    assert exported.check is None
    assert exported.comparison is not None
    assert exported.comparison.agreement > 0.98
    assert all(file.is_file() for file in exported.files)
    stored = load_file(exported.model)
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() > 1} == {torch.float16}
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() == 1} == {torch.float32}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []
    points, before = scan_points(300, seed=1), Predictor.load(str(config.checkpoint))
    after = Predictor.load(tmp_path / "out/bundle")
    assert next(after.model.parameters()).dtype == torch.float32
    assert np.mean(after(points) == before(points)) > 0.98


def test_half_precision_that_changes_labels_is_refused_and_leaves_nothing(config: ExportConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"in half precision only .* of the points keep their class"):
        workflows.export(replace(config, format="half", min_agreement=1.1))
    assert not (tmp_path / "out").exists()


def test_the_run_folder_takes_it_where_no_output_is_named(config: ExportConfig, tmp_path: Path) -> None:
    exported = workflows.export(replace(config, format="triton", output=None, scans=0), folder=tmp_path / "run")
    assert exported.model == tmp_path / "run/model_repository/pointnetseg/1/model.onnx"
    assert exported.comparison is None
    assert tmp_path / "run/model_repository/pointnetseg/config.pbtxt" in exported.files


@pytest.mark.parametrize(("key", "value"), [("checkpoint", None), ("format", "tritn"), ("split", "all"), ("scans", -1)])
def test_what_cannot_be_is_refused_before_work(key: str, value: object, config: ExportConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        workflows.export(replace(config, **{key: value}))
    assert refused.value.where == key
    assert not (tmp_path / "out").exists()
