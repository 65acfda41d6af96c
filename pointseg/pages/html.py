"""HTML from the templates, as documents that need no other file: styles, scripts and pictures are put into them."""

from __future__ import annotations

import base64
import io
import json
from numbers import Integral
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from pointseg.core.text import counted

__all__ = ["CHART_STYLE", "PNG_DPI", "TEMPLATES", "data_address", "own_file", "png", "render", "short_count", "svg"]

TEMPLATES = Path(__file__).parent / "templates"
CHART_STYLE = {"text.parse_math": False, "svg.fonttype": "path", "svg.hashsalt": "pointseg"}  # names may hold dollars
PNG_DPI = 110


def render(template: str, **values: Any) -> str:
    """A template as text. Everything but files of `templates/` is escaped: names of classes and folders are the user's.

    Example:
        >>> render("drift.html", drift=drift, ...)
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        counted=_counted,
        json=_json,
        number=_number,
        percent=_percent,
        share=_share,
        short=short_count,
        signed=_signed,
        size=_size,
    )
    return environment.get_template(template).render(**values)


def own_file(*names: str) -> Markup:
    """Styles or scripts of `templates/`, for a page that shall have them as they are."""
    return Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))  # nothing of the user's


def svg(figure: Figure) -> str:
    """A chart as an address: lines that stay sharp. Its texts are drawn under `CHART_STYLE`."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return data_address(content, "image/svg+xml")


def png(figure: Figure) -> str:
    """A picture as an address."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=PNG_DPI)
    return data_address(content, "image/png")


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def data_address(content: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def short_count(value: float) -> str:
    """1234567 -> "1.23 M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def _size(size: int) -> str:
    """1500 -> "1.5 kB"."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} B"


def _counted(number: int, noun: str, plural: str | None = None) -> str:
    """2, "class", "classes" -> "2 classes"."""
    return f"{number:,} {plural}" if plural and number != 1 else counted(number, noun)


def _number(value: float | None) -> str:
    """1234567 -> "1,234,567", 0.123 -> "0.12", None -> a dash."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, Integral):
        return f"{value:,}"
    return (f"{value:.2f}" if abs(value) < 1e4 else f"{value:.1e}").replace("-", "\N{MINUS SIGN}")


def _percent(value: float | None) -> str:
    """0.1234 -> "12.3"."""
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}"


def _share(value: float) -> str:
    """0.00123 -> "0.123", in percent."""
    return f"{100 * value:.3g}" if value else "0"


def _signed(value: float) -> str:
    """0.012 -> "+1.2", in percent."""
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")
