"""Pictures of what a data set holds, as matplotlib figures made without a display. Legend: K classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from pointseg.core.text import counted
from pointseg.pages.figures import contact_sheet
from pointseg.pages.html import short_count
from pointseg.quality.exploration_counts import HEIGHT_STEP, RANGE_BINS, RANGE_STEP

if TYPE_CHECKING:
    from pointseg.quality.exploration import Exploration

__all__ = ["figures"]

FAINT = "#e3e5e8"
SPLIT_COLORS = ("#2b6cb0", "#dd8b2a", "#3a9d6e", "#8c5fb0", "#7a7f85", "#b8475a", "#53b3c4", "#a39a2c")
COMMONEST = 9  # classes with a colour of their own in the stacked bars
ROW, MARGIN = 0.3, 1.5  # inches: a class's row, and what surrounds the rows
MOST_COLUMNS = 32  # sequences with numbers in the heat map
UNSEEN = 1e-4  # share of the points below which a height is not drawn


def figures(exploration: Exploration) -> dict[str, Figure]:
    """Every picture that the data allow, by name: those of classes need labels.

    Example:
        >>> figures(exploration)["contact_sheet"].savefig("samples.png")
    """
    drawn: dict[str, Figure] = {}
    labelled = bool(exploration.total.counts[:-1].any())
    if labelled:
        drawn["classes_by_split"] = classes_by_split(exploration)
        drawn["classes_by_sequence"] = classes_by_sequence(exploration)
        drawn["scans_by_content"] = scans_by_content(exploration)
    drawn["points_by_range"] = points_by_range(exploration)
    drawn["points_by_height"] = points_by_height(exploration)
    if labelled:
        drawn["remission_by_class"] = remission_by_class(exploration)
    if exploration.class_weights:
        drawn["class_weights"] = class_weights(exploration)
    if exploration.samples:
        drawn["contact_sheet"] = contact_sheet(exploration.samples, exploration.label_map)
    return drawn


# ---- classes ---------------------------------------------------------------------------------------------------------


def classes_by_split(exploration: Exploration) -> Figure:
    """Each split's labelled points by class, in percent, the commonest class on top."""
    order = _commonest_first(exploration)
    splits = {name: content for name, content in exploration.splits.items() if content.counts[:-1].any()}
    figure, axes = _rows(exploration, order, row=0.18 + 0.11 * len(splits))
    thick = 0.8 / len(splits)
    shares = {name: 100 * content.counts[:-1] / content.counts[:-1].sum() for name, content in splits.items()}
    least = 10.0 ** np.floor(np.log10(min(share[share > 0].min() for share in shares.values())) - 0.1)
    for place, (name, share) in enumerate(shares.items()):
        rows = np.arange(len(order)) + (place - (len(splits) - 1) / 2) * thick
        scans, points = splits[name].labelled_scans, splits[name].counts[:-1].sum()
        label = f"{name}: {counted(scans, 'scan')}, {short_count(points)} points"
        widths = np.maximum(share[order], least)  # none: no bar
        axes.barh(rows, widths - least, thick, left=least, color=SPLIT_COLORS[place % len(SPLIT_COLORS)], label=label)
        for row, value in zip(rows, share[order], strict=True):
            text = _percent(value) if value else "none"
            axes.text(max(value, least) * 1.12, row, text, va="center", fontsize=7, color="#444")
    axes.set_xscale("log")
    axes.set_xlim(least, 320)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("share of the split's labelled points, % (log axis)")
    axes.set_title("Classes by split, % of points", loc="left", fontsize=12)
    figure.legend(loc="outside lower center", ncol=min(len(splits), 3), frameon=False, fontsize=9)
    return figure


