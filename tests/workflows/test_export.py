"""`workflows.export`, called as a program of one's own calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import KittiTree, scan_points

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
