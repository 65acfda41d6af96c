"""What a data set holds as one HTML page that needs no other file: tables, and pictures embedded in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pointseg.core.files import check_writable, whole_file, write_json, write_text
from pointseg.core.text import listed
from pointseg.pages.exploration_figures import figures
from pointseg.pages.html import PNG_DPI, png, render
from pointseg.quality.exploration import Exploration

__all__ = ["ExplorationView", "html_section", "show", "write_exploration", "write_page"]


def html_section(exploration: Exploration, *, title: str = "What the data hold") -> str:
    """A `<section>` to put into a page or to show in a notebook; its style touches nothing outside of it.

    Example:
        >>> IPython.display.HTML(html_section(exploration))
    """
    return _render(exploration, title, page=False)


def write_page(exploration: Exploration, path: str | Path, *, title: str = "What the data hold") -> Path:
    """Write a whole page; its path.

    Raises:
        OutputError: if the file cannot be written.

    Example:
        >>> write_page(explore(source, label_map), "exploration.html")
    """
    path = Path(path).expanduser()
    write_text(path, _render(exploration, title, page=True))
    return path


def write_exploration(exploration: Exploration, folder: str | Path) -> list[Path]:
    """Write `exploration.json` and a PNG for each figure; their paths. Files of an earlier one are replaced.

    Raises:
        OutputError: if the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    check_writable(folder, "folder")
    paths = [folder / "exploration.json"]
    write_json(paths[0], exploration.to_dict())
    for name, figure in figures(exploration).items():
        paths.append(folder / f"{name}.png")
        with whole_file(paths[-1]) as temporary:
            figure.savefig(temporary, format="png", dpi=PNG_DPI)
    return paths


class ExplorationView:
    """What a notebook shows as the page."""

    def __init__(self, exploration: Exploration) -> None:
        self.exploration = exploration

    def _repr_html_(self) -> str:
        return html_section(self.exploration)


def show(exploration: Exploration) -> ExplorationView:
    """The page in a notebook.

    Example:
        >>> show(explore(source, label_map))
    """
    return ExplorationView(exploration)


def _render(exploration: Exploration, title: str, *, page: bool) -> str:
    looked_at, scans = exploration.scans_looked_at, len(exploration.names)
    sampled = f"Distances, heights and remission are those of {looked_at:,} of the {scans:,} scans, evenly spread."
    return render(
        "exploration.html",
        page=page,
        title=title,
        numbers=_numbers(exploration),
        sampled=sampled if looked_at < scans else "",
        splits=_splits(exploration),
        classes=_classes(exploration),
        weightings=list(exploration.class_weights),
        weights_of="the training split" if exploration.weights_of == "train" else "all labelled scans",
        pictures=[(name.replace("_", " "), png(figure)) for name, figure in figures(exploration).items()],
    )


def _numbers(exploration: Exploration) -> list[tuple[str, str]]:
    total = exploration.total
    least, median, most = exploration.points_per_scan
    return [
        (f"{total.scans:,}", "scans"),
        (f"{total.labelled_scans:,}", "with labels"),
        (f"{len(exploration.sequences):,}", "sequences"),
        (f"{total.points:,}", "points"),
        (f"{least:,} / {median:,.0f} / {most:,}", "points a scan: least, median, most"),
        (exploration.label_map.name, "label map"),
    ]


def _splits(exploration: Exploration) -> list[dict[str, str]]:
    members: dict[str, list[str]] = {}
    for sequence, split in exploration.split_of.items():
        members.setdefault(split, []).append(sequence)
    return [
        {
            "name": name,
            "scans": f"{content.scans:,}",
            "labelled": f"{content.labelled_scans:,}",
            "points": f"{content.points:,}",
            "sequences": listed(members[name]),
        }
        for name, content in exploration.splits.items()
    ]


def _classes(exploration: Exploration) -> list[dict[str, Any]]:
    """Rows of the classes, the commonest first, then what is ignored; none without labels."""
    counts, labelled = exploration.total.counts[:-1], exploration.total.labelled_scans
    if not counts.any():
        return []
    names = ("ignored", *exploration.label_map.class_names)
    colors, weights = exploration.label_map.colors, exploration.class_weights.values()
    rows = []
    for train_id in [*(1 + np.argsort(-counts[1:], kind="stable")), 0]:
        points, mean = int(counts[train_id]), exploration.mean_remission[train_id]
        shown = int(exploration.scans_with[train_id])
        red, green, blue = (int(value) for value in colors[train_id])
        rows.append(
            {
                "name": names[train_id],
                "color": f"rgb({red}, {green}, {blue})",
                "points": f"{points:,}",
                "share": f"{100 * points / counts.sum():.3g} %",
                "scans": f"{100 * shown / labelled:.3g} %",
                "remission": "" if np.isnan(mean) else f"{mean:.2f}",
                "weights": [f"{values[train_id - 1]:.3g}" if train_id else "" for values in weights],
            }
        )
    return rows
