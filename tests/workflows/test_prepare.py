"""`workflows.prepare`, called as a program of one's own calls it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import KittiTree

from pointseg import workflows
from pointseg.core.errors import ConfigError, InvalidData, PointsegError
from pointseg.data.store import PackedStore
from pointseg.workflows import PrepareConfig, SyntheticConfig
from pointseg.workflows.settings.prepare import CheckConfig


@pytest.fixture
def config(tree: KittiTree, tmp_path: Path) -> PrepareConfig:
    """Frames are missing from the tree, as in a part of a data set."""
    check = CheckConfig(allow_gaps=True)
    return PrepareConfig(input=str(tree.root), output=str(tmp_path / "store"), check=check, processes=1, report=False)


def test_raw_scans_are_checked_and_packed(config: PrepareConfig, tmp_path: Path) -> None:
    prepared = workflows.prepare(config)
    assert prepared.store is not None and prepared.validation is not None
    assert prepared.validation.ok
    assert (prepared.scans, prepared.output) == (6, tmp_path / "store")
    assert [page.name for page in prepared.pages] == ["validation.json", "validation.html", "manifest.json"]
    assert PackedStore(str(tmp_path / "store")).header.scans == 6


def test_surroundings_are_kept_or_not(config: PrepareConfig) -> None:
    with_them = workflows.prepare(replace(config, sequences=["08"])).store
    without = workflows.prepare(replace(config, sequences=[8], surroundings=None, output=f"{config.output}-2")).store
    assert with_them is not None and without is not None
    assert (with_them.header.scans, without.header.scans) == (3, 3)
    assert any("surroundings" in file.name for file in with_them.header.files)
    assert not any("surroundings" in file.name for file in without.header.files)


def test_a_synthetic_data_set(tmp_path: Path) -> None:
    streets = SyntheticConfig(scans=3, beams=16, azimuth_steps=64)
    prepared = workflows.prepare(PrepareConfig(synthetic=streets, output=str(tmp_path / "raw"), processes=1))
    assert prepared.scans == len(list(tmp_path.glob("raw/sequences/*/velodyne/*.bin"))) == 3
    assert (prepared.store, prepared.validation) == (None, None)


def test_a_bad_file_stops_or_is_left_out(config: PrepareConfig, tree: KittiTree, tmp_path: Path) -> None:
    tree.bin("00/000003").write_bytes(b"123")
    with pytest.raises(InvalidData, match="1 file cannot be used"):
        workflows.prepare(config)
    assert not (tmp_path / "store/index.npz").exists()
    assert workflows.prepare(replace(config, on_error="skip")).scans == 5


def test_a_validation_writes_its_report_into_the_run_folder(config: PrepareConfig, tmp_path: Path) -> None:
    prepared = workflows.prepare(replace(config, validate=True, output=None), folder=tmp_path / "run")
    assert (prepared.scans, prepared.store, prepared.output) == (6, None, tmp_path / "run")
    assert (tmp_path / "run/validation.html").is_file()


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"input": None}, "input"),
        ({"synthetic": SyntheticConfig(scans=3)}, "input"),
        ({"synthetic": SyntheticConfig(beams=32)}, "input"),  # of what would not be made
        ({"output": None}, "output"),
        ({"format": "parkett"}, "format"),
        ({"format": "raw"}, "format=raw"),
        ({"record": "tiny"}, "record"),
        ({"shard_scans": 0}, "shard_scans"),
        ({"check": CheckConfig(max_range=0.0)}, "check.max_range"),
        ({"input": None, "synthetic": SyntheticConfig(scans=3), "validate": True}, "validate"),
        ({"labels": "nobodys"}, None),
    ],
)
def test_what_contradicts_itself_is_refused_before_work(
    changed: dict[str, object], where: str | None, config: PrepareConfig, tmp_path: Path
) -> None:
    with pytest.raises(PointsegError) as refused:
        workflows.prepare(replace(config, **changed))
    assert where is None or (isinstance(refused.value, ConfigError) and refused.value.where == where)
    assert not (tmp_path / "store").exists()
