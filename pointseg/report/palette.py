"""Pictures of points as PNG with a palette: a third of the size, and every class keeps its very colour."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from pointseg.labels import LabelMap
from pointseg.report.figures import BACKGROUND, ERROR, RIGHT, UNLABELLED

__all__ = ["paletted"]

MOST = 256  # colours of a PNG's palette
FEWEST_SHADES = 3  # below, edges of points would be jagged: the picture is left as it is


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
    shades = min((MOST - 1) // len(colors), 8)
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
