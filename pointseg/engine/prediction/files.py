"""Predict files with one model: finished files are skipped, bad ones reported, and several processes share the work.

Legend: N points, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pointseg.core.errors import ConfigError, DataError, OutOfMemory, PointsegError
from pointseg.core.files import whole_file
from pointseg.core.ranks import Ranks, ranks_of_environment
from pointseg.data.checks.findings import Finding, finding_of
from pointseg.data.checks.input_check import Note
from pointseg.data.formats import PointCloud, read_cloud, refuse_unnamed_columns, write_labels
from pointseg.data.scan import COLUMNS
from pointseg.engine.labelling import Labeller, predict_cloud
from pointseg.engine.prediction.inputs import Item
from pointseg.engine.prediction.output import OutputFolder, model_identity
from pointseg.engine.predictor import Predictor

__all__ = ["NotedFiles", "Predicted", "predict_files"]

ON_ERROR = ("skip", "stop")


class NotedFiles(NamedTuple):
    """A note, the first file that it is about, and the number of such files."""

    note: Note
    file: Path
    files: int


@dataclass
class Predicted:
    """The result of predicting files.

    Attributes:
        done: files that this call predicted.
        points: in them.
        skipped: how many were finished before.
        elsewhere: how many another process finished meanwhile.
        failed: what was wrong with each file that could not be predicted.
        notes: what is unusual about files, by kind.
    """

    done: list[Path] = field(default_factory=list)
    points: int = 0
    skipped: int = 0
    elsewhere: int = 0
    failed: list[Finding] = field(default_factory=list)
    notes: dict[str, NotedFiles] = field(default_factory=dict)

    def add_notes(self, file: Path, notes: Sequence[Note]) -> None:
        for note in notes:
            known = self.notes.get(note.kind)
            self.notes[note.kind] = known._replace(files=known.files + 1) if known else NotedFiles(note, file, 1)


def predict_files(
    predictor: Predictor | Labeller,
    items: Sequence[Item],
    output: str | Path,
    *,
    identity: dict[str, Any] | None = None,
    on_error: str = "skip",
    overwrite: bool = False,
    probabilities: bool = False,
    remission_scale: float | None = None,
    columns: Sequence[str] | None = None,
    ranks: Ranks | None = None,
    locks: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predict each file and write its labels, whole or not at all.

    Any number of processes may get the same items and folder, at once or one after another: each file is predicted once.
    What a killed run or another process has finished is not predicted again.

    Args:
        items: from `find_items`, in the same order for all processes.
        output: the folder of the results.
        identity: what labels depend on, as plain values, if it is not a `Predictor`: a folder holds those of one model.
        on_error: "skip" a file that cannot be used and report it, or "stop" at it.
        overwrite: predict finished files again.
        probabilities: also write (N, K) float16 beside the labels.
        remission_scale: intensity is divided by it (see `read_cloud`).
        columns: of files that do not name theirs (see `read_cloud`).
        ranks: which of the processes that share the files this is; None asks the environment.
        locks: the folder for locks, if the output is on a disk that cannot lock files.
        progress: called with (files processed, files in all) of this process's share.

    Raises:
        DataError: if a file cannot be used and `on_error` is "stop", or the model needs columns that no `.bin` file names.
        OutputError: if the folder belongs to another model, or cannot be written.

    Example:
        >>> items = find_items("scans", "predicted")
        >>> predict_files(Predictor.load("run"), items, "predicted").failed
        []
    """
    if on_error not in ON_ERROR:
        raise ConfigError(f"there is no {on_error!r}", where="on_error", remedy=f"Use {' or '.join(ON_ERROR)}.")
    if columns is None:
        refuse_unnamed_columns((item.source for item in items), predictor.extra)
    ranks = ranks or ranks_of_environment()
    described = {**(identity or _identity(predictor)), "label_map": predictor.label_map.name}
    described["remission_scale"] = remission_scale
    if columns is not None:
        described["columns"] = list(columns)
    folder = OutputFolder(
        Path(output).expanduser(), items, described, ranks=ranks, overwrite=overwrite,
        probabilities=probabilities, columns=columns or COLUMNS, locks=locks,
    )  # fmt: skip
    read = partial(read_cloud, remission_scale=remission_scale, extra=predictor.extra, columns=columns)
    with folder:
        share = _Share(predictor, folder, ranks.share_of(items), read, stop=on_error == "stop", progress=progress)
        return share.predict()


def _identity(predictor: Predictor | Labeller) -> dict[str, Any]:
    if not isinstance(predictor, Predictor):
        raise TypeError("identity= must say what the labels of another kind of labeller depend on")
    views = {"views": asdict(predictor.views)} if predictor.views.count > 1 else {}
    return {"model": model_identity(predictor.trained), **views}


class _Share:
    """The files of this process."""

    def __init__(
        self,
        predictor: Labeller,
        folder: OutputFolder,
        items: Sequence[Item],
        read: Callable[[Path], PointCloud],
        *,
        stop: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.predictor, self.folder, self.items, self.read = predictor, folder, items, read
        self.stop, self.progress, self.result = stop, progress, Predicted()
        self._finished_before = {item.target for item in items if folder.finished(item)}
        self._processed = 0

    def predict(self) -> Predicted:
        """Predict all files; those that other processes have claimed come last, since such a process may not finish."""
        claimed_elsewhere = [item for item in self.items if not self._process(item, wait=False)]
        for item in claimed_elsewhere:
            self._process(item, wait=True)
        return self.result

    def _process(self, item: Item, *, wait: bool) -> bool:
        """Predict a file unless it is finished; False if another process has claimed it."""
        with self.folder.claimed(item, wait=wait) as claimed:
            if not claimed:
                return False
            if self.folder.finished(item):
                self.result.skipped += item.target in self._finished_before
                self.result.elsewhere += item.target not in self._finished_before
            else:
                self._predict(item)
        self._processed += 1
        if self.progress:
            self.progress(self._processed, len(self.items))
        return True

    def _predict(self, item: Item) -> None:
        try:
            cloud, wanted = self.read(item.source), self.folder.probabilities
            raw_ids, probabilities, notes = predict_cloud(self.predictor, cloud, probabilities=wanted)
            if probabilities is not None:
                with whole_file(item.probabilities) as temporary, open(temporary, "wb") as file:
                    np.save(file, probabilities.astype(np.float16))
            write_labels(item.source, item.target, raw_ids, self.predictor.label_map)
        except (DataError, OutOfMemory) as error:
            named = _naming(error, item.source)
            if self.stop:
                raise named from error
            self.result.failed.append(finding_of(named))
            return
        self.result.done.append(item.source)
        self.result.points += len(raw_ids)
        self.result.add_notes(item.source, notes)


def _naming(error: PointsegError, source: Path) -> PointsegError:
    """The error, with the file in it if it is only about the points."""
    if str(source) in str(error.where):
        return error
    return type(error)(error.what, where=source, remedy=error.remedy)
