"""Draws docs/images/house.svg, the rooms of pointseg and who imports whom, and writes docs/modules.md, every file in a
line: from the source text, by `make docs`.

Rooms lie on the floors of `house_graph`; nothing is placed by hand. An arrow that a chain of others implies is left out.
One to the next floor below is straight; one that skips floors runs beside the house.
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "support"))

from house_graph import FILES, FLOORS, floor_of, room_imports, room_of  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "house.svg"
PAGE = ROOT / "docs" / "modules.md"
WIDTH, MARGIN, LANES = 900, 24, 90  # LANES: room at the right for arrows that skip floors
ROOM_WIDTH, ROOM_HEIGHT, GAP = 250, 74, 34
COLOURS = ("#dfe3e8", "#e6f4ea", "#e8eefc", "#fdeadf", "#f6e8f7")
VERBS = "The commands, each a module of its own."


def summary(path: Path) -> str:
    """The first sentence of a file's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "." if text else ""


def room_summary(room: str) -> str:
    return VERBS if room == "verbs" else summary(FILES[f"pointseg.{room}"])


# ---- the picture -------------------------------------------------------------------------------------------------


def arrows() -> list[tuple[str, str]]:
    """Imports between rooms, without those that a chain of others implies."""
    pairs = set(room_imports())
    return sorted((a, b) for a, b in pairs if not _leads(a, b, pairs - {(a, b)}))


def _leads(start: str, goal: str, pairs: set[tuple[str, str]]) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        onward = {b for a, b in pairs if a == here} - seen
        if goal in onward:
            return True
        seen |= onward
        waiting += onward
    return False


def boxes() -> dict[str, tuple[float, float]]:
    """The upper left corner of each room that there is; the ground floor lies lowest."""
    there = {room for pair in room_imports() for room in pair}
    floors = [kept for floor in FLOORS if (kept := [room for room in floor if room in there])]
    found: dict[str, tuple[float, float]] = {}
    inner = WIDTH - LANES - MARGIN
    for row, rooms in enumerate(reversed(floors)):
        step = inner / len(rooms)
        for column, room in enumerate(rooms):
            found[room] = (MARGIN + step * (column + 0.5) - ROOM_WIDTH / 2, MARGIN + row * (ROOM_HEIGHT + GAP))
    return found


def picture() -> str:
    """The whole SVG, the same text for the same imports."""
    places = boxes()
    height = max(y for _, y in places.values()) + ROOM_HEIGHT + MARGIN
    lanes = iter(range(100))
    drawn = [_arrow(a, b, places, lanes) for a, b in arrows()]
    return (
        "\n".join([_frame(height), *drawn, *(_room(room, *place) for room, place in places.items()), "</svg>"]) + "\n"
    )


def _frame(height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" '
        'role="img" font-family="Helvetica, Arial, sans-serif">\n'
        "<title>The rooms of pointseg and who imports whom</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0.6 7.6 4 0 7.4Z" fill="#37474f"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{height:g}" rx="12" fill="#ffffff"/>'
    )


def _arrow(importer: str, imported: str, places: dict[str, tuple[float, float]], lanes: object) -> str:
    (x, y), (u, v) = places[importer], places[imported]
    rows = sorted({row for _, row in places.values()})
    if rows.index(v) - rows.index(y) == 1:
        path = f"M{x + ROOM_WIDTH / 2:g} {y + ROOM_HEIGHT:g}L{u + ROOM_WIDTH / 2:g} {v - 2:g}"
    else:  # beside the house, each in a lane of its own
        lane = WIDTH - LANES + 12 + 11 * next(lanes)  # type: ignore[call-overload]
        above = v - GAP / 2  # comes in from above, between two floors
        path = f"M{x + ROOM_WIDTH:g} {y + ROOM_HEIGHT / 2:g}H{lane:g}V{above:g}H{u + 0.8 * ROOM_WIDTH:g}V{v - 2:g}"
    return (
        f'<path d="{path}" fill="none" stroke="#37474f" stroke-width="1.4" stroke-linejoin="round" '
        f'marker-end="url(#head)"><title>{importer} imports {imported}</title></path>'
    )


def _room(room: str, x: float, y: float) -> str:
    colour = COLOURS[floor_of(room) % len(COLOURS)]
    lines = _wrapped(room_summary(room).rstrip(".").replace("`", ""), 40)
    if len(lines) > 3:
        raise ValueError(
            f"pointseg/{room}/__init__.py: the first sentence is too long for its box, {len(lines)} lines of 3"
        )
    parts = [
        f'<rect x="{x:g}" y="{y:g}" width="{ROOM_WIDTH}" height="{ROOM_HEIGHT}" rx="8" fill="{colour}" stroke="#90a0b0"/>',
        _text(x + ROOM_WIDTH / 2, y + 18, room if room == "verbs" else f"{room}/", 14, bold=True),
    ]
    parts += [_text(x + ROOM_WIDTH / 2, y + 34 + 14 * number, line, 11) for number, line in enumerate(lines)]
    return "\n".join(parts)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _text(x: float, y: float, said: str, size: int, *, bold: bool = False) -> str:
    more = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="middle" fill="#263238"{more}>{escape(said)}</text>'
    )


# ---- every file in a line ----------------------------------------------------------------------------------------


def page() -> str:
    """docs/modules.md: rooms from the ground up, and the files of each with what their docstrings say first."""
    parts = [
        "# Every file in a line",
        "Written by `make docs` from docstrings. How the rooms stand on each other: [architecture](architecture.md).",
    ]
    for room in (room for floor in FLOORS for room in floor):
        files = {name: path for name, path in FILES.items() if room_of(name) == room and summary(path)}
        inner = {name: path for name, path in files.items() if name != f"pointseg.{room}"}
        if not files:
            continue
        parts += [f"## {room if room == 'verbs' else f'{room}/'}", room_summary(room)]
        lines = ["| file | what it is |", "| --- | --- |"]
        lines += [
            f"| `{_place(path, room)}` | {summary(path).replace('|', chr(92) + '|')} |" for path in inner.values()
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _place(path: Path, room: str) -> str:
    parts = path.relative_to(ROOT / "pointseg").parts
    shown = parts if room == "verbs" else parts[1:]
    return "/".join(shown[:-1]) + "/" if shown[-1] == "__init__.py" else "/".join(shown)


def main() -> None:
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
