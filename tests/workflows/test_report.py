"""`workflows.report`, called as a program of one's own calls it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import KittiTree, small_model

from pointseg import workflows
from pointseg.core.errors import ConfigError
from pointseg.core.targets import target
from pointseg.data import SemanticKITTIDataModule
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.workflows import EvaluateConfig, ReportConfig


@pytest.fixture
def config(trained: TrainedModel, shared_tree: KittiTree, tmp_path: Path) -> ReportConfig:
    split = {"train": [0], "val": [8], "test": []}
    data = target(SemanticKITTIDataModule, root=str(shared_tree.root), split=split)
    return ReportConfig(
        checkpoint=str(save_bundle(tmp_path / "model", trained)), data=data, scans_shown=0, worst=0, bootstrap=100
    )


def test_the_page_and_the_scores(config: ReportConfig, tmp_path: Path) -> None:
    reported = workflows.report(config, folder=tmp_path / "command")
    assert reported.page == tmp_path / "command/report.html"
    assert f"{100 * reported.scores.miou:.1f} %" in reported.page.read_text(encoding="utf-8")
    evaluated = workflows.evaluate(
        EvaluateConfig(checkpoint=config.checkpoint, data=config.data, output=str(tmp_path / "scores"))
    )
    assert evaluated is not None
    assert reported.scores.miou == evaluated.scores.miou
    assert reported.against is None


def test_two_models_are_scored_on_the_same_scans(config: ReportConfig, trained: TrainedModel, tmp_path: Path) -> None:
    other = replace(trained, model=small_model(len(trained.features), seed=1))
    config.against = str(save_bundle(tmp_path / "other", other))
    config.output = str(tmp_path / "pages" / "two.html")
    reported = workflows.report(config)
    assert reported.against is not None
    assert reported.against.names == reported.assessment.names
    assert reported.against.scores.miou != reported.scores.miou
    assert str(tmp_path / "other") in reported.page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "value"), [("worst", 9), ("bootstrap", 10), ("seed", -1), ("split", "all"), ("accelerator", "tpu")]
)
def test_what_cannot_be_is_refused_before_work(key: str, value: object, config: ReportConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        workflows.report(replace(config, **{key: value}), folder=tmp_path / "command")
    assert refused.value.where == key
    assert not (tmp_path / "command").exists()
