"""The report on a trained model as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from pointseg.core.files import write_text
from pointseg.engine.metrics import score
from pointseg.pages import score_figures
from pointseg.pages.comparison import FEWEST_SCANS, changes
from pointseg.pages.figures import birds_eye, confusion, paletted
from pointseg.pages.html import CHART_STYLE, data_address, own_file, render, svg
from pointseg.pages.report_content import Content
from pointseg.pages.viewer import viewer_data
from pointseg.quality.assessment import Assessment, WorstScan

__all__ = ["Subject", "write_report"]

NO_CURVE = (
    "No curve is known: runs keep theirs in history.csv; a bare checkpoint, a bundle or a run of an earlier version has "
    "none."
)


@dataclass(frozen=True)
class Subject:
    """A model under report.

    Attributes:
        name: what it is called in the page, such as its run folder.
        assessment: from `assess`.
        history: rows of its history.csv; none where no learning curve is known.
        about: further facts for the end of the page.
    """

    name: str
    assessment: Assessment
    history: Sequence[Mapping[str, float]] = ()
    about: Mapping[str, str] = field(default_factory=dict)


def write_report(
    path: str | Path,
    subject: Subject,
    *,
    against: Subject | None = None,
    data: str = "the given scans",
    draws: int = 1000,
    seed: int = 0,
) -> Path:
    """Write the page, whole or not at all; its path.

    Args:
        subject: the model that is reported.
        against: another one, assessed on the same scans, to tell what got better and worse.
        data: what the scans are, in words.
        draws: resamples of scans behind each interval.
        seed: of the resamples.

    Raises:
        CheckpointError: if the two models have other classes or were scored on other scans.
        OutputError: if the file cannot be written.

    Example:
        >>> write_report("report.html", Subject("first", assess(predictor, source)))
    """
    path = Path(path).expanduser()
    with mpl.rc_context(CHART_STYLE):
        text = _render(subject, against, data, draws, seed)
    write_text(path, text)
    return path


def _render(subject: Subject, against: Subject | None, data: str, draws: int, seed: int) -> str:
    content = Content(subject.assessment, draws=draws, seed=seed)
    assessment, label_map = subject.assessment, subject.assessment.label_map
    return render(
        "report.html",
        title=f"Report on {subject.name}",
        data=data,
        scans=len(assessment.names),
        overall=content.overall,
        calibration_error=assessment.reliability.error,
        intervals_note=_intervals_note(content, draws),
        against=_against(content, against, draws, seed),
        classes=content.classes,
        absent=content.absent,
        colors=[f"rgb({r}, {g}, {b})" for r, g, b in label_map.colors.tolist()],
        sequences=content.sequences,
        sequences_note=_sequences_note(content),
        bands=content.bands,
        groups=content.groups,
        bins=_bins(content),
        pictures=_pictures(content, subject, against),
        learning_note=_learning_note(subject, against),
        worst=[_worst(entry, assessment) for entry in assessment.worst],
        viewer=viewer_data(assessment.shown, label_map) if assessment.shown else None,
        legend=_legend(assessment),
        about=list(subject.about.items()),
        style=own_file("report.css"),
        points=own_file("points.js", "stage.js"),
        script=own_file("viewer.js"),
    )


# ---- sections --------------------------------------------------------------------------------------------------------


def _intervals_note(content: Content, draws: int) -> str:
    scans = len(content.assessment.names)
    if scans < 2:
        return "There is one scan, so no interval can be given: how far the scores may be off is not known."
    note = (
        f"Intervals (95 %) hold the middle of {draws:,} resamples of whole scans (bootstrap), for a sequence of its own "
        "scans. Neighbouring frames of one drive are nearly the same scene, so intervals over frames of one drive are too "
        "narrow, and none tells how the model does in another town."
    )
    few = scans < FEWEST_SCANS or any((part.scans or 0) < FEWEST_SCANS for part in content.sequences)
    return note + (f" Of fewer than {FEWEST_SCANS} scans they are no more than a hint." if few else "")


def _sequences_note(content: Content) -> str:
    note = "All scans are of one. " if len(content.sequences) == 1 else ""
    return note + ("A dash for an interval: one scan has none." if any(p.scans == 1 for p in content.sequences) else "")


def _against(content: Content, against: Subject | None, draws: int, seed: int) -> dict[str, Any] | None:
    if against is None:
        return None
    means, classes = changes(content, Content(against.assessment, draws=draws, seed=seed))
    verdicts = [change.verdict for change in classes]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    said = f"Of {len(classes):,} classes here, {better} got better and {worse} worse."
    if "too few scans" in verdicts:
        said = f"Here are too few scans for a verdict: {len(content.assessment.names)}."
    return {"name": against.name, "rows": [*means, *classes], "fewest": FEWEST_SCANS, "verdicts": said}


def _bins(content: Content) -> list[dict[str, Any]]:
    reliability = content.assessment.reliability
    edges = np.linspace(0, 100, len(reliability.points) + 1)
    rows = zip(reliability.points, reliability.right, reliability.confidence, strict=True)
    return [
        {
            "name": f"{edges[place]:.1f} to {edges[place + 1]:.1f}",
            "points": int(points),
            "confidence": float(confidence / points) if points else 0.0,
            "accuracy": float(right / points) if points else 0.0,
        }
        for place, (points, right, confidence) in enumerate(rows)
    ]


def _histories(subject: Subject, against: Subject | None) -> dict[str, Sequence[Mapping[str, float]]]:
    named = {"this model": subject.history, "the other": against.history if against else ()}
    return {name: rows for name, rows in named.items() if rows}


def _learning_note(subject: Subject, against: Subject | None) -> str:
    known = _histories(subject, against)
    if not known:
        return NO_CURVE
    note = "Loss of the training points, and scores of the validation split in the epochs that were validated."
    if against and len(known) == 2:
        return note + " Solid: this model; dashed: the other."
    return note + (f" Of {next(iter(known))}; the other keeps no history.csv." if against else "")


def _pictures(content: Content, subject: Subject, against: Subject | None) -> dict[str, str | None]:
    histories = _histories(subject, against)
    return {
        "range": svg(score_figures.by_range(content)),
        "frequency": svg(score_figures.by_frequency(content)),
        "confusion": svg(confusion(content.scores, content.label_map)),
        "reliability": svg(score_figures.reliability_diagram(content.assessment.reliability)),
        "learning": svg(score_figures.learning_curves(histories)) if histories else None,
    }


def _worst(entry: WorstScan, assessment: Assessment) -> dict[str, Any]:
    scan = entry.scan
    scores = score(assessment.confusions[assessment.names.index(scan.name)])
    drawing = birds_eye(scan.points, scan.truth, scan.prediction, assessment.label_map, title=scan.name)
    return {
        "name": scan.name,
        "miou": scores.miou_present,
        "classes": scores.classes_present,
        "accuracy": scores.accuracy,
        "points": scores.points,
        "image": data_address(paletted(drawing, assessment.label_map), "image/png"),
    }


def _legend(assessment: Assessment) -> list[dict[str, Any]]:
    """What occurs in the scans of the viewer, the commonest truth first, then what is only predicted, then unlabelled."""
    size = assessment.label_map.num_classes + 1
    truth, said = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for scan in assessment.shown:
        truth += np.bincount(scan.truth, minlength=size)
        said += np.bincount(scan.prediction, minlength=size)
    data = viewer_data([], assessment.label_map)
    order = sorted(range(1, size), key=lambda i: (-truth[i], -said[i], i))
    shown = [i for i in order if truth[i] or said[i]] + ([0] if truth[0] else [])
    return [
        {"train_id": i, "name": data["names"][i], "color": "rgb({}, {}, {})".format(*data["colors"][i])} for i in shown
    ]
