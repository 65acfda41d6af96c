"""Scans side by side from above, coloured by label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pointseg.data.exploration_counts import Sample
from pointseg.labels import LabelMap
from pointseg.report.figures import BACKGROUND, REACH, on_dark

__all__ = ["contact_sheet"]

EDGE, TITLE, LEGEND_ROW = 4.8, 0.36, 0.24  # inches


def contact_sheet(samples: Sequence[Sample], label_map: LabelMap) -> Figure:
    """One panel a scan, ahead is up, and a legend of the classes that are there. Without labels, grey is remission.

    Example:
        >>> contact_sheet(exploration.samples, exploration.label_map).savefig("samples.png")
    """
    columns = min(len(samples), 3 if len(samples) <= 9 else 4)
    rows = -(-len(samples) // columns)
    seen = sorted({int(i) for sample in samples if sample.train_ids is not None for i in np.unique(sample.train_ids)})
    legend_rows = -(-len(seen) // (3 * columns + columns // 3))
    height = rows * (EDGE + TITLE) + LEGEND_ROW * (legend_rows + 1)
    figure = Figure(figsize=(EDGE * columns, height), facecolor=BACKGROUND)
    for place, sample in enumerate(samples):
        row, column = divmod(place, columns)
        bottom = 1 - (row + 1) * (EDGE + TITLE) / height
        _panel(figure.add_axes((column / columns, bottom, 1 / columns, EDGE / height)), sample, label_map)
    colors, names = on_dark(label_map), ("ignored", *label_map.class_names)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colors[i], label=names[i])
        for i in sorted(seen, key=lambda train_id: (train_id == 0, train_id))
    ]
    if handles:
        per_row = -(-len(handles) // legend_rows)
        figure.legend(handles=handles, loc="lower center", ncol=per_row, frameon=False, fontsize=10, labelcolor="white")
    return figure


def _panel(axes: Any, sample: Sample, label_map: LabelMap) -> None:
    order = np.argsort(sample.points[:, 2], kind="stable")  # higher points over lower ones
    points = sample.points[order]
    if sample.train_ids is None:
        axes.text(5 - REACH, 4 - REACH, "no labels: grey is remission", color="white", fontsize=9)
        colors = np.repeat(0.3 + 0.7 * points[:, 3:4].clip(0, 1), 3, axis=1)
    else:
        colors = on_dark(label_map)[sample.train_ids[order]]
    axes.scatter(-points[:, 1], points[:, 0], c=colors, s=0.5, linewidths=0)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[], yticks=[], facecolor=BACKGROUND)
    axes.spines[:].set_visible(False)
    axes.plot(0, 0, marker="^", color="white", markersize=6)
    axes.plot([REACH - 15, REACH - 5], [-REACH + 4] * 2, color="white", linewidth=2)
    axes.text(REACH - 10, -REACH + 5.5, "10 m", color="white", ha="center", fontsize=9)
    axes.set_title(f"{sample.name}   {len(points):,} points", color="white", fontsize=11)
