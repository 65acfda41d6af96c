"""A run folder: its files, and the record of how it was made.

RUN/
  config.yaml            the whole resolved configuration
  run.json               verb, command, code, tracking run, for `resume=` and `rerun=`
  train.log
  history.csv            loss, learning rate and validation scores by epoch
  checkpoints/best.ckpt  by trainer.monitor, or the last epoch's
  checkpoints/last.ckpt  where `resume=RUN` continues
  metrics.json           official scores of best.ckpt on the validation split
  bundle/                best.ckpt as weights.safetensors + model.yaml
  figures/
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pointseg.core.errors import CheckpointError, OutputError
from pointseg.core.files import write_json
from pointseg.core.package import FOLDER, VERSION
from pointseg.core.redaction import redact_text

__all__ = ["RunFolder", "code_state"]

LOCK, HALF_WRITTEN = ".lock", ".*.tmp"


class RunFolder:
    """Names inside a run folder, and its `run.json`.

    Example:
        >>> RunFolder("outputs/2026-11-21/10-15-00").last.exists()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        self.config = self.path / "config.yaml"
        self.run_json = self.path / "run.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / "best.ckpt"
        self.last = self.checkpoints / "last.ckpt"
        self.history = self.path / "history.csv"
        self.metrics = self.path / "metrics.json"
        self.bundle = self.path / "bundle"
        self.figures = self.path / "figures"

    @classmethod
    def existing(cls, path: str | Path, key: str, *, resumable: bool = False) -> RunFolder:
        """The folder of an earlier run.

        Raises:
            CheckpointError: if it is not a run folder, or lacks a needed last.ckpt; `key` is the key that named it.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise CheckpointError(
                "not a run folder (it has no config.yaml)" if folder.path.exists() else "the run folder does not exist",
                where=f"{key}={path}",
                remedy="Name the results folder that an earlier run printed.",
            )
        if resumable and not folder.last.is_file():
            raise CheckpointError(
                "the run has no checkpoints/last.ckpt to resume from",
                where=f"{key}={path}",
                remedy=f"Start it again with rerun={path}.",
            )
        return folder

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """The folder for this process alone while the block lasts; what a killed run left half written is removed first.

        Raises:
            OutputError: if another process trains in it.
        """
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                "another training runs in this folder",
                where=f"hydra.run.dir={self.path}",
                remedy="Wait for its end, or name another folder.",
            ) from error
        except (OSError, NotImplementedError):  # a disk without locks, as those that clouds mount
            yield
            return
        try:
            self._remove_half_written()
            yield
        finally:
            with suppress(OSError):
                (self.path / LOCK).unlink()
            lock.release()

    def _remove_half_written(self) -> None:
        for left in (*self.path.glob(HALF_WRITTEN), *self.checkpoints.glob(HALF_WRITTEN)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)

    @property
    def begun(self) -> bool:
        """Whether a run has left a checkpoint here."""
        return self.last.is_file() or self.best.is_file()

    def describe(self) -> dict[str, Any]:
        """The content of run.json, {} where there is none."""
        return json.loads(self.run_json.read_text(encoding="utf-8")) if self.run_json.is_file() else {}

    def record(self, **values: Any) -> None:
        """Add values to run.json."""
        write_json(self.run_json, {**self.describe(), **values})


def code_state() -> dict[str, Any]:
    """The running code: version, git commit and whether files differ from it, and a hash of every source file."""
    files = {
        str(path.relative_to(FOLDER)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(FOLDER.rglob("*.py"))
    }
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "command": redact_text(" ".join(sys.argv)),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "files": files,
    }


def code_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """How two `code_state`s differ, one line a difference."""
    lines = [
        f"{name}: {before.get(name)} then, {now.get(name)} now"
        for name in ("version", "commit")
        if before.get(name) != now.get(name)
    ]
    old, new = before.get("files", {}), now.get("files", {})
    changed = sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
    if changed:
        lines.append(f"{len(changed)} source files differ: {', '.join(changed[:6])}{' ...' if changed[6:] else ''}")
    return lines


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", FOLDER, *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
