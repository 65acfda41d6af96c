"""The house in numbers: python tests/support/house_size.py [PACKAGE_FOLDER]

Lines and files, files a folder, the longest functions, import circles (imports within functions and for type checkers
counted), names that two modules export. Of another checkout too: it reads the source text alone.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

MOST = 8  # folders and functions that are listed


def modules_of(package: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.Module, modules: Iterable[str]) -> set[str]:
    known, found = set(modules), set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(".") > 1:
            names = [node.value]
        found |= {name for name in names if name in known}
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that reach each other, by what each reaches."""
    reach = {node: set(graph[node]) for node in graph}
    changed = True
    while changed:
        changed = False
        for node in reach:
            more = set().union(reach[node], *(reach.get(other, set()) for other in reach[node]))
            changed |= more != reach[node]
            reach[node] = more
    groups = {frozenset(b for b in reach if b in reach[a] and a in reach[b]) | {a} for a in reach if a in reach[a]}
    return [set(group) for group in groups if len(group) > 1]


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [item.value for item in getattr(node.value, "elts", []) if isinstance(item, ast.Constant)]
    return []


def size(package: Path) -> str:
    """The whole report."""
    modules = modules_of(package)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules.items()}
    folders = Counter(path.parent.relative_to(package.parent).as_posix() for path in modules.values())
    functions = [
        (node.end_lineno - node.lineno + 1, f"{name}.{node.name}")
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    graph = {name: imports(tree, modules) - {name, package.name} for name, tree in trees.items()}
    definers = Counter(
        name for module, tree in trees.items() if modules[module].name != "__init__.py" for name in exported(tree)
    )
    twice = sorted(name for name, count in definers.items() if count > 1)
    said = [
        f"lines               {sum(lines.values()):,}",
        f"files               {len(modules)}",
        f"longest file        {max(lines.values())}  {max(lines, key=lines.__getitem__)}",
        "files a folder      " + ", ".join(f"{name} {count}" for name, count in folders.most_common(MOST)),
        "longest functions   " + ", ".join(f"{name} {count}" for count, name in sorted(functions, reverse=True)[:3]),
        f"import circles      {len(circles(graph))}  "
        + "; ".join(f"{len(c)} modules: {', '.join(sorted(c))}" for c in circles(graph)),
        f"names exported twice {len(twice)}  {', '.join(twice)}",
    ]
    return "\n".join(line.rstrip() for line in said)


if __name__ == "__main__":
    print(size(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "pointseg").resolve()))
