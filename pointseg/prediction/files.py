"""Predict files with one model: finished ones are skipped, bad ones reported, several processes share the work.

Legend: N points, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pointseg.data.checking import Finding, finding_of
from pointseg.errors import ConfigError, DataError, OutOfMemory, PointsegError
from pointseg.files import whole_file
from pointseg.formats import read_cloud, write_labels
from pointseg.input_check import Note
from pointseg.labelling import Labeller, predict_cloud
from pointseg.prediction.inputs import Item
from pointseg.prediction.output import OutputFolder, Share, model_identity
from pointseg.predictor import Predictor

__all__ = ["ON_ERROR", "Predicted", "Said", "predict_files"]

ON_ERROR = ("skip", "stop")


class Said(NamedTuple):
    """A note with the first file that it is about, and of how many it is said."""

    note: Note
    file: Path
    files: int


@dataclass
class Predicted:
    """What a prediction of files came to.

    Attributes:
        done: files predicted here and now.
        points: in them.
        skipped: how many were finished before.
        elsewhere: how many another process finished meanwhile.
        failed: what was wrong with each file that could not be predicted.
        notes: by kind, what is unusual about files.
    """

    done: list[Path] = field(default_factory=list)
    points: int = 0
    skipped: int = 0
    elsewhere: int = 0
    failed: list[Finding] = field(default_factory=list)
    notes: dict[str, Said] = field(default_factory=dict)

    def say(self, file: Path, notes: Sequence[Note]) -> None:
        for note in notes:
            known = self.notes.get(note.kind)
            self.notes[note.kind] = known._replace(files=known.files + 1) if known else Said(note, file, 1)


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
    share: Share | None = None,
    locks: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predict each file and write its labels, whole or not at all.

    Any number of processes may be given the same items and folder, at once or one after another: each file is predicted
    once. What was finished, by a run that was killed or by another process, is not made again.

    Args:
        items: of `find_items`, in the same order for all processes.
        output: the folder that they go to.
        identity: what labels depend on, as plain values, for what is no `Predictor`: a folder holds those of one model.
        on_error: "skip" a file that cannot be used and report it, or "stop" at it.
        overwrite: make finished files again.
        probabilities: write (N, K) float16 as well, beside the labels.
        remission_scale: what intensity is divided by (see `read_cloud`).
        share: this process's part of the files; None: by RANK and WORLD_SIZE of the environment.
        locks: the folder for locks, where the output lies on a disk that cannot lock files.
        progress: called with (files seen, files in all) of this process's part.

    Raises:
        DataError: if a file cannot be used and `on_error` is "stop".
        OutputError: if the folder belongs to another model, or cannot be written.

    Example:
        >>> items = find_items("scans", "predicted")
        >>> predict_files(Predictor.load("run"), items, "predicted").failed
        []
    """
    if on_error not in ON_ERROR:
        raise ConfigError(f"there is no {on_error!r}", where="on_error", remedy=f"Use {' or '.join(ON_ERROR)}.")
    share = share or Share.of_environment()
    mine = share.of(items)
    described = {**(identity or _identity(predictor)), "label_map": predictor.label_map.name}
    described["remission_scale"] = remission_scale
    found = Predicted()
    settings = {"share": share, "overwrite": overwrite, "probabilities": probabilities, "locks": locks}
    with OutputFolder(Path(output).expanduser(), items, described, **settings) as folder:  # type: ignore[arg-type]
        work = _Work(predictor, folder, mine, found, on_error == "stop", probabilities, remission_scale)
        seen = 0
        taken: list[Item] = []  # by other processes: seen to at the end, since one may not come to its end

        def count() -> None:
            nonlocal seen
            seen += 1
            if progress:
                progress(seen, len(mine))

        for item in mine:
            with folder.claimed(item) as free:
                if not free:
                    taken.append(item)
                    continue
                work.on(item)
            count()
        for item in taken:
            with folder.claimed(item, wait=True):
                work.on(item, late=True)
            count()
    return found


def _identity(predictor: Predictor | Labeller) -> dict[str, Any]:
    if not isinstance(predictor, Predictor):
        raise TypeError("identity= says what labels of another kind of labeller depend on")
    views = {"views": asdict(predictor.views)} if predictor.views.count > 1 else {}
    return {"model": model_identity(predictor.trained), **views}


class _Work:
    """What is done with a file that is claimed."""

    def __init__(
        self,
        predictor: Labeller,
        folder: OutputFolder,
        mine: Sequence[Item],
        found: Predicted,
        stop: bool,
        probabilities: bool,
        remission_scale: float | None,
    ) -> None:
        self.predictor, self.folder, self.found, self.stop = predictor, folder, found, stop
        self.probabilities, self.remission_scale = probabilities, remission_scale
        self._at_start = {item.target for item in mine if folder.finished(item)}

    def on(self, item: Item, *, late: bool = False) -> None:
        """Predict it, unless it is finished."""
        if self.folder.finished(item):
            self.found.skipped += item.target in self._at_start
            self.found.elsewhere += item.target not in self._at_start
            return
        try:
            points, notes = self._predict(item)
        except (DataError, OutOfMemory) as error:
            named = _naming(error, item.source)
            if self.stop:
                raise named from error
            self.found.failed.append(finding_of(named))
            return
        self.found.done.append(item.source)
        self.found.points += points
        self.found.say(item.source, notes)

    def _predict(self, item: Item) -> tuple[int, list[Note]]:
        cloud = read_cloud(item.source, remission_scale=self.remission_scale)
        raw_ids, probabilities, notes = predict_cloud(self.predictor, cloud, probabilities=self.probabilities)
        if probabilities is not None:
            with whole_file(item.probabilities) as temporary, open(temporary, "wb") as file:
                np.save(file, probabilities.astype(np.float16))
        write_labels(item.source, item.target, raw_ids, self.predictor.label_map)
        return len(raw_ids), notes


def _naming(error: PointsegError, source: Path) -> PointsegError:
    """The error with the file in it, where it is about the points only."""
    if str(source) in str(error.where):
        return error
    return type(error)(error.what, where=source, remedy=error.remedy)
