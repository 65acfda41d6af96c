"""The commands that docs/ shows: each is taken as it stands, and those of docs/from_older_sdk.md for jobs write a job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_commands import check, shown, verb_and_words
from verbs import run, succeed

from pointseg.cli.hydra_options import config_folder
from pointseg.cli.schema import declared_keys, verbs

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
OLDER_SDK = next(page for page in PAGES if page.stem == "from_older_sdk")
# those that need nothing that must be there first, one of each kind
JOBS = [
    verb_and_words(command)
    for command in shown(OLDER_SDK)
    if re.search(r"compute=aml_(multinode|spot)|trials=|light_cluster=", command)
]


def test_commands_are_found() -> None:
    assert sum(len(shown(page)) for page in PAGES) > 80
    assert len(JOBS) == 4
    assert verb_and_words("A=1 python scripts/deploy.py x='1 2' # why") == ["deploy", "x=1 2"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_taken(page: Path) -> None:
    for command in dict.fromkeys(shown(page)):
        verb, *words = verb_and_words(command)
        check(verb, words)


@pytest.mark.slow
def test_a_command_that_is_not_taken_would_be_seen() -> None:
    with pytest.raises(Exception, match="Did you mean"):
        check("train", ["optimizer.lrr=1"])


def test_keys_in_the_text_for_those_of_the_older_sdk_are_there() -> None:
    """Those that stand alone, such as `compute.sweep.slack`."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(config_folder().rglob("*.yaml")))
    text += "".join(f"\n{key.path.split('.')[-1]}:" for verb in verbs() for key in declared_keys(verb))
    keys = set(re.findall(r"`((?:compute|batch|azure|tracking)\.[\w.]+)[=`]", OLDER_SDK.read_text(encoding="utf-8")))
    assert [key for key in sorted(keys) if not re.search(rf"^\s*{key.split('.')[-1]}:", text, re.MULTILINE)] == []
    assert len(keys) > 15


@pytest.mark.slow
@pytest.mark.parametrize("command", JOBS, ids=" ".join)
def test_a_job_for_those_of_the_older_sdk_is_written(command: list[str], tmp_path: Path) -> None:
    succeed(run(command[0], *command[1:], "compute.dry_run=true", cwd=tmp_path))
    assert [*tmp_path.rglob("job.yaml"), *tmp_path.rglob("pipeline.yaml")]
