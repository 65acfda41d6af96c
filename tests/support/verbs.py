"""Runs the verbs for tests: inside this process, which saves the seconds that importing takes, or in one of their own."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import ModuleType

import pytest

from pointseg import cli
from pointseg.core import redaction as redact

# A training of seconds.
SMALL_MODEL = ["model.local_widths=[8,8]", "model.global_widths=[8,16]", "model.head_widths=[16,8]"]
SMALL_TRAINING = [
    *SMALL_MODEL,
    "data.points=64",
    "data.clouds_per_scan=4",
    "data.batch_size=4",
    "scheduler.warmup_steps=2",
    "inference.points_per_pass=512",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=1",
]
SMALL_WORLD = ["data.scans={train: 2, val: 1, test: 1}", "data.azimuth_steps=64", "data.beams=16"]
SMALL = [*SMALL_TRAINING, *SMALL_WORLD]


@dataclass(frozen=True)
class Done:
    """How a verb ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line that an error shall be."""
        lines = self.err.splitlines()
        assert self.code == 1, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err + self.out
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        return lines[0]


def run(verb: str, *words: str, cwd: Path, **environment: str) -> Done:
    """`python -m pointseg.VERB WORDS`, or `python scripts/VERB.py WORDS`, inside this process, which is left as it was."""
    module = _script(verb) if _script_file(verb).is_file() else importlib.import_module(f"pointseg.{verb}")
    out, err = io.StringIO(), io.StringIO()
    with _kept_state(cwd, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(verb, module.__doc__ or "", list(words))
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _kept_state(cwd: Path, environment: dict[str, str]) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, factory = root.handlers[:], root.level, logging.getLogRecordFactory()
    variables, arguments, folder, known = dict(os.environ), sys.argv[:], Path.cwd(), set(redact._known)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(cwd)
    try:
        yield
    finally:
        os.chdir(folder)
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.setLogRecordFactory(factory)
        redact._known.clear()
        redact._known.update(known)
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(variables)


def _script_file(verb: str) -> Path:
    return Path(__file__).parents[2] / "scripts" / f"{verb}.py"


def _script(verb: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"script_{verb}", _script_file(verb))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    path = sys.path[:]
    specification.loader.exec_module(module)
    sys.path[:] = path
    return module


def command(verb: str, words: Sequence[str]) -> list[str]:
    script = _script_file(verb)
    return [sys.executable, *([str(script)] if script.is_file() else ["-m", f"pointseg.{verb}"]), *words]


def own_environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**clean, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", **more}


def spawn(verb: str, *words: str, cwd: Path, **environment: str) -> Done:
    """The same in a process of its own."""
    done = subprocess.run(
        command(verb, words),
        cwd=cwd,
        env=own_environment(**environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def succeed(done: Done) -> Done:
    assert done.code == 0, f"exit code {done.code}\n{done.out}\n{done.err}"
    return done


Maker = Callable[[pytest.TempPathFactory], Path]
_made: dict[str, Path] = {}


def once(make: Maker) -> Maker:
    """What it makes is made once for all test files."""

    @wraps(make)
    def shared(factory: pytest.TempPathFactory) -> Path:
        if make.__name__ not in _made:
            _made[make.__name__] = make(factory)
        return _made[make.__name__]

    return shared


@once
def trained_run(factory: pytest.TempPathFactory) -> Path:
    """The folder of a small synthetic run without tracking. It is shared: change a copy."""
    folder = factory.mktemp("shared") / "run"
    succeed(run("train", *SMALL, "tracking=off", f"hydra.run.dir={folder}", cwd=folder.parent))
    return folder


@once
def kitti_folder(factory: pytest.TempPathFactory) -> Path:
    """A small data set in SemanticKITTI's layout, written by `prepare`: sequences 00, 08 and 01."""
    folder = factory.mktemp("prepared") / "kitti"
    words = ["synthetic.scans=3", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
    succeed(run("prepare", f"output={folder}", *words, cwd=folder.parent))
    return folder


@once
def empty_database(factory: pytest.TempPathFactory) -> Path:
    """A migrated tracking database, to be copied: its migration takes seconds."""
    from pointseg.tracking.store import open_store

    path = factory.mktemp("database") / "mlruns.db"
    open_store(f"sqlite:///{path}")
    return path


KITTI_SPLIT = ["data.split.train=[0,1]", "data.split.val=[8]"]
