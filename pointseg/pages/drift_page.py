"""Whether new scans are like the training scans, as one HTML page that needs no other file and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pointseg.core.files import write_text
from pointseg.pages.html import CHART_STYLE, own_file, render, svg
from pointseg.quality.drift import DRIFT_LIMIT, Drift
from pointseg.quality.input_statistics import Quantity

__all__ = ["drift_figure", "write_drift_page"]

BLUE, ORANGE, BAND = "#2b6cb0", "#c4621b", "#bcd3ee"
WAYS = {
    "wasserstein": "1-Wasserstein distance",
    "variation": "total variation distance",
    "log": "mean difference of logarithms",
}


def write_drift_page(path: str | Path, drift: Drift, *, new: str = "the new scans", against: str = "training") -> Path:
    """Write the page, whole or not at all; its path.

    Args:
        drift: what `compare` found.
        new, against: what the new scans and the training scans are called.

    Raises:
        OutputError: if the file cannot be written.

    Example:
        >>> write_drift_page("drift.html", compare(measure(new_scans), training))
    """
    path = Path(path).expanduser()
    with mpl.rc_context(CHART_STYLE):
        text = render(
            "drift.html",
            drift=drift,
            new=new,
            against=against,
            limit=DRIFT_LIMIT,
            ways={d.name: WAYS[drift.reference.quantities[d.name].kind.compare] for d in drift.differences},
            pictures=[
                (d, svg(drift_figure(drift.new.quantities[d.name], drift.reference.quantities[d.name])))
                for d in drift.differences
            ],
            style=own_file("report.css"),
        )
    write_text(path, text)
    return path


def drift_figure(new: Quantity, reference: Quantity) -> Figure:
    """One quantity: the new set's mean over the mean of the training sequences and the band from their least to their
    most."""
    kind = reference.kind
    values = [reference.low, reference.high, reference.mean, new.mean]
    low, high, usual, now = (np.exp(v) if kind.compare == "log" else 100 * v for v in values)
    figure = Figure(figsize=(8.4, 1.9 if kind.bins == 1 else 3.0), layout="constrained")
    axes = figure.subplots()
    if kind.labels:
        _bars(axes, kind.labels, low, high, usual, now)
    else:
        edges = np.array(kind.edges)
        axes.stairs(high, edges, baseline=low, fill=True, color=BAND, label="training sequences, least to most")
        axes.stairs(usual, edges, color=BLUE, label="training, mean")
        axes.stairs(now, edges, color=ORANGE, linewidth=1.6, label="new scans")
        used = np.flatnonzero((high > 0) | (now > 0))
        axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
        axes.set_xlabel(f"{kind.name}, {kind.unit}" if kind.unit else kind.name)
    axes.set_ylabel(kind.unit.removeprefix("log ") if kind.compare == "log" else "% of the points")
    axes.set_ylim(0, 1.08 * max(float(high.max()), float(now.max())))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _bars(axes: Any, labels: tuple[str, ...], low: Any, high: Any, usual: Any, now: Any) -> None:
    places = np.arange(len(labels))
    axes.bar(places, high - low, 0.8, low, color=BAND, label="training sequences, least to most")
    axes.hlines(usual, places - 0.4, places + 0.4, color=BLUE, label="training, mean")
    axes.plot(places, now, "o", color=ORANGE, markersize=5, label="new scans")
    step = 1 if len(labels) <= 20 else 3
    turned = {"rotation": 45, "ha": "right"} if len(labels) > 8 else {}
    axes.set_xticks(places[::step], labels[::step], fontsize=8, **turned)
    axes.set_xlim(-0.8, len(labels) - 0.2)
