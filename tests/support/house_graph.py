"""Who imports whom in pointseg, by the source text: at the top of a file, within functions, for type checkers alone, and by
name in a string."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pointseg

PACKAGE = Path(pointseg.__file__).parent

# The rooms from the ground up. A room imports from those of lower floors, and never from one of its own floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("data", "models", "jobs"),
    ("engine",),
    ("quality", "tracking", "exporting"),
    ("pages",),
    ("serving",),
    ("azure",),
    ("workflows",),
    ("cli",),
    ("verbs",),
)
# Files of a room that other programs start (MLflow, Azure's servers): nothing of ours imports them, and they may import
# the package by its front door.
PROGRAMS = {"pointseg.tracking.pyfunc"}
FRONT_DOOR = {"pointseg", "pointseg.errors"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it and however; `from a import b` is a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in names}
        elif isinstance(node, ast.Constant) and node.value in FILES and str(node.value).count(".") > 1:
            found.add(str(node.value))  # "pointseg.train", with one dot, is what a process is told to run
    return found


IMPORTS = {module: imports_of(path) for module, path in FILES.items()}


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def ours(module: str) -> set[str]:
    """Modules of pointseg that a module imports."""
    return {name for name in IMPORTS[module] if within(name, {"pointseg"})} - {module}


def room_of(module: str) -> str | None:
    """The room that a module lies in; None for the front door and for programs that others start."""
    if module in PROGRAMS | FRONT_DOOR:
        return None
    room = module.split(".")[1]
    if module.endswith(".__main__"):  # a verb with the name of a room
        return "verbs"
    return room if any(room in floor for floor in FLOORS) else "verbs"


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def room_imports() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """(room, imported room) -> the modules by which."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for module in IMPORTS:
        for name in ours(module):
            rooms = room_of(module), room_of(name)
            if None not in rooms and rooms[0] != rooms[1]:
                found.setdefault((str(rooms[0]), str(rooms[1])), set()).add((module, name))
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of nodes that reach each other (Tarjan, 1972), each sorted; without single nodes."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> Iterator[str]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in graph:
                continue
            if other not in index:
                yield other
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for start in graph:
        if start in index:
            continue
        work = [visit(start)]
        while work:
            other = next(work[-1], None)
            if other is None:
                work.pop()
            else:
                work.append(visit(other))
    return found
