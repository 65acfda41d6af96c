"""The README's commands of Azure, typed in its order: the real SDK against the stand-in, which really runs what is waited for."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import running
from online_helpers import answers
from readme_reader import Reader, asks_azure
from readme_text import ENGLISH, Block, blocks
from stand_in.requirements import missing
from verbs import trained_run

from pointseg.azure import sign_in, workspace
from pointseg.engine.bundle import load

pytestmark = [pytest.mark.azure, pytest.mark.slow]

BLOCKS = [block for block in blocks(ENGLISH) if any(map(asks_azure, block.commands))]


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """A subscription of the reader's own: other tests leave clusters and endpoints of these names in theirs."""
    if why_not := missing():
        pytest.skip(why_not)
    from stand_in.stand_in import StandIn

    stand_in = StandIn().start()
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module")
def reader(running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """In a folder whose .azureml/config.json names a workspace of its own."""
    folder = tmp_path_factory.mktemp("azure-readme")
    running.reset()
    names = {"subscription_id": running.subscription, "resource_group": running.group}
    (folder / ".azureml").mkdir()
    (folder / ".azureml/config.json").write_text(json.dumps(names | {"workspace_name": running.workspace}))
    shutil.copytree(trained_run(tmp_path_factory), folder / "RUN_FOLDER")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for variables in workspace.VARIABLES.values():
            for name in variables:
                patch.delenv(name, raising=False)
        patch.setattr(sign_in, "_credential", lambda auth: running.credential)
        reader = Reader(folder, stack)
        reader.furnish()
        yield reader
        running.reset()


class Anyone(dict[str, Any]):
    """Whichever model a deployment has, this answers: its labels are compared elsewhere, with real servers."""

    def __init__(self, scorer: Any) -> None:
        super().__init__()
        self._scorer = scorer

    def get(self, name: str | None, default: Any = None) -> Any:
        return self._scorer


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.title)
def test_a_block_works(block: Block, running: Any, reader: Reader) -> None:
    """What nobody waits for is only sent."""
    for words in block.commands:
        running.reset()
        running.scoring.scorers = Anyone(answers("pointseg/1"))
        if any(word.endswith("wait=true") for word in words):
            running.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
        reader.type(words)
        assert running.calls.matching(".*") or not asks_azure(words)
        errors, running.server.errors = running.server.errors, []
        assert not errors, errors[0]


def test_what_came_back(reader: Reader) -> None:
    """The run that was trained there, from the data asset, and the labels of the batch endpoint."""
    assert load(reader.folder / "run-1").provenance["seed"] == 0
    assert json.loads((reader.folder / "run-1/metrics.json").read_text())["miou"] >= 0
    scans = sorted(path.stem for path in (reader.folder / "SCANS").iterdir())
    assert sorted(path.stem for path in (reader.folder / "result-1").rglob("*.label")) == scans
