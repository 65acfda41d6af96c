"""A notebook whose reader has a workspace and has set REALLY: the stand-in has what it makes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, here, running, started
from notebook_runner import FILES, ROOT, execute, pictures, project, read, said

pytestmark = [pytest.mark.azure, pytest.mark.slow]


def test_the_data_set_is_registered(azure: Any, client: Any, here: Path) -> None:
    folder = project(here)
    notebook = read(FILES[2])
    for cell in notebook.cells:
        cell.source = cell.source.replace("REALLY = False", "REALLY = True")
    known = {**azure.environment, **azure.identity.variables, "NO_PROXY": "*"}
    known["PYTHONPATH"] = f"{os.environ['PYTHONPATH']}{os.pathsep}{ROOT}"
    execute(FILES[2], folder, notebook=notebook, **known)
    assert pictures(notebook)
    assert "No workspace is named" not in said(notebook)
    (version,) = client.data.list("semantic-kitti")
    assert version.tags["scans"] == "22"
    (tables,) = client.data.list("semantic-kitti-tabular")
    assert tables.type == "mltable"
