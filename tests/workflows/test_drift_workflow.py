"""`workflows.drift`, called as a program of one's own calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_tree

from pointseg import workflows
from pointseg.core.errors import ConfigError, Drifted
from pointseg.core.labels import LabelMap
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.store import pack
from pointseg.workflows import ReportConfig


@pytest.fixture
def config(kitti_map: LabelMap, tmp_path: Path) -> ReportConfig:
    """The same scans as new ones and as the training set."""
    tree = write_tree(tmp_path / "kitti")
    pack(SemanticKITTIScans(tree.root, None), tmp_path / "store", kitti_map, processes=1)
    return ReportConfig(drift=str(tree.root), against=str(tmp_path / "store"), output=str(tmp_path / "drift.html"))


def test_the_same_scans_are_like_each_other(config: ReportConfig, tmp_path: Path) -> None:
    result = workflows.drift(config)
    assert (result.drift.verdict, result.drift.named) == ("like the training data", [])
    assert result.page == tmp_path / "drift.html"
    assert "Like the training data" in result.page.read_text(encoding="utf-8")
    assert json.loads(result.record.read_text(encoding="utf-8"))["drifted"] is False


def test_other_scans_have_drifted(config: ReportConfig, tmp_path: Path) -> None:
    for file in tmp_path.glob("kitti/sequences/*/velodyne/*.bin"):
        points = np.fromfile(file, "<f4").reshape(-1, 4)
        points[:, 3] *= 0.1
        points.tofile(file)
    assert workflows.drift(config).drift.named == ["remission"]
    with pytest.raises(Drifted, match="remission"):
        workflows.drift(replace(config, fail_on_drift=True))
    assert workflows.drift(replace(config, remission_scale=0.1)).drift.drifted is False


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"drift": None}, "drift"),
        ({"against": None}, "against"),
        ({"run": "run"}, "run"),
        ({"drift_scans": 0}, "drift_scans"),
        ({"days": 0.0}, "days"),
        ({"days": 2.0, "since": "2026-11-14"}, "days"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-14", "until": "2026-11-13"}, "since=2026-11-14, until=2026-11-13"),
        ({"days": 2.0}, "days"),  # the scans are files
    ],
)
def test_what_contradicts_itself_leaves_no_page(
    changed: dict[str, object], where: str, config: ReportConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        workflows.drift(replace(config, **changed))
    assert refused.value.where == where
    assert not (tmp_path / "drift.html").exists()
