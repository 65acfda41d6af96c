"""Pictures of scores and scans, as matplotlib figures made without a display."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pointseg.labels import LabelMap
from pointseg.metrics import Scores

__all__ = ["birds_eye", "confusion", "on_dark"]

BACKGROUND = "#111417"
ERROR, RIGHT, UNLABELLED = (1.0, 0.25, 0.2), (0.42, 0.45, 0.48), (0.25, 0.25, 0.27)
REACH = 50.0  # metres shown around the sensor; labels reach about that far


def confusion(scores: Scores, label_map: LabelMap) -> Figure:
    """The confusion matrix of the labelled points, each row in percent of its class; rows without a point stay blank."""
    counts = scores.confusion[1:, 1:].astype(np.float64)
    support = counts.sum(axis=1, keepdims=True)
    percent = np.divide(100 * counts, support, out=np.full_like(counts, np.nan), where=support > 0)
    names = label_map.class_names
    edge = 2.5 + 0.36 * len(names)
    figure = Figure(figsize=(edge + 0.9, edge), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for row, column in zip(*np.nonzero(np.nan_to_num(percent) >= 0.5), strict=True):
        value = percent[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color="w" if value > 55 else "k")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(f"Share of each class's points, %   (mIoU {100 * scores.miou:.1f} %)", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def birds_eye(
    points: NDArray[np.float32],
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    label_map: LabelMap,
    *,
    title: str = "",
) -> Figure:
    """A scan from above, three times: truth, prediction, and what is wrong. Ahead is up.

    Args:
        points: (N, 4) metres.
        truth, prediction: (N,) training ids.
    """
    figure = Figure(figsize=(15, 5.9), facecolor=BACKGROUND)
    panels = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.93, bottom=0.13, wspace=0.01)
    order = np.argsort(points[:, 2], kind="stable")  # higher points over lower ones
    points, truth, prediction = points[order], truth[order], prediction[order]
    colors = label_map.colors / 255.0
    labelled = truth > 0
    right = np.where(labelled[:, None], RIGHT, UNLABELLED)
    wrong = labelled & (truth != prediction)
    errors = np.where(wrong[:, None], ERROR, right)
    share = 100 * wrong.sum() / max(labelled.sum(), 1)
    truth_colors = np.where(labelled[:, None], colors[truth], UNLABELLED)
    _panel(panels[0], points, truth_colors, f"truth   {title}")
    _panel(panels[1], points, colors[prediction], "prediction")
    _panel(panels[2], points, errors, f"wrong: {share:.1f} % of the labelled points")
    seen = sorted(set(np.unique(truth[labelled])) | set(np.unique(prediction)))
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colors[i], label=label_map.class_names[i - 1])
        for i in seen
        if i > 0
    ]
    legend = figure.legend(handles=handles, loc="lower center", ncol=10, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_color("white")
    return figure


def _panel(axes: Any, points: NDArray[np.float32], colors: NDArray[np.float64], title: str) -> None:
    axes.scatter(-points[:, 1], points[:, 0], c=colors, s=0.35, linewidths=0)
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(-REACH, REACH)
    axes.set_aspect("equal")
    axes.set_facecolor(BACKGROUND)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.plot(0, 0, marker="^", color="white", markersize=6)
    axes.set_title(title, color="white", fontsize=11)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.plot([REACH - 15, REACH - 5], [-REACH + 4] * 2, color="white", linewidth=2)
    axes.text(REACH - 10, -REACH + 5.5, "10 m", color="white", ha="center", fontsize=8)


def on_dark(label_map: LabelMap) -> NDArray[np.float64]:
    """The classes' colours (K + 1, 3) in [0, 1], dark ones lightened until they stand out on the background; row 0, what
    is ignored, is grey.

    Example:
        >>> on_dark(LabelMap.load("semantickitti"))[0]
        array([0.3, 0.3, 0.3])
    """
    colors = label_map.colors / 255.0
    luminance = colors @ np.array([0.3, 0.59, 0.11])
    colors = colors + (1 - colors) * np.clip((0.32 - luminance) / 0.6, 0, 0.45)[:, None]
    colors[0] = 0.3
    return colors
