"""`python -m pointseg.report drift=COLLECTED`: the same verdict as from the scans, a window of time, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from collected_helpers import records_of, write_lines
from verbs import Done, kitti_folder, once, run, succeed


@once
def packed(factory: pytest.TempPathFactory) -> Path:
    folder = factory.mktemp("packed") / "store"
    succeed(run("prepare", f"input={kitti_folder(factory)}", f"output={folder}", cwd=folder.parent))
    return folder


@pytest.fixture
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `kitti`, the packed `store` of it, and `collected`, the same scans as they were collected."""
    shutil.copytree(kitti_folder(tmp_path_factory), tmp_path / "kitti")
    shutil.copytree(packed(tmp_path_factory), tmp_path / "store")
    write_lines(tmp_path / "collected/2026/11/14/08/a.jsonl", records_of(tmp_path / "kitti"))
    return tmp_path


def drift(here: Path, *words: str) -> Done:
    return run("report", "against=store", "output=drift.html", *words, cwd=here)


def result(here: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((here / "drift.json").read_text())
    return content


@pytest.mark.slow
def test_collected_scans_are_judged_as_the_scans_are(here: Path) -> None:
    succeed(drift(here, "drift=kitti"))
    scans = result(here)
    done = succeed(drift(here, "drift=collected"))
    assert done.out.splitlines()[-1] == "Like the training data"
    collected = result(here)
    assert {**collected, "drift": "", "notes": []} == {**scans, "drift": "", "notes": []}
    page = (here / "drift.html").read_text(encoding="utf-8")
    assert "3 collected scans, 2026-11-14 06:00 to 2026-11-14 08:00 UTC, labelled by street/3 (3 scans)" in page
    assert "each hour (UTC) count as one" in page


@pytest.mark.slow
def test_drift_can_end_the_command_for_a_schedule(here: Path) -> None:
    write_lines(here / "dim/a.jsonl", records_of(here / "kitti", factor=0.2))
    assert succeed(drift(here, "drift=dim")).out.splitlines()[-1].startswith("Drifted: remission is 0.2")
    (here / "drift.html").unlink()
    done = drift(here, "drift=dim", "fail_on_drift=true")
    assert done.code == 3
    assert done.err.startswith("error: the scans have drifted in remission")
    assert (here / "drift.html").is_file()
    assert result(here)["named"] == ["remission"]
    succeed(drift(here, "drift=kitti", "fail_on_drift=true"))


@pytest.mark.slow
def test_damaged_lines_are_said_and_the_others_used(here: Path) -> None:
    write_lines(here / "collected/b.jsonl", ["{broken"] * 12)
    done = drift(here, "drift=collected")
    assert done.code == 2
    assert "b.jsonl, line 1: not JSON" in done.out + done.err
    assert "and 2 lines more" in done.out + done.err
    assert "12 lines of the collected scans could not be used" in done.err
    assert "12 lines could not be used" in (here / "drift.html").read_text(encoding="utf-8")
    assert result(here)["new"] == {"sequences": 3, "scans": 3}


@pytest.mark.slow
def test_a_window_of_time(here: Path) -> None:
    succeed(drift(here, "drift=collected", "since=2026-11-14T07:00", "until=2026-11-15"))
    assert result(here)["new"] == {"sequences": 2, "scans": 2}


@pytest.mark.slow
def test_a_pipeline_of_the_report_runs_each_time(here: Path) -> None:
    words = ["steps=[drift]", "input=collected", "drift=[against=store]", "tracking=off", "hydra.run.dir=chain"]
    succeed(run("pipeline", *words, cwd=here))
    first = (here / "chain/drift/drift.json").read_text()
    done = succeed(run("pipeline", *words, cwd=here))
    assert "== drift: on what has come since" in done.out
    assert (here / "chain/drift/drift.json").read_text() == first
    assert (here / "chain/drift-1/drift.html").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["drift=collected", "days=0.001", "since=null"], "no scan was collected in this time"),
        (["drift=collected", "days=0"], "days"),
        (["drift=collected", "days=7", "since=2026-11-14"], "days and a time"),
        (["drift=collected", "since=monday"], "since"),
        (["drift=collected", "since=2026-11-15", "until=2026-11-14"], "since is not before until"),
        (["drift=collected", "remission_scale=255"], "already divided"),
        (["drift=kitti", "days=7"], "files of scans have no time"),
    ],
)
def test_what_is_refused(words: list[str], named: str, here: Path) -> None:
    assert named in drift(here, *words).message
    assert not (here / "drift.html").exists()
