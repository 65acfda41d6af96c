"""Verbs on the run folder of somebody else, whose configuration would run code: refused, and nothing has run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from verbs import SMALL_WORLD, run, succeed

WORDS = [*SMALL_WORLD, "data.points=200", "trainer.max_epochs=1", "trainer.accelerator=cpu", "tracking=off"]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    succeed(run("train", *WORDS, "hydra.run.dir=run", cwd=folder))
    return folder / "run"


def foreign(honest: Path, folder: Path, change: Any) -> Path:
    shutil.copytree(honest, folder / "run")
    place = folder / "run/config.yaml"
    values = yaml.safe_load(place.read_text())
    change(values)
    place.write_text(yaml.safe_dump(values))
    return folder / "run"


def pickled(folder: Path) -> Path:
    """A NumPy file whose loading leaves a trace."""

    class Trace:
        def __reduce__(self) -> Any:
            return (open, (str(folder / "executed"), "w"))

    np.save(folder / "evil.npy", np.array([Trace()], dtype=object), allow_pickle=True)
    return folder / "evil.npy"


COMMANDS = {
    "evaluate": ["evaluate", "checkpoint=run", "output=out"],
    "report": ["report", "run=run", "output=report.html"],
    "export": ["export", "checkpoint=run", "format=onnx-int8", "output=out"],
    "resume": ["train", "resume=run", "trainer.max_epochs=2"],
    "rerun": ["train", "rerun=run", "hydra.run.dir=again"],
    "promote": ["register_model", "run=run", "name=m", "promote=champion", "tracking.uri=sqlite:///r.db"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_loader_of_pickles_is_not_called(command: str, honest: Path, tmp_path: Path) -> None:
    evil = {"_target_": "numpy.load", "file": str(pickled(tmp_path)), "allow_pickle": True}
    if command == "promote":  # without a champion there is nothing to compare with, and no data are read
        succeed(run("register_model", f"run={honest}", *COMMANDS["promote"][2:], cwd=tmp_path))
    foreign(honest, tmp_path, lambda values: values["data"].update(sampling=evil))
    done = run(COMMANDS[command][0], *COMMANDS[command][1:], cwd=tmp_path)
    assert done.code != 0
    assert "names numpy.load, which could run any code" in done.message
    assert "data.sampling._target_=numpy.load" in done.message
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("command", ["resume", "rerun", "evaluate"])
def test_the_environment_is_not_read(command: str, honest: Path, tmp_path: Path) -> None:
    def change(values: Any) -> None:
        values["data"]["labels"] = "${oc.env:SECRET_OF_MINE}"

    foreign(honest, tmp_path, change)
    done = run(COMMANDS[command][0], *COMMANDS[command][1:], cwd=tmp_path, SECRET_OF_MINE="do-not-tell")
    assert done.code != 0
    assert "data.labels=${oc.env:SECRET_OF_MINE} is an interpolation" in done.message
    assert "do-not-tell" not in done.message


def test_the_pickle_would_have_left_a_trace(tmp_path: Path) -> None:
    np.load(pickled(tmp_path), allow_pickle=True)
    assert (tmp_path / "executed").exists()


def test_the_honest_folder_is_used(honest: Path, tmp_path: Path) -> None:
    shutil.copytree(honest, tmp_path / "run")
    for command in ("evaluate", "rerun", "resume"):
        succeed(run(COMMANDS[command][0], *COMMANDS[command][1:], cwd=tmp_path))
