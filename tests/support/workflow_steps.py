"""The steps of the workflows of GitHub that run commands, for the tests that run them here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))

# What the repository's variables and the job before would say.
VALUES = {"DATA": "azureml:semantic-kitti@latest", "GATE": "0.15", "MODEL": "street"}
VALUES |= {"VERSION": "3", "ENDPOINT": "street-online", "TIER": "test"}


@dataclass(frozen=True)
class Step:
    """A step that runs commands."""

    workflow: str
    job: str
    name: str
    run: str
    env: dict[str, str]

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, its variables with their values."""
        text = re.sub(r"\$([A-Z_]+)", lambda name: VALUES.get(name[1], name[0]), self.run.replace("\\\n", " "))
        return [shlex.split(line) for line in text.splitlines()]


def read(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def jobs() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    for path in FILES:
        for name, job in read(path)["jobs"].items():
            yield path, name, job


def steps() -> list[Step]:
    found = []
    for path, name, job in jobs():
        for step in job["steps"]:
            if "run" in step:
                env = {**job.get("env", {}), **step.get("env", {})}
                found.append(Step(path.stem, name, step["name"], step["run"].strip(), env))
    return found


def step(workflow: str, name: str) -> Step:
    return next(each for each in steps() if (each.workflow, each.name) == (workflow, name))
