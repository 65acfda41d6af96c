"""What a data set holds as one HTML page that needs no other file: tables, and pictures embedded in it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from pointseg.files import write_text
from pointseg.words import listed

if TYPE_CHECKING:
    from pointseg.data.exploration import Exploration

__all__ = ["html_section", "write_page"]

TEMPLATES = Path(__file__).parent / "templates"
DPI = 110


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


def _render(exploration: Exploration, title: str, *, page: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # names of classes and sequences are the user's
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    looked_at, scans = exploration.scans_looked_at, len(exploration.names)
    sampled = f"Distances, heights and remission are those of {looked_at:,} of the {scans:,} scans, evenly spread."
    return environment.get_template("exploration.html").render(
        page=page,
        title=title,
        numbers=_numbers(exploration),
        sampled=sampled if looked_at < scans else "",
        splits=_splits(exploration),
        classes=_classes(exploration),
        weightings=list(exploration.class_weights),
        weights_of="the training split" if exploration.weights_of == "train" else "all labelled scans",
        pictures=[(name.replace("_", " "), _png(figure)) for name, figure in exploration.figures().items()],
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


def _png(figure: Figure) -> str:
    """Base64 of the picture."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return base64.b64encode(content.getvalue()).decode("ascii")
