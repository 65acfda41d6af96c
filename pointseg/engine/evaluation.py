"""Score a `Predictor` on whole scans by the official rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg.core.errors import CheckpointError, DataError
from pointseg.core.files import write_json
from pointseg.core.labels import LabelMap
from pointseg.core.text import counted
from pointseg.data.sources import ScanSource
from pointseg.engine.metrics import Scores, confusion_matrix, score
from pointseg.engine.predictor import Predictor

__all__ = [
    "Evaluation",
    "PredictedScan",
    "ScoredScan",
    "evaluate_model",
    "evenly_spaced",
    "scored_scans",
    "scores_table",
]


@dataclass(frozen=True)
class PredictedScan:
    """A scan with its truth and prediction, which pictures need.

    Attributes:
        name: in the source.
        points: (N, 4) as in `Scan`.
        truth, prediction: (N,) training ids; points of truth 0 are not scored.
    """

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
    shown: list[PredictedScan]

    def write(self, folder: Path) -> Path:
        """Write metrics.json into a folder."""
        path = folder / "metrics.json"
        write_json(path, self.scores.to_dict(self.label_map.class_names, self.scans))
        return path


@dataclass(frozen=True)
class ScoredScan(PredictedScan):
    """A predicted scan with its scores.

    Attributes:
        index: in the source.
        confusion: (K + 1, K + 1) int64, rows truth, columns prediction.
        confidence: (N,) float32, the probability of the predicted class; None unless requested.
    """

    index: int
    confusion: Tensor
    confidence: NDArray[np.float32] | None


def scored_scans(
    predictor: Predictor,
    source: ScanSource,
    *,
    label_map: LabelMap | None = None,
    confidence: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[ScoredScan]:
    """Predict every point of every scan; scores and reports are made of this one pass.

    Args:
        label_map: of the source's labels, if it is not the model's; its classes must mean the same.
        confidence: also compute the probability of each prediction.

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

    def scored(index: int) -> ScoredScan:
        scan = source[index]
        truth, points = (
            label_map.to_train(scan.required_labels, where=scan.labels_source),
            scan.with_columns(predictor.extra),
        )
        prediction, probability = (
            _with_confidence(predictor, points) if confidence else (predictor.train_ids(points), None)
        )
        confusion = confusion_matrix(torch.from_numpy(truth), torch.from_numpy(prediction), label_map.num_classes)
        if progress:
            progress(index + 1, len(source))
        return ScoredScan(source.names[index], scan.points, truth, prediction, index, confusion, probability)

    return map(scored, range(len(source)))


def _with_confidence(
    predictor: Predictor, points: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Training ids (N,) and their probabilities (N,)."""
    logits_NK = predictor.logits(points)
    best_N1 = logits_NK.argmax(dim=1, keepdim=True)  # of the logits: probabilities near 1 are rounded to ties
    probability_N = torch.softmax(logits_NK, dim=1).gather(1, best_N1)[:, 0]
    return (best_N1[:, 0] + 1).to(torch.uint8).cpu().numpy(), probability_N.cpu().numpy()


def evenly_spaced(count: int, length: int) -> set[int]:
    """At most `count` of the numbers 0..length-1, evenly spaced, the first and the last included."""
    return {round(i) for i in np.linspace(0, length - 1, min(count, length))}


def evaluate_model(
    predictor: Predictor,
    source: ScanSource,
    *,
    label_map: LabelMap | None = None,
    show: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score every scan of a source; `label_map` and errors as in `scored_scans`.

    Args:
        show: how many scans to keep for pictures, evenly spaced over the source.

    Example:
        >>> evaluate_model(Predictor.load(run_folder), SemanticKITTIScans(root, ["08"])).scores.miou
    """
    label_map = label_map or predictor.label_map
    size = label_map.num_classes + 1
    confusion = torch.zeros(size, size, dtype=torch.int64)
    shown: list[PredictedScan] = []
    for scan in scored_scans(predictor, source, label_map=label_map, progress=progress):
        confusion += scan.confusion
        if scan.index in evenly_spaced(show, len(source)):
            shown.append(scan)
    return Evaluation(score(confusion), len(source), label_map, shown)


def scores_table(scores: Scores, label_map: LabelMap, scans: int) -> str:
    """A table for people: IoU and labelled points of each class, then the means."""
    rows = sorted(zip(label_map.class_names, scores.iou, scores.support, strict=True), key=lambda row: -row[2])
    width = max(len(name) for name in label_map.class_names)
    lines = [f"{'class':<{width}}   IoU %       points"]
    for name, iou, support in rows:
        percent = f"{100 * iou:6.1f}" if support or iou else "     -"
        lines.append(f"{name:<{width}}  {percent} {support:>12,}")
    lines += [
        "",
        f"mIoU {100 * scores.miou:.2f} % over all {label_map.num_classes} classes (official rule), "
        f"{100 * scores.miou_present:.2f} % over the {scores.classes_present} present; "
        f"accuracy {100 * scores.accuracy:.2f} %; {counted(scores.points, 'labelled point')} of {counted(scans, 'scan')}",
    ]
    return "\n".join(lines)
