"""The notebooks as a newcomer runs them: top to bottom, one after another and alone, with nothing left behind."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from verbs import own_environment

from pointseg.azure.workspace import VARIABLES

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 600  # of a cell, on a machine that is busy with other tests


def read(path: Path) -> Any:
    return nbformat.read(path, nbformat.NO_CONVERT)


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def project(folder: Path) -> Path:
    """A folder with the notebooks' place and the scripts beside it."""
    (folder / "notebooks").mkdir()
    (folder / "scripts").symlink_to(ROOT / "scripts")
    return folder / "notebooks"


def execute(path: Path, folder: Path, *, notebook: Any = None, **environment: str) -> Any:
    """The notebook with its outputs, run in `folder` by a kernel of this Python that knows of no workspace."""
    variables = own_environment(IPYTHONDIR=str(folder.parent / "ipython"), **environment)
    for names in VARIABLES.values():
        for name in names:
            if name not in environment:
                variables.pop(name, None)
    ran = notebook or read(path)
    client = NotebookClient(ran, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=variables)
    return ran


def pictures(notebook: Any) -> list[str]:
    """The size of each picture, as base64."""
    return [
        output["data"]["image/png"]
        for cell in code_of(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def said(notebook: Any) -> str:
    return "".join(output.get("text", "") for cell in code_of(notebook) for output in cell.outputs)


def working_in(folder: Path) -> list[str]:
    """Processes that were started in a folder and go on."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


def nothing_goes_on(folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while left := working_in(folder):
        assert time.monotonic() < end, left
        time.sleep(0.5)


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
