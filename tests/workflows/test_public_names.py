"""`pointseg.workflows`: names are imported on use, and stay what they are."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from pointseg import workflows

PACKAGE = Path(str(workflows.__file__)).parent


@pytest.mark.parametrize("name", workflows.__all__)
def test_a_name_is_what_its_file_has(name: str) -> None:
    home = import_module(f"pointseg.{workflows._HOMES[name]}")
    assert getattr(workflows, name) is getattr(home, name)


def test_type_checkers_find_each_name_where_it_is_imported_from() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "pointseg." in str(node.module)]
    typed = {alias.asname: str(node.module).removeprefix("pointseg.") for node in imports for alias in node.names}
    assert typed == workflows._HOMES


def test_no_module_has_the_name_of_a_task() -> None:
    # its import would put the module in the place of the function: workflows.train(...) would fail
    assert {path.stem for path in PACKAGE.iterdir()} & set(workflows.__all__) == set()