def classes_by_sequence(exploration: Exploration) -> Figure:
    """A heat map: each sequence's labelled points by class, in percent; blank where there is none."""
    order = _commonest_first(exploration)
    sequences = {name: content for name, content in exploration.sequences.items() if content.counts[:-1].any()}
    counts = np.stack([content.counts[order] for content in sequences.values()], axis=1).astype(np.float64)
    share = 100 * counts / np.array([content.counts[:-1].sum() for content in sequences.values()])
    width = MARGIN + 1.6 + max(0.55 * len(sequences), 4.0)
    figure = Figure(figsize=(min(width, 22), 1.7 + ROW * len(order)), layout="constrained")
    axes = figure.subplots()
    with np.errstate(divide="ignore"):
        shade = np.where(share > 0, np.log10(share), np.nan)
    image = axes.imshow(shade, cmap="viridis", vmin=-3, vmax=2, aspect="auto")
    if len(sequences) <= MOST_COLUMNS:
        for row, column in zip(*np.nonzero(share), strict=True):
            color = "k" if shade[row, column] > 0.2 else "w"
            text = _percent(share[row, column], "")
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    axes.set_yticks(range(len(order)), [_names(exploration)[i] for i in order], fontsize=9)
    labels = [f"{name}\n{exploration.split_of[name]}" for name in sequences]
    every = -(-len(sequences) // MOST_COLUMNS)
    steep = max(len(line) for label in labels for line in label.split("\n")) > 7
    axes.set_xticks(range(0, len(sequences), every), labels[::every], fontsize=8, rotation=90 if steep else 0)
    axes.set_xlabel("sequence and its split")
    axes.set_title("Classes by sequence, % of its labelled points (log colours)", loc="left", fontsize=12)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(sequences) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(order) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="w", linewidth=1)
    axes.tick_params(which="both", length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04)
    bar.set_ticks(range(-3, 3), labels=["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
    bar.outline.set_visible(False)
    return figure


def scans_by_content(exploration: Exploration) -> Figure:
    """For each class, how many of the labelled scans show it, and where most of it is."""
    order = _commonest_first(exploration, by=exploration.scans_with)
    labelled = exploration.total.labelled_scans
    shown = exploration.scans_with[order]
    figure, axes = _rows(exploration, order)
    axes.barh(range(len(order)), 100 * shown / labelled, 0.75, color=_colors(exploration)[order], **_edge())
    for row, (train_id, scans) in enumerate(zip(order, shown, strict=True)):
        share = 100 * scans / labelled
        text = "none" if not scans else f"{share:.0f} %" if share >= 0.5 else counted(int(scans), "scan")
        axes.text(share + 1, row, text, va="center", fontsize=8)
        if most := exploration.most(int(train_id), 2):
            named = ",  ".join(f"{scan} ({short_count(points)})" for scan, points in most)
            axes.text(114, row, named, va="center", fontsize=8, color="#444")
    axes.set_xlim(0, 178)
    axes.set_xticks(range(0, 101, 20))
    axes.spines["bottom"].set_bounds(0, 100)
    axes.text(114, -0.95, "scans with the most points of it", fontsize=8, va="center", color="#444", style="italic")
    axes.set_xlabel("share of the labelled scans that show the class, %", x=0.28)
    axes.set_title(f"What the scans show, % of {counted(labelled, 'scan')}", loc="left", fontsize=12, pad=16)
    return figure


def remission_by_class(exploration: Exploration) -> Figure:
    """Mean remission of each class's points."""
    mean = exploration.mean_remission
    order = np.array([i for i in np.argsort(-np.nan_to_num(mean[:-1], nan=-1)) if not np.isnan(mean[i])])
    figure, axes = _rows(exploration, order)
    axes.barh(range(len(order)), mean[order], 0.75, color=_colors(exploration)[order], **_edge())
    for row, value in enumerate(mean[order]):
        axes.text(value, row, f" {value:.2f}", va="center", fontsize=8)
    axes.set_xlabel("mean remission (0 to 1)")
    axes.margins(x=0.08)
    axes.set_title("Mean remission by class" + _looked_at(exploration), loc="left", fontsize=12)
    return figure


def class_weights(exploration: Exploration) -> Figure:
    """The weights that each weighting gives the classes, on a log axis."""
    weights = exploration.class_weights
    order = [i for i in _commonest_first(exploration) if i > 0 and weights["none"][i - 1] > 0]
    figure, axes = _rows(exploration, np.array(order))
    for (weighting, values), marker, color in zip(weights.items(), "|osD", ("k", *SPLIT_COLORS), strict=False):
        style = {"color": color, "markersize": 10 if marker == "D" else 6, "label": weighting}
        axes.plot([values[i - 1] for i in order], range(len(order)), marker, fillstyle="none", mew=1.8, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color=FAINT)
    axes.set_xlabel("weight in the loss, mean 1 over the classes (log axis)")
    source = "the training split" if exploration.weights_of == "train" else "all labelled scans"
    axes.set_title(f"Class weights by weighting, from {source}", loc="left", fontsize=12)
    figure.legend(loc="outside lower center", ncol=4, frameon=False, fontsize=9)
    return figure


# ---- geometry --------------------------------------------------------------------------------------------------------


def points_by_range(exploration: Exploration) -> Figure:
    """Points by distance to the sensor, stacked by class, and what each distance consists of."""
    edges = RANGE_STEP * np.arange(RANGE_BINS)
    figure, panels = _stacked(exploration, "range", exploration.range_counts, edges, RANGE_STEP)
    for axes in panels:
        axes.set_xticks(edges[::2], [*(f"{edge:g}" for edge in edges[:-1:2]), f"{edges[-1]:g}+"])
        axes.set_xlabel(f"distance to the sensor, m (each bar {RANGE_STEP:g} m)")
    return figure


def points_by_height(exploration: Exploration) -> Figure:
    """Points by z, stacked by class, and what each height consists of; the sparse ends are left out."""
    counts = exploration.height_counts
    inner = np.flatnonzero(counts.sum(axis=1) >= UNSEEN * max(counts.sum(), 1))
    shown = slice(int(inner[0]), int(inner[-1]) + 1) if len(inner) else slice(0, 0)
    lower = exploration.height_from[shown]
    figure, panels = _stacked(exploration, "height", counts[shown], lower, HEIGHT_STEP)
    for axes in panels:
        axes.set_xlabel(f"height z above the sensor, m (each bar {HEIGHT_STEP:g} m)")
    return figure


def _stacked(
    exploration: Exploration, by: str, counts: NDArray[np.int64], lower: NDArray[Any], step: float
) -> tuple[Figure, list[Any]]:
    """Bars of the commonest classes, then of what is left over: in thousands a scan, and in percent of what has labels."""
    by_points = _commonest_first(exploration, by=counts.sum(axis=0))
    classes = [i for i in by_points if i > 0 and counts[:, i].any()]
    own = len(classes) if len(classes) <= COMMONEST + 1 else COMMONEST
    layers = [(_names(exploration)[i], _colors(exploration)[i], counts[:, i]) for i in classes[:own]]
    if rest := classes[own:]:
        layers.append((f"{len(rest)} rarer classes", np.array([0.1] * 3), counts[:, rest].sum(axis=1)))
    layers += [
        ("ignored", np.array([0.72, 0.74, 0.76]), counts[:, 0]),
        ("no label", np.array([0.5] * 3), counts[:, -1]),
    ]
    labelled = counts[:, :-1].sum(axis=1)
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    panels = list(figure.subplots(1, 2 if labelled.any() else 1, squeeze=False)[0])
    places, width, thousands = lower + step / 2, 0.85 * step, 1000 * max(exploration.scans_looked_at, 1)
    below = np.zeros(len(counts))
    for name, color, layer in layers:
        if layer.any():
            panels[0].bar(places, layer / thousands, width, bottom=below / thousands, color=color, label=name)
            if name != "no label":
                percent = 100 / np.maximum(labelled, 1)
                panels[1].bar(places, layer * percent, width, bottom=below * percent, color=color)
            below += layer
    panels[0].set_ylabel("thousand points a scan")
    panels[0].set_title(f"Points by {by}, thousands a scan" + _looked_at(exploration), loc="left", fontsize=12)
    for axes in panels[1:]:
        axes.set(ylabel="%", ylim=(0, 100), xlim=panels[0].get_xlim())
        axes.set_title(f"Classes by {by}, % of the labelled points there", loc="left", fontsize=12)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=6, frameon=False, fontsize=9)
    return figure, panels


# ---- shared ----------------------------------------------------------------------------------------------------------


def _rows(exploration: Exploration, order: NDArray[Any], row: float = ROW) -> tuple[Figure, Any]:
    """Axes with a row for each class, the first on top."""
    figure = Figure(figsize=(11, MARGIN + row * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(order)), [_names(exploration)[i] for i in order], fontsize=9)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT)
    axes.set_axisbelow(True)
    return figure, axes


def _commonest_first(exploration: Exploration, by: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Training ids 1..K by falling count, then 0."""
    counts = exploration.total.counts if by is None else by
    return np.array([*(1 + np.argsort(-counts[1:-1], kind="stable")), 0])


def _names(exploration: Exploration) -> list[str]:
    return ["ignored", *exploration.label_map.class_names]


def _colors(exploration: Exploration) -> NDArray[np.float64]:
    colors = exploration.label_map.colors / 255.0
    colors[0] = 0.75
    return colors


def _edge() -> dict[str, Any]:
    return {"edgecolor": "#5f6368", "linewidth": 0.5}  # light colours need one on white


def _looked_at(exploration: Exploration) -> str:
    scans, total = exploration.scans_looked_at, len(exploration.names)
    return "" if scans == total else f" ({scans:,} of {total:,} scans)"


def _percent(value: float, unit: str = " %") -> str:
    """Two digits: 28 %, 2.3 %, 0.41 %, 0.0059 %."""
    return f"{value:.{max(0, 1 - int(np.floor(np.log10(value * 1.005))))}f}{unit}"
