"""Charts of a report, as matplotlib figures made without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pointseg.pages.html import short_count
from pointseg.pages.report_content import COMMON, RARE, Content
from pointseg.quality.assessment import Reliability

__all__ = ["by_frequency", "by_range", "learning_curves", "reliability_diagram"]

BLUE, ORANGE, GREEN, GREY, FAINT = "#2b6cb0", "#c4621b", "#2f855a", "#6b7280", "#e3e5e8"
SOFT = "#444"
Row = Mapping[str, float]


def by_range(content: Content) -> Figure:
    """Mean IoU of the classes present, and accuracy, by distance to the sensor, over how many points lie there."""
    bands = [band for band in content.bands if band.scores.points]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    places = range(len(bands))
    for values, color, marker, name in (
        ([100 * band.scores.miou_present for band in bands], BLUE, "o", "mean IoU of the classes present"),
        ([100 * band.scores.accuracy for band in bands], ORANGE, "s", "accuracy"),
    ):
        axes.plot(places, values, color=color, marker=marker, label=name)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:.1f}", (place, value), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=color
            )
    axes.set_ylim(0, 105)
    axes.set_ylabel("%")
    axes.legend(frameon=False, fontsize=9)
    below.bar(places, [band.scores.points for band in bands], color=GREY, width=0.6)
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    below.set_ylabel("labelled\npoints", fontsize=9)
    below.set_xticks(places, [band.name for band in bands])
    below.set_xlabel("distance to the sensor")
    _plain(axes, below)
    return figure


def by_frequency(content: Content) -> Figure:
    """IoU of each class that occurs against its share of the labelled points (log axis), with its interval."""
    rows = [row for row in content.classes if row.support]
    colors = content.label_map.colors / 255.0
    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        share, iou = 100 * row.share, 100 * row.iou.value
        if row.iou.interval:
            span = [100 * row.iou.interval.low, 100 * row.iou.interval.high]
            axes.plot([share, share], span, color=GREY, linewidth=1, zorder=1)
        axes.plot(share, iou, "o", color=colors[row.train_id], markeredgecolor=SOFT, markersize=8, zorder=2)
    for limit in (100 * RARE, 100 * COMMON):
        axes.axvline(limit, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    shares = [100 * row.share for row in rows] or [1.0]
    axes.set_xlim(min(shares) / 1.6, max(*shares, 100 * COMMON) * 2.4)
    axes.set_ylim(-4, 104)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("share of the labelled points, % (log axis); dotted: where rare and common begin")
    axes.set_ylabel("IoU, %")
    _plain(axes)
    _name_dots(axes, [(100 * row.share, 100 * row.iou.value, row.name) for row in rows])
    return figure


def _name_dots(axes: Any, dots: Sequence[tuple[float, float, str]]) -> None:
    """A name beside each dot, right or left or a little above, where it covers no dot and no other name."""
    low, high = np.log10(axes.get_xlim())
    place = [((np.log10(share) - low) / (high - low), (iou + 4) / 108) for share, iou, _ in dots]
    taken = [
        (x - 0.008, x + 0.008, y) for x, y in place
    ]  # left, right, height of dots and names, as shares of the axes
    for (x, y), (_, _, name) in sorted(zip(place, dots, strict=True)):
        width = 0.0105 * len(name)
        spots = [
            (left, height)
            for height in y + 0.012 * np.arange(30)
            for left in (x + 0.013, x - 0.013 - width)
            if left > 0 and not any(left < r and left + width > le and abs(height - h) < 0.036 for le, r, h in taken)
        ]
        left, height = spots[0] if spots else (x + 0.013, y)
        taken.append((left, left + width, height))
        style = {"fontsize": 8, "va": "center", "color": SOFT, "transform": axes.transAxes}
        axes.text(
            *((left, height) if left > x else (x - 0.013, height)), name, ha="left" if left > x else "right", **style
        )


def reliability_diagram(reliability: Reliability) -> Figure:
    """Accuracy against confidence in equal bins, and how many points are that sure."""
    bins = len(reliability.points)
    filled = reliability.points > 0
    sure = 100 * reliability.confidence[filled] / reliability.points[filled]
    right = 100 * reliability.right[filled] / reliability.points[filled]
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="as right as it is sure")
    centers = 100 * (np.flatnonzero(filled) + 0.5) / bins
    width = 100 / bins * 0.92
    axes.bar(centers, right, width, color="#9fc1e6", edgecolor=BLUE, linewidth=0.8, label="accuracy of the bin")
    axes.plot(sure, right, "o", color=BLUE, markersize=4, label="its mean confidence")
    axes.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy, %")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    below.bar(centers, 100 * reliability.points[filled] / max(reliability.points.sum(), 1), width, color=GREY)
    below.set_ylabel("% of\npoints", fontsize=9)
    below.set_xlabel("confidence (probability of the predicted class), %")
    _plain(axes, below)
    return figure


def learning_curves(histories: Mapping[str, Sequence[Row]]) -> Figure:
    """Training loss and validation scores by epoch, of one run or of two in one figure.

    Args:
        histories: name of the run -> rows of its history.csv.
    """
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, rows), style in zip(histories.items(), ("-", "--"), strict=False):
        mark = "o" if len(rows) <= 30 else ""
        prefix = f"{name}: " if len(histories) > 1 else ""
        for axes, key, factor, color, label in (
            (left, "train/loss", 1, GREY, "training loss"),
            (right, "val/accuracy", 100, ORANGE, "accuracy"),
            (right, "val/miou_present", 100, GREEN, "mIoU, classes present"),
            (right, "val/miou", 100, BLUE, "mIoU, official"),
        ):
            points = [(row["epoch"], factor * row[key]) for row in rows if key in row]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, color=color, marker=mark, markersize=4, label=prefix + label)
    left.set(xlabel="epoch", ylabel="loss", title="training")
    right.set(xlabel="epoch", ylabel="%", title="validation")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
        else:
            axes.text(0.5, 0.5, "nothing was logged", ha="center", transform=axes.transAxes, color=SOFT)
    _plain(left, right)
    return figure


def _plain(*panels: Any) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=FAINT)
        axes.set_axisbelow(True)
