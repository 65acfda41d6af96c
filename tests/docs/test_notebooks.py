"""The notebooks as a newcomer runs them: top to bottom, one after another and alone, with nothing left behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from notebook_runner import FILES, ROOT, code_of, execute, nothing_goes_on, pictures, project, read, said

# ---- as they are committed -------------------------------------------------------------------------------------------


def test_there_are_six() -> None:
    assert [path.name[:2] for path in FILES] == ["00", "01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_are_kept_without_results(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in notebook.cells:
        assert not {"id", "attachments"} & set(cell)
        assert cell.metadata == {}
    for cell in code_of(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|Users|tmp|mnt)/|[A-Z]:\\\\", text)
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_end_the_notebook_where_they_fail(path: Path) -> None:
    for cell in code_of(read(path)):
        assert not re.search(r"^\s*!", cell.source, re.M), "a failure of !command goes unseen"
        if cell.source.startswith("%%"):
            first, _, rest = cell.source.partition("\n")
            assert first == "%%bash -e"
            done = subprocess.run(["bash", "-n"], input=rest, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr


def test_their_python_is_as_tidy_as_the_rest() -> None:
    ruff = str(Path(sys.executable).parent / "ruff")
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *words, "--quiet", "notebooks"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# ---- as they run -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("tour"))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_after_another(path: Path, fresh: Path) -> None:
    notebook = execute(path, fresh)
    assert pictures(notebook)
    assert all(len(picture) > 5000 for picture in pictures(notebook))
    assert "Traceback" not in said(notebook)
    nothing_goes_on(fresh)


@pytest.mark.slow
def test_a_notebook_that_fails_leaves_no_service(fresh: Path) -> None:
    notebook = read(FILES[5])
    started = next(i for i, cell in enumerate(notebook.cells) if "target=local checkpoint" in cell.source)
    del notebook.cells[started + 1 :]
    notebook.cells.append(nbformat.v4.new_code_cell("assert list(Path('work/services').glob('street*'))\n1 / 0"))
    notebook.cells[-1].pop("id")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(FILES[5], fresh, notebook=notebook)
    nothing_goes_on(fresh)


@pytest.mark.slow
def test_alone(tmp_path: Path) -> None:
    """The last one needs what all others make; tests/azure/test_notebook_in_azure.py runs another by itself."""
    assert pictures(execute(FILES[5], project(tmp_path)))
    nothing_goes_on(tmp_path)
