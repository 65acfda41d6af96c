"""The output folder of a prediction: whose results it holds, which are finished, and who works on which.

OUTPUT/
  prediction.json       the model and the settings that made the labels; a folder holds those of one model
  .predict.lock         held while a process begins or ends
  .predicting/          locks of the processes at work and of the files that they have claimed; gone at the end

A lock ends with its process, however that ends, so nothing stays claimed after a crash. The two may lie in another folder,
where the output is on a disk that cannot lock files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pointseg.bundle import TrainedModel
from pointseg.errors import OutputError, PointsegError
from pointseg.files import write_json
from pointseg.formats import LABEL_SUFFIX, count_points
from pointseg.prediction.inputs import RECORD, Item
from pointseg.ranks import ranks_of_environment

__all__ = ["RECORD", "OutputFolder", "Share", "model_identity"]

LOCKS, START_LOCK = ".predicting", ".predict.lock"
LABEL_BYTES = 4
PATIENCE = 600.0  # seconds that another process may take to begin or end


@dataclass(frozen=True)
class Share:
    """Which part of the files is this process's: numbers `rank`, `rank + world`, ...; the default is all of them."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> Share:
        """As torchrun, Azure ML and `compute=local_ddp` set it: see `ranks_of_environment`."""
        ranks = ranks_of_environment()
        return cls(ranks.rank, ranks.world)

    def of(self, items: Sequence[Item]) -> list[Item]:
        return list(items[self.rank :: self.world])


def model_identity(trained: TrainedModel) -> str:
    """SHA-256 of all that labels depend on: weights, architecture, features, label map and how scans are predicted.

    A checkpoint and the bundle made of it have the same.
    """
    described = trained.describe()
    del described["provenance"]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    digest.update(str(getattr(trained.model, "digest", "")).encode())  # an exported model keeps no tensors here
    for name, tensor in sorted(trained.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class OutputFolder:
    """The folder while this process works in it; a context manager.

    Args:
        folder: it is made if need be.
        items: all files, not only this process's.
        identity: what the results depend on, as plain values: the same for all processes.
        share: this process's part.
        overwrite: make finished files again; with another model, all of them.
        probabilities: whether a file is finished only with them.
        locks: the folder that locks lie in, the same for all processes that may meet; None: the output folder.

    Raises:
        OutputError: if the folder holds results of another model or files that are none, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        identity: dict[str, Any],
        *,
        share: Share,
        overwrite: bool = False,
        probabilities: bool = False,
        locks: Path | None = None,
    ) -> None:
        self.folder, self.items, self.identity, self.share = folder, items, identity, share
        self.overwrite, self.probabilities = overwrite, probabilities
        self._start = (locks or folder) / START_LOCK
        self._locks = (locks or folder) / LOCKS
        self._working = FileLock(self._locks / f"process-{uuid.uuid4().hex[:12]}.lock")

    # ---- beginning and end -----------------------------------------------------------------------------------

    def __enter__(self) -> OutputFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._start.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._start, timeout=PATIENCE):
                self._locks.mkdir(exist_ok=True)
                others = self._others_at_work()
                if not others:
                    self._remove_half_written()
                self._settle(others)
                self._working.acquire(timeout=0)
        except PointsegError:
            self.__exit__()  # a folder that is refused stays as it was
            raise
        except (OSError, NotImplementedError, Timeout) as error:  # the second: filelock, on a disk that cannot lock
            raise OutputError(
                f"the output folder cannot be written or locked ({error})",
                where=f"output={self.folder}",
                remedy="Name another folder, on a disk that can lock files.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, Timeout), FileLock(self._start, timeout=PATIENCE):
            self._working.release()
            Path(self._working.lock_file).unlink(missing_ok=True)
            if not self._others_at_work():
                shutil.rmtree(self._locks, ignore_errors=True)
                self._start.unlink(missing_ok=True)

    def _others_at_work(self) -> bool:
        """Whether another process holds its lock; locks of processes that are gone are removed."""
        for path in self._locks.glob("process-*.lock"):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return True
            lock.release()
            path.unlink(missing_ok=True)
        return False

    def _settle(self, others: bool) -> None:
        """Agree with what the folder holds, or refuse."""
        known = self._record()
        same = known == self.identity
        if known is None and not self.overwrite:
            self._refuse_foreign_files()
        elif known is not None and not same and not (self.overwrite and not others):
            raise OutputError(
                "another process is writing results of another model or settings"
                if others
                else f"the folder holds results of another model or settings ({_difference(known, self.identity)})",
                where=f"output={self.folder}",
                remedy="Name another folder" + ("." if others else ", or make all again with overwrite=true."),
            )
        if self.overwrite:
            if not same:  # the record goes first: without it, what is left of the older results counts as foreign
                (self.folder / RECORD).unlink(missing_ok=True)
                self._remove(self.items)
            elif self.share.world > 1:
                self._remove(self.share.of(self.items))
            elif not others:  # who joins others at work finds what they have just made
                self._remove(self.items)
        if not same:
            write_json(self.folder / RECORD, self.identity)

    def _record(self) -> dict[str, Any] | None:
        try:
            content = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _refuse_foreign_files(self) -> None:
        for item in self.share.of(self.items):  # what lies there of the others' shares they may have made just now
            if item.target.exists():
                raise OutputError(
                    f"there is a file already, and no {RECORD} that says what made it",
                    where=item.target,
                    remedy="Name another folder, or replace such files with overwrite=true.",
                )

    @staticmethod
    def _remove(items: Sequence[Item]) -> None:
        for item in items:
            item.target.unlink(missing_ok=True)
            item.probabilities.unlink(missing_ok=True)

    def _remove_half_written(self) -> None:
        """What a process that was killed left of its files, beside their places."""
        names: dict[Path, set[str]] = {}
        for item in self.items:
            names.setdefault(item.target.parent, set()).update((item.target.name, item.probabilities.name))
        for folder, known in names.items():
            for path in folder.glob(".*.tmp"):
                if path.name[1 : -len(".01234567.tmp")] in known:
                    path.unlink(missing_ok=True)

    # ---- one file --------------------------------------------------------------------------------------------

    def finished(self, item: Item) -> bool:
        """Whether the result is there, whole: results take their names when they are; it also has to have as many points
        as the cloud, where a look at headers or sizes tells both."""
        try:
            size = item.target.stat().st_size
        except OSError:
            return False
        if self.probabilities and not item.probabilities.is_file():
            return False
        points = count_points(item.source)
        if item.target.suffix != LABEL_SUFFIX:
            return points == count_points(item.target)
        return points is None or size == LABEL_BYTES * points

    @contextmanager
    def claimed(self, item: Item, *, wait: bool = False) -> Iterator[bool]:
        """Whether this process may work on the file within the block: no other one does."""
        name = hashlib.sha256(os.path.relpath(item.target, self.folder).encode()).hexdigest()[:24]
        lock = FileLock(self._locks / f"{name}.lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that nobody else's goes
            lock.release()


def _difference(known: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [key for key in wanted if known.get(key) != wanted[key]]
    return ", ".join(f"{key} {_short(known.get(key))} instead of {_short(wanted[key])}" for key in keys) or "unreadable"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
