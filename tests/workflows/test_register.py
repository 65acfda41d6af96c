"""`workflows.register` and `workflows.promote`, called as a program of one's own calls them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from registry_helpers import always
from verbs import empty_database

from pointseg import workflows
from pointseg.core.errors import BelowGate, ConfigError, NotPromoted
from pointseg.core.labels import LabelMap
from pointseg.core.targets import target
from pointseg.data import SyntheticDataModule
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.workflows import RegisterConfig
from pointseg.workflows.settings.shared import GateConfig, TrackingConfig

WORLD = target(SyntheticDataModule, scans={"train": 2, "val": 1, "test": 1}, azimuth_steps=64, beams=16)


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> RegisterConfig:
    """A registry of its own."""
    (tmp_path / "mlruns.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    store = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlruns.db")
    return RegisterConfig(tracking=store, name="street", format="custom_model", accelerator="cpu")


def test_a_version_and_its_record(config: RegisterConfig, trained: TrainedModel, tmp_path: Path) -> None:
    run = str(save_bundle(tmp_path / "model", trained))
    registered = workflows.register(replace(config, run=run), folder=tmp_path / "here")
    assert (registered.version.number, registered.promoted) == ("1", None)
    assert registered.version.tags["label_map.name"] == "semantickitti"
    record = json.loads((tmp_path / "here/registration.json").read_text())
    assert (record["version"], record["format"]) == ("1", "custom_model")


def test_the_better_of_two_gets_the_alias(config: RegisterConfig, kitti_map: LabelMap, tmp_path: Path) -> None:
    for name in ("vegetation", "road"):  # of the scan more points are road
        workflows.register(replace(config, run=str(always(tmp_path / name, name, kitti_map))))
    first = workflows.promote(replace(config, version=1))
    assert (first.decision, first.champion, first.alias) == ("promoted", None, "champion")
    wanted = replace(config, data=WORLD, class_margin=1.0, bootstrap=100)
    second = workflows.promote(wanted, folder=tmp_path / "here")
    assert (second.version.number, second.decision, second.champion) == ("2", "promoted", "1")
    assert second.judgement is not None
    assert second.judgement.overall.candidate > second.judgement.overall.champion > 0
    assert json.loads((tmp_path / "here/promotion.json").read_text())["decision"] == "promoted"
    assert workflows.promote(wanted).decision == "unchanged"
    with pytest.raises(NotPromoted, match="version 1 is not promoted: mIoU"):
        workflows.promote(replace(wanted, version=1))
    forced = workflows.register(replace(wanted, promote="champion", version=1, force=True)).promoted
    assert forced is not None
    assert (forced.decision, len(forced.reasons)) == ("forced", 1)


def test_a_model_below_the_gate_is_not_registered(
    config: RegisterConfig, trained: TrainedModel, tmp_path: Path
) -> None:
    scores = {"miou": 0.2, "miou_present": 0.4, "accuracy": 0.6, "points": 5, "scans": 1, "iou": {}, "support": {}}
    (tmp_path / "metrics.json").write_text(json.dumps(scores))
    run = str(save_bundle(tmp_path / "model", trained))
    wanted = replace(config, run=run, scores=str(tmp_path), gate=GateConfig(miou=0.25))
    with pytest.raises(BelowGate, match=r"miou 0.2000 is below 0.25"):
        workflows.register(wanted)
    assert workflows.register(replace(wanted, gate=GateConfig(miou=0.15))).version.number == "1"


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({}, "run"),
        ({"run": "models:/street/1"}, "run=models:/street/1"),
        ({"run": "run", "version": 3}, "version"),
        ({"promote": "champion", "version": 0}, "version"),
        ({"run": "run", "format": "pickle"}, "format"),
        ({"run": "run", "gate": GateConfig(accuracy=2.0)}, "gate.accuracy"),
        ({"promote": "champion"}, "street@candidate"),
        ({"promote": "champion", "version": 1, "margin": 2.0}, "margin"),
        ({"promote": "champion", "version": 1, "bootstrap": 5}, "bootstrap"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, object], where: str, config: RegisterConfig) -> None:
    with pytest.raises(ConfigError) as refused:
        workflows.register(replace(config, **changed))
    assert refused.value.where == where


def test_a_run_is_registered_before_it_is_promoted(config: RegisterConfig) -> None:
    with pytest.raises(ConfigError, match="register"):
        workflows.promote(replace(config, run="run"))
