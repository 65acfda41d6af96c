"""Runs notebooks as a newcomer does, by a kernel of this Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from verbs import own_environment

from pointseg.azure.workspace import VARIABLES

ROOT = Path(__file__).parents[2]
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
