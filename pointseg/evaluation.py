"""Score a Predictor on whole scans, by the official rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg.data.sources import ScanSource
from pointseg.errors import CheckpointError, DataError
from pointseg.files import whole_file, write_json
from pointseg.labels import LabelMap
from pointseg.metrics import Scores, confusion_matrix, score
from pointseg.predictor import Predictor
from pointseg.words import counted

__all__ = ["Evaluation", "ScoredScan", "Shown", "evaluate", "scored_scans", "scores_table", "spread"]


@dataclass(frozen=True)
class Shown:
    """A scan that is kept for pictures: points (N, 4), truth and prediction (N,) as training ids."""

    name: str
    points: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluation:
    """Scores over all scans, and a few scans to look at."""

    scores: Scores
    scans: int
    label_map: LabelMap
    shown: list[Shown]

    def write(self, folder: Path) -> list[Path]:
        """metrics.json and figures/ into a folder; returns what was written."""
        from pointseg.report import figures

        metrics = folder / "metrics.json"
        write_json(metrics, self.scores.to_dict(self.label_map.class_names, self.scans))
        written = [metrics]
        drawings = {"confusion_matrix.png": figures.confusion(self.scores, self.label_map)}
        for scan in self.shown:
            drawing = figures.birds_eye(scan.points, scan.truth, scan.prediction, self.label_map, title=scan.name)
            drawings[f"scan_{scan.name.replace('/', '_')}.png"] = drawing
        for name, drawing in drawings.items():
            with whole_file(folder / "figures" / name) as temporary:
                drawing.savefig(temporary, format="png", dpi=110)
            written.append(folder / "figures" / name)
        return written


@dataclass(frozen=True)
class ScoredScan:
    """One scan with what the model says of it.

    Attributes:
        index, name: in the source.
        points: (N, 4) as in `Scan`.
        truth, prediction: (N,) training ids; truth 0 is not scored.
        confidence: (N,) float32, the probability of the predicted class; None where it was not asked for.
        confusion: (K + 1, K + 1) int64, rows truth, columns prediction.
    """

    index: int
    name: str
    points: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None
    confusion: Tensor

    @property
    def shown(self) -> Shown:
        """What a picture needs of it."""
        return Shown(self.name, self.points, self.truth, self.prediction)


def scored_scans(
    predictor: Predictor,
    source: ScanSource,
    *,
    label_map: LabelMap | None = None,
    confidence: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[ScoredScan]:
    """Predict every scan of a source with every point: the one pass that scores and reports are made of.

    Args:
        label_map: of the source's labels, where it is not the model's; its classes must mean the same.
        confidence: also give the probability of each prediction.

    Raises:
        CheckpointError: if the model has other classes.
        DataError: if there is no scan, or one without labels.

    Example:
        >>> sum(scan.confusion for scan in scored_scans(predictor, source))
    """
    label_map = label_map or predictor.label_map
    if label_map.hash != predictor.label_map.hash:
        raise CheckpointError(
            f"the model has the classes of label map {predictor.label_map.name!r} and the data those of "
            f"{label_map.name!r}",
            where="data.labels",
            remedy="Evaluate it on data with its own classes.",
        )
    if len(source) == 0:
        raise DataError("there is no scan to score", where="data", remedy="Check data.root and data.split.")
    return _pass(predictor, source, label_map, confidence, progress)


def _pass(
    predictor: Predictor,
    source: ScanSource,
    label_map: LabelMap,
    confidence: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[ScoredScan]:
    for index in range(len(source)):
        scan = source[index]
        truth = label_map.to_train(scan.required_labels, where=scan.labels_source)
        if confidence:
            logits_NK = predictor.logits(scan.points)
            best_N = logits_NK.argmax(dim=1, keepdim=True)  # of the logits: probabilities near 1 are rounded to ties
            sure = torch.softmax(logits_NK, dim=1).gather(1, best_N)[:, 0].cpu().numpy()
            prediction = (best_N[:, 0] + 1).to(torch.uint8).cpu().numpy()
        else:
            prediction, sure = predictor.train_ids(scan.points), None
        confusion = confusion_matrix(torch.from_numpy(truth), torch.from_numpy(prediction), label_map.num_classes)
        yield ScoredScan(index, source.names[index], scan.points, truth, prediction, sure, confusion)
        if progress:
            progress(index + 1, len(source))


def spread(count: int, length: int) -> set[int]:
    """At most `count` of the numbers 0..length-1, evenly spread, the first and the last among them."""
    return {round(i) for i in np.linspace(0, length - 1, min(count, length))}


def evaluate(
    predictor: Predictor,
    source: ScanSource,
    *,
    label_map: LabelMap | None = None,
    show: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict every scan of a source with every point, and score them together.

    Args:
        label_map: of the source's labels, where it is not the model's; its classes must mean the same.
        show: how many scans to keep for pictures, spread over the source.

    Raises:
        CheckpointError: if the model has other classes.
        DataError: if there is no scan, or one without labels.

    Example:
        >>> evaluate(Predictor.load(run_folder), SemanticKITTIScans(root, ["08"])).scores.miou
    """
    label_map = label_map or predictor.label_map
    size = label_map.num_classes + 1
    confusion = torch.zeros(size, size, dtype=torch.int64)
    shown, kept = [], spread(show, len(source))
    for scan in scored_scans(predictor, source, label_map=label_map, progress=progress):
        confusion += scan.confusion
        if scan.index in kept:
            shown.append(scan.shown)
    return Evaluation(score(confusion), len(source), label_map, shown)


def scores_table(scores: Scores, label_map: LabelMap, scans: int) -> str:
    """The table that the verbs print: per-class IoU with supports, then the means."""
    rows = sorted(zip(label_map.class_names, scores.iou, scores.support, strict=True), key=lambda row: -row[2])
    width = max(len(name) for name in label_map.class_names)
    lines = [f"{'class':<{width}}   IoU %       points"]
    for name, iou, support in rows:
        shown = f"{100 * iou:6.1f}" if support or iou else "     -"
        lines.append(f"{name:<{width}}  {shown} {support:>12,}")
    lines += [
        "",
        f"mIoU {100 * scores.miou:.2f} % over all {label_map.num_classes} classes (official rule), "
        f"{100 * scores.miou_present:.2f} % over the {scores.classes_present} present; "
        f"accuracy {100 * scores.accuracy:.2f} %; {counted(scores.points, 'labelled point')} of {counted(scans, 'scan')}",
    ]
    return "\n".join(lines)
