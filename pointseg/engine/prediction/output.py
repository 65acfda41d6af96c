"""The output folder of a prediction: which model's results it holds, which are finished, and which process works on which.

OUTPUT/
  prediction.json       the model and settings of the labels; a folder holds those of one model
  .predict.lock         held while a process begins or ends
  .predicting/          locks of the processes at work and of the files that they have claimed; removed at the end

A lock ends with its process, even in a crash, so no file stays claimed. The locks may be in another folder, if the output is
on a disk that cannot lock files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pointseg.core.errors import OutputError, PointsegError
from pointseg.core.files import write_json
from pointseg.core.ranks import Ranks
from pointseg.data.formats import LABEL_SUFFIX, count_points
from pointseg.data.formats.cloud_files import PREDICTION_RECORD
from pointseg.data.scan import COLUMNS
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.prediction.inputs import Item

__all__ = ["OutputFolder", "model_identity"]

LOCKS, START_LOCK = ".predicting", ".predict.lock"
LABEL_BYTES = 4
PATIENCE = 600.0  # seconds that another process may take to begin or end


def model_identity(trained: TrainedModel) -> str:
    """SHA-256 of everything that labels depend on: weights, architecture, features, label map and inference settings.

    A checkpoint and its bundle have the same identity.
    """
    described = trained.describe()
    del described["provenance"]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    digest.update(str(getattr(trained.model, "digest", "")).encode())  # an exported model has no tensors here
    for name, tensor in sorted(trained.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class OutputFolder:
    """A context manager for the folder while this process works in it.

    Args:
        folder: is created if missing.
        items: the files of all processes.
        identity: what the results depend on, as plain values, the same for all processes.
        ranks: which of the processes that share the files this is.
        overwrite: predict finished files again; with another model, all of them.
        probabilities: a file is finished only with its probabilities.
        columns: of `.bin` files.
        locks: the folder of the locks, the same for all processes that share files; None for the output folder.

    Raises:
        OutputError: if the folder holds results of another model or foreign files, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        identity: dict[str, Any],
        *,
        ranks: Ranks,
        overwrite: bool = False,
        probabilities: bool = False,
        columns: Sequence[str] = COLUMNS,
        locks: Path | None = None,
    ) -> None:
        self.columns = columns
        self.folder, self.items, self.identity, self.ranks = folder, items, identity, ranks
        self.overwrite, self.probabilities = overwrite, probabilities
        self._start = (locks or folder) / START_LOCK
        self._locks = (locks or folder) / LOCKS
        self._working = FileLock(self._locks / f"process-{uuid.uuid4().hex[:12]}.lock")

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
            self.__exit__()  # leaves a refused folder as it was
            raise
        except (
            OSError,
            NotImplementedError,
            Timeout,
        ) as error:  # filelock raises the second on a disk that cannot lock
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
        """Accept what the folder holds, replace it, or refuse."""
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
            if not same:  # the record goes first: without it, remaining older results count as foreign
                (self.folder / PREDICTION_RECORD).unlink(missing_ok=True)
                self._remove(self.items)
            elif self.ranks.world > 1:
                self._remove(self.ranks.share_of(self.items))
            elif not others:  # a process that joins others at work keeps what they have just finished
                self._remove(self.items)
        if not same:
            write_json(self.folder / PREDICTION_RECORD, self.identity)

    def _record(self) -> dict[str, Any] | None:
        try:
            content = json.loads((self.folder / PREDICTION_RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _refuse_foreign_files(self) -> None:
        for item in self.ranks.share_of(self.items):  # the other processes may just have written theirs
            if item.target.exists():
                raise OutputError(
                    f"the file exists, and no {PREDICTION_RECORD} says what wrote it",
                    where=item.target,
                    remedy="Name another folder, or replace such files with overwrite=true.",
                )

    @staticmethod
    def _remove(items: Sequence[Item]) -> None:
        for item in items:
            item.target.unlink(missing_ok=True)
            item.probabilities.unlink(missing_ok=True)

    def _remove_half_written(self) -> None:
        """Remove the temporary files of killed processes."""
        names: dict[Path, set[str]] = {}
        for item in self.items:
            names.setdefault(item.target.parent, set()).update((item.target.name, item.probabilities.name))
        for folder, known in names.items():
            for path in folder.glob(".*.tmp"):
                if path.name[1 : -len(".01234567.tmp")] in known:
                    path.unlink(missing_ok=True)

    def finished(self, item: Item) -> bool:
        """Whether the whole result exists. It must also have as many points as the cloud, if headers or sizes tell both."""
        try:
            size = item.target.stat().st_size
        except OSError:
            return False
        if self.probabilities and not item.probabilities.is_file():
            return False
        points = count_points(item.source, self.columns)
        if item.target.suffix != LABEL_SUFFIX:
            return points == count_points(item.target, self.columns)
        return points is None or size == LABEL_BYTES * points

    @contextmanager
    def claimed(self, item: Item, *, wait: bool = False) -> Iterator[bool]:
        """Whether this process, and no other, works on the file within the block."""
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
            Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: never another process's lock
            lock.release()


def _difference(known: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [key for key in wanted if known.get(key) != wanted[key]]
    return ", ".join(f"{key} {_short(known.get(key))} instead of {_short(wanted[key])}" for key in keys) or "unreadable"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
