"""Who imports whom in pointseg, by the source text."""

from __future__ import annotations

import ast
from pathlib import Path

import pointseg

PACKAGE = Path(pointseg.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "pointseg":
                found |= {f"pointseg.{alias.name}" for alias in node.names}
            elif node.module:
                found.add(node.module)
    return found


def loaded_with(path: Path) -> set[str]:
    """Those that are imported with the file itself: neither within functions nor for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports_of(path) & {
        name
        for node in top
        for alias in node.names
        for name in (alias.name, getattr(node, "module", None), f"{getattr(node, 'module', None)}.{alias.name}")
        if name is not None
    }


IMPORTS = {module_name(path): imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}
LOADED = {module_name(path): loaded_with(path) for path in sorted(PACKAGE.rglob("*.py"))}


def within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def ours(module: str) -> set[str]:
    """Modules of pointseg that a module imports."""
    return {name for name in IMPORTS[module] if within(name, {"pointseg"})}
