"""Draws docs/images/house.svg, the rooms of pointseg and who imports whom, from the source text: `make docs`.

Rooms have fixed places. An arrow that a chain of others implies is left out, so that the picture shows the order in which
rooms stand on each other; one that has no route in ROUTES is drawn straight, and one against the rules is red.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

from import_graph import IMPORTS, LOADED, ours, within  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "house.svg"
WIDTH, HEIGHT = 1120, 784
COLUMNS = (68, 234, 400, 566, 752, 924)  # left edges
ROWS = (292, 412, 532)  # upper edges
ROOM = (128, 80)
SHELL, GROUND = "shell", "ground"  # the two rooms that have to do with all others
RED = "#c62828"


@dataclass(frozen=True)
class Room:
    """Where a room is drawn, what is in it, and what is said of it; x, y, width, height in pixels."""

    modules: str
    title: str
    said: tuple[str, ...]
    box: tuple[int, int, int, int]
    colour: str


def _at(column: int, row: int) -> tuple[int, int, int, int]:
    return COLUMNS[column], ROWS[row], *ROOM


ROOMS = {
    "data": Room(
        "data formats",
        "data/, formats/",
        (
            "files in and out",
            "",
            "prepare: check,",
            "pack into a store",
            "",
            "read, sample,",
            "mix, augment,",
            "on any device",
        ),
        (COLUMNS[0], ROWS[0], ROOM[0], ROWS[2] + ROOM[1] - ROWS[0]),
        "#e6f4ea",
    ),
    "models": Room("models", "models/", ("plain networks,", "and their fast forms"), _at(1, 0), "#e8eefc"),
    "module": Room("module", "module.py", ("model, loss, scores", "of a global batch"), _at(1, 2), "#e8eefc"),
    "training": Room("training", "training/", ("fit, checkpoints,", "stop and resume"), _at(2, 2), "#e8eefc"),
    "bundle": Room("bundle", "bundle.py", ("a trained model", "as a folder"), _at(2, 0), "#fdf3d8"),
    "predictor": Room(
        "inference predictor Predictor views",
        "predictor.py",
        ("the one way from", "points to labels"),
        _at(3, 0),
        "#fdf3d8",
    ),
    "exporting": Room("exporting", "exporting/", ("ONNX, 8 bits,", "Triton"), _at(4, 1), "#fdeadf"),
    "prediction": Room(
        "prediction labelling submission", "prediction/", ("labels for files,", "submissions"), _at(4, 0), "#fdeadf"
    ),
    "judging": Room(
        "evaluation assessment bootstrap drift promotion",
        "evaluation.py, …",
        ("scores, intervals,", "drift, promotion"),
        _at(4, 2),
        "#fdeadf",
    ),
    "serving": Room("serving", "serving/", ("the service, Azure's", "scoring scripts"), _at(5, 0), "#f6e8f7"),
    "client": Room("client transport service_address", "client.py", ("asks any service",), _at(5, 1), "#f6e8f7"),
    "report": Room("report", "report/", ("pages, pictures,", "3D viewer"), _at(5, 2), "#f6e8f7"),
    "compute": Room(
        "compute",
        "compute/",
        ("a command as a job: here, as a file for Azure ML,", "as a sweep, as a pipeline"),
        (68, 166, 294, 70),
        "#eceff3",
    ),
    "azure": Room(
        "azure",
        "azure/",
        ("workspace, assets, endpoints:", "the only user of Azure's SDK"),
        (400, 166, 294, 70),
        "#eceff3",
    ),
    "tracking": Room("tracking", "tracking/", ("MLflow: runs and the registry",), (752, 166, 300, 70), "#eceff3"),
    GROUND: Room(
        "errors labels features randomness losses metrics files extras redact ranks words memory input_check",
        "labels · features · losses · metrics · randomness · errors · files · ranks · …",
        ("each stands by itself; every room stands on them",),
        (68, 660, 984, 58),
        "#dfe3e8",
    ),
    SHELL: Room(
        "cli train evaluate predict prepare report.__main__ export serve pipeline",
        "the verbs, scripts/ and cli/",
        ("words of a shell become a checked configuration;", "they use every room, and no room knows of them"),
        (310, 62, 500, 70),
        "none",
    ),
}

# The corners of arrows on their way from one room to another.
ROUTES: dict[tuple[str, str], list[tuple[int, int]]] = {
    ("azure", "compute"): [(400, 201), (362, 201)],
    ("azure", "serving"): [(672, 236), (672, 272), (940, 272), (940, 292)],
    ("bundle", "models"): [(400, 316), (362, 316)],
    ("predictor", "bundle"): [(566, 316), (528, 316)],
    ("exporting", "predictor"): [(752, 430), (709, 430), (709, 358), (694, 358)],
    ("prediction", "predictor"): [(752, 316), (694, 316)],
    ("judging", "predictor"): [(752, 552), (650, 552), (650, 372)],
    ("module", "predictor"): [(298, 532), (298, 482), (610, 482), (610, 372)],
    ("module", "data"): [(234, 552), (196, 552)],
    ("exporting", "data"): [(752, 450), (196, 450)],
    ("prediction", "data"): [(752, 358), (724, 358), (724, 450), (196, 450)],
    ("judging", "data"): [(752, 540), (724, 540), (724, 450), (196, 450)],
    ("training", "module"): [(400, 552), (362, 552)],
    ("training", "judging"): [(528, 572), (752, 572)],
    ("training", "tracking"): [(506, 532), (506, 512), (547, 512), (547, 254), (790, 254), (790, 236)],
    ("tracking", "exporting"): [(890, 236), (890, 440), (880, 440)],
    ("serving", "tracking"): [(988, 292), (988, 236)],
    ("serving", "prediction"): [(924, 316), (880, 316)],
    ("prediction", "client"): [(850, 372), (850, 392), (962, 392), (962, 412)],
    ("report", "judging"): [(924, 556), (880, 556)],
    ("judging", "report"): [(880, 574), (924, 574)],
    ("data", "report"): [(132, 612), (132, 638), (988, 638), (988, 612)],
}
FLOW = (  # the way of data, as broad strokes behind the rooms
    [(20, 594), (464, 594), (464, 340), (1096, 340)],
    [(690, 340), (733, 340), (733, 594), (1096, 594)],
)


@cache
def room_of(module: str) -> str | None:
    """The room that a module lies in; None for the package itself."""
    homes = [(place, name) for name, room in ROOMS.items() for place in room.modules.split()]
    found = [(len(place), name) for place, name in homes if within(module, {f"pointseg.{place}"})]
    if found:
        return max(found)[1]  # report.__main__ is a verb, not a part of report
    if module in ("pointseg", "pointseg.__version__"):
        return None
    raise LookupError(f"{module} has no room: give it one in {Path(__file__).name}")


@cache
def arrows() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Imports between rooms: those that hold up the house; those that lead back up, made only when something is called."""
    every = _between({module: ours(module) for module in IMPORTS})
    loaded = _between({module: ours(module) & LOADED[module] for module in IMPORTS})
    upward = {(a, b) for a, b in every - loaded if _leads(b, a, loaded)}
    return every - upward, upward


