"""Pictures of scores and scans, as matplotlib figures made without a display."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from pointseg.core.files import whole_file
from pointseg.core.labels import LabelMap
from pointseg.engine.evaluation import Evaluation
from pointseg.engine.metrics import Scores
from pointseg.quality.exploration_counts import Sample

__all__ = ["birds_eye", "confusion", "contact_sheet", "on_dark", "paletted", "write_figures"]

BACKGROUND = "#111417"
ERROR, RIGHT, UNLABELLED = (1.0, 0.25, 0.2), (0.42, 0.45, 0.48), (0.25, 0.25, 0.27)
REACH = 50.0  # metres shown around the sensor; labels reach about that far
EDGE, TITLE, LEGEND_ROW = 4.8, 0.36, 0.24  # inches of a contact sheet
FILE_DPI = 110
PALETTE_COLORS = 256  # of a PNG
FEWEST_SHADES = 3  # below, edges of points would be jagged: the picture is left as it is


def write_figures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write figures/*.png into a folder; returns their paths.

    Raises:
        OutputError: if one cannot be written.

    Example:
        >>> write_figures(evaluate(predictor, source), Path("scores"))
    """
    drawings = {"confusion_matrix.png": confusion(evaluation.scores, evaluation.label_map)}
    for scan in evaluation.shown:
        drawing = birds_eye(scan.points, scan.truth, scan.prediction, evaluation.label_map, title=scan.name)
        drawings[f"scan_{scan.name.replace('/', '_')}.png"] = drawing
    for name, drawing in drawings.items():
        with whole_file(folder / "figures" / name) as temporary:
            drawing.savefig(temporary, format="png", dpi=FILE_DPI)
    return [folder / "figures" / name for name in drawings]


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
    _from_above(panels[0], points, truth_colors, f"truth   {title}", 0.35)
    _from_above(panels[1], points, colors[prediction], "prediction", 0.35)
    _from_above(panels[2], points, errors, f"wrong: {share:.1f} % of the labelled points", 0.35)
    occurring = sorted({*np.unique(truth[labelled]).tolist(), *np.unique(prediction).tolist()} - {0})
    handles = _dots(colors, ("ignored", *label_map.class_names), occurring)
    figure.legend(handles=handles, loc="lower center", ncol=10, frameon=False, fontsize=9, labelcolor="white")
    return figure


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
        _sample(figure.add_axes((column / columns, bottom, 1 / columns, EDGE / height)), sample, label_map)
    colors, names = on_dark(label_map), ("ignored", *label_map.class_names)
    occurring = sorted(seen, key=lambda train_id: (train_id == 0, train_id))
    handles = _dots(colors, names, occurring)
    if handles:
        per_row = -(-len(handles) // legend_rows)
        figure.legend(handles=handles, loc="lower center", ncol=per_row, frameon=False, fontsize=10, labelcolor="white")
    return figure


def _sample(axes: Any, sample: Sample, label_map: LabelMap) -> None:
    order = np.argsort(sample.points[:, 2], kind="stable")  # higher points over lower ones
    points = sample.points[order]
    if sample.train_ids is None:
        axes.text(5 - REACH, 4 - REACH, "no labels: grey is remission", color="white", fontsize=9)
        colors = np.repeat(0.3 + 0.7 * points[:, 3:4].clip(0, 1), 3, axis=1)
    else:
        colors = on_dark(label_map)[sample.train_ids[order]]
    _from_above(axes, points, colors, f"{sample.name}   {len(points):,} points", 0.5)


def _from_above(axes: Any, points: NDArray[np.float32], colors: NDArray[np.float64], title: str, dot: float) -> None:
    """Ahead is up; the sensor is in the middle."""
    axes.scatter(-points[:, 1], points[:, 0], c=colors, s=dot, linewidths=0)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[], yticks=[], facecolor=BACKGROUND)
    axes.spines[:].set_visible(False)
    axes.plot(0, 0, marker="^", color="white", markersize=6)
    axes.plot([REACH - 15, REACH - 5], [-REACH + 4] * 2, color="white", linewidth=2)
    axes.text(REACH - 10, -REACH + 5.5, "10 m", color="white", ha="center", fontsize=8)
    axes.set_title(title, color="white", fontsize=11)


def _dots(colors: NDArray[np.float64], names: Sequence[str], train_ids: Iterable[int]) -> list[Line2D]:
    """What a legend shows."""
    return [Line2D([], [], marker="o", linestyle="", color=colors[i], label=names[i]) for i in train_ids]


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


def paletted(figure: Figure, label_map: LabelMap, *, dpi: int = 80) -> io.BytesIO:
    """A `birds_eye` picture as PNG. Its palette: the colours of classes, errors and text, and shades of each towards the
    background. A palette made from the picture would lose the classes that have few points.

    Example:
        >>> png = paletted(birds_eye(points, truth, prediction, label_map), label_map).getvalue()
    """
    full = io.BytesIO()
    figure.savefig(full, format="png", dpi=dpi)
    colors = np.vstack([label_map.colors[1:] / 255.0, [ERROR, RIGHT, UNLABELLED, (1.0, 1.0, 1.0)]])
    colors = np.unique(colors, axis=0)
    shades = min((PALETTE_COLORS - 1) // len(colors), 8)
    if shades < FEWEST_SHADES:
        return full
    background = np.array(to_rgb(BACKGROUND))
    strengths = np.arange(1, shades + 1)[:, None, None] / shades
    mixed = (background + strengths * (colors - background)).reshape(-1, 3)
    table = np.rint(255 * np.vstack([background, mixed])).astype(np.uint8)
    palette = Image.new("P", (1, 1))
    palette.putpalette(table.tobytes())
    small = io.BytesIO()
    with Image.open(full) as picture:
        reduced = picture.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
        reduced.save(small, format="png", optimize=True)
    return small
