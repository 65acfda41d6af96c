"""The report on a trained model as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from pointseg.assessment import Assessment, Worst
from pointseg.files import write_text
from pointseg.metrics import score
from pointseg.report import score_figures
from pointseg.report.comparison import FEWEST_SCANS, changes
from pointseg.report.content import Content
from pointseg.report.figures import birds_eye, confusion
from pointseg.report.palette import paletted
from pointseg.report.viewer import viewer_data
from pointseg.words import counted

__all__ = ["Subject", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
NO_CURVE = (
    "No curve is known: runs keep theirs in history.csv; a bare checkpoint, a bundle or a run of an earlier version has "
    "none."
)
STYLE = {"text.parse_math": False, "svg.fonttype": "path", "svg.hashsalt": "pointseg"}  # class names may hold dollars


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
    with mpl.rc_context(STYLE):
        text = _render(subject, against, data, draws, seed)
    write_text(path, text)
    return path


def _render(subject: Subject, against: Subject | None, data: str, draws: int, seed: int) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # names of classes, sequences and folders are the user's
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        percent=_percent, signed=_signed, number=_number, share=_share, short=_short, counted=_counted
    )
    content = Content(subject.assessment, draws=draws, seed=seed)
    assessment, label_map = subject.assessment, subject.assessment.label_map
    return environment.get_template("report.html").render(
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
        style=_own("report.css"),
        points=_own("points.js") + _own("stage.js"),
        script=_own("viewer.js"),
    )


def _own(name: str) -> Markup:
    """A file of ours, put into the page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # nothing of the user's is in it


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
    said = f"Of {_counted(len(classes), 'class', 'classes')} here, {better} got better and {worse} worse."
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
        "range": _svg(score_figures.by_range(content)),
        "frequency": _svg(score_figures.by_frequency(content)),
        "confusion": _svg(confusion(content.scores, content.label_map)),
        "reliability": _svg(score_figures.reliability_diagram(content.assessment.reliability)),
        "learning": _svg(score_figures.learning_curves(histories)) if histories else None,
    }


def _worst(entry: Worst, assessment: Assessment) -> dict[str, Any]:
    scan = entry.scan
    scores = score(assessment.confusions[assessment.names.index(scan.name)])
    drawing = birds_eye(scan.points, scan.truth, scan.prediction, assessment.label_map, title=scan.name)
    return {
        "name": scan.name,
        "miou": scores.miou_present,
        "classes": scores.classes_present,
        "accuracy": scores.accuracy,
        "points": scores.points,
        "image": _address(paletted(drawing, assessment.label_map), "image/png"),
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


# ---- pictures and numbers --------------------------------------------------------------------------------------------


def _svg(figure: Figure) -> str:
    """A chart: lines that stay sharp."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return _address(content, "image/svg+xml")


def _address(content: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _number(value: int) -> str:
    return f"{value:,}"


def _share(value: float) -> str:
    return f"{100 * value:.3g}" if value else "0"


def _short(value: int) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value}"


def _counted(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural}" if plural else counted(number, noun)