def _between(imports: dict[str, set[str]]) -> set[tuple[str, str]]:
    pairs = {(room_of(module), room_of(name)) for module, names in imports.items() for name in names}
    return {(a, b) for a, b in pairs if a is not None and b is not None and a != b}


def _leads(start: str, goal: str, pairs: set[tuple[str, str]]) -> bool:
    """Whether arrows lead from one room to another."""
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        onward = {b for a, b in pairs if a == here} - seen
        if goal in onward:
            return True
        seen |= onward
        waiting += onward
    return False


def shown(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows without those that a chain of others implies, and without those that all rooms have."""
    inner = {(a, b) for a, b in pairs if broken(a, b) or not ({a, b} & {SHELL, GROUND})}
    return {(a, b) for a, b in inner if broken(a, b) or not _leads(a, b, inner - {(a, b)})}


def broken(importer: str, imported: str) -> bool:
    """Whether an import between rooms is against the rules of docs/architecture.md."""
    return (
        importer == GROUND
        or imported == SHELL
        or (importer == "models" and imported != GROUND)
        or (importer == "data" and imported in {"models", "module", "training", "tracking"})
    )


# ---- the drawing -------------------------------------------------------------------------------------------------


def picture() -> str:
    """The whole SVG, the same text for the same imports."""
    downward, upward = arrows()
    parts = [_frame(), *_walls(), *(_stroke(points) for points in FLOW)]
    parts += [_arrow(a, b) for a, b in sorted(shown(downward))]
    parts += [_arrow(a, b, dashed=True) for a, b in sorted(upward)]
    parts += [_room(room) for room in ROOMS.values()]
    return "\n".join([*parts, *_legend(), "</svg>"]) + "\n"


def _frame() -> str:
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0.6 7.6 4 0 7.4Z" fill="{colour}"/></marker>'
        for name, colour in (("head", "#37474f"), ("wrong", RED))
    )
    flow = (
        '<marker id="flow" viewBox="0 0 10 20" refX="2" refY="10" markerWidth="12" markerHeight="34" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0 10 10 0 20Z" fill="#b9dcf5"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="Helvetica, Arial, sans-serif">\n'
        "<title>The rooms of pointseg and who imports whom</title>\n"
        f"<defs>{heads}{flow}</defs>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#ffffff"/>'
    )


def _walls() -> list[str]:
    return [
        '<path d="M52 148V730H1068V148Z" fill="#fbfbfa" stroke="#b0b7bf" stroke-width="1.5"/>',
        '<path d="M30 148 560 14 1090 148Z" fill="#f3e3dc" stroke="#c9a08f" stroke-width="1.5" stroke-linejoin="round"/>',
        _text(34, 450, "raw scans, synthetic streets", 13, anchor="middle", turn=-90),
        _text(1092, 450, "labels, answers, pages, models", 13, anchor="middle", turn=90),
    ]


def _stroke(points: list[tuple[int, int]]) -> str:
    return f'<path d="{_path(points, 22)}" fill="none" stroke="#d6ebfa" stroke-width="20" marker-end="url(#flow)"/>'


def _room(room: Room) -> str:
    x, y, width, height = room.box
    lines = len(room.said) + 1
    top = y + height / 2 - 8 * lines + 12
    middle = x + width / 2
    parts = []
    if room.colour != "none":
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{room.colour}" stroke="#90a0b0"/>'
        )
    parts.append(_text(middle, top, room.title, 14, anchor="middle", bold=True))
    for number, line in enumerate(room.said, 1):
        if line:
            parts.append(_text(middle, top + 3 + 15.5 * number, line, 12, anchor="middle"))
    return "\n".join(parts)


def _arrow(importer: str, imported: str, *, dashed: bool = False) -> str:
    wrong = broken(importer, imported)
    points = ROUTES.get((importer, imported)) or [_middle(importer), _middle(imported)]
    colour, head = (RED, "wrong") if wrong else ("#37474f", "head")
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<path d="{_path(points, 8)}" fill="none" stroke="{colour}" stroke-width="{2.5 if wrong else 1.4}"{dash} '
        f'marker-end="url(#{head})"><title>{importer} imports {imported}</title></path>'
    )


def _middle(name: str) -> tuple[int, int]:
    x, y, width, height = ROOMS[name].box
    return x + width // 2, y + height // 2


def _path(points: list[tuple[int, int]], radius: float) -> str:
    """Straight pieces with rounded corners."""
    words = [f"M{points[0][0]} {points[0][1]}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _towards(corner, before, radius), _towards(corner, after, radius)
        words.append(f"L{near[0]:g} {near[1]:g}Q{corner[0]} {corner[1]} {far[0]:g} {far[1]:g}")
    return "".join([*words, f"L{points[-1][0]} {points[-1][1]}"])


def _towards(start: tuple[int, int], goal: tuple[int, int], most: float) -> tuple[float, float]:
    x, y = goal[0] - start[0], goal[1] - start[1]
    length = (x * x + y * y) ** 0.5
    part = min(most, length / 2) / length
    return round(start[0] + part * x, 1), round(start[1] + part * y, 1)


def _text(x: float, y: float, said: str, size: int, *, anchor: str = "start", bold: bool = False, turn: int = 0) -> str:
    more = ' font-weight="bold"' if bold else ""
    more += f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="#263238"{more}>{escape(said)}</text>'


def _legend() -> list[str]:
    return [
        '<path d="M68 758H96" stroke="#d6ebfa" stroke-width="16"/>',
        _text(106, 762, "the way of data", 12),
        '<path d="M226 758H258" stroke="#37474f" stroke-width="1.4" marker-end="url(#head)"/>',
        _text(268, 762, "imports (left out where a chain of arrows leads the same way)", 12),
        '<path d="M634 758H666" stroke="#37474f" stroke-width="1.4" stroke-dasharray="5 4" marker-end="url(#head)"/>',
        _text(676, 762, "imports only when called", 12),
        f'<path d="M838 758H870" stroke="{RED}" stroke-width="2.5" marker-end="url(#wrong)"/>',
        _text(880, 762, "against the rules, if there were one", 12),
    ]


def main() -> None:
    PICTURE.write_text(picture(), encoding="utf-8")
    downward, upward = arrows()
    for a, b in sorted((shown(downward) | upward) - set(ROUTES)):
        print(f"{a} imports {b}: drawn straight; corners for it belong into ROUTES of {Path(__file__).name}")


if __name__ == "__main__":
    main()
