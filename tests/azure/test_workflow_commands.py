"""The commands of .github/workflows/train_and_deploy.yml after a training, as they are written, against the stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, here, running, started
from batch_helpers import write_bundle
from online_helpers import ENDPOINT, answers, register, traffic_now
from verbs import run, succeed
from workflow_steps import VALUES, step

pytestmark = [pytest.mark.azure, pytest.mark.slow]


def words(name: str, command: str) -> list[str]:
    """What a step gives to a command."""
    line = step("train_and_deploy", name).commands[0]
    assert line[0] == "python"
    assert command in line[:3]
    return line[line.index(command) + 1 :]


def test_what_was_registered_is_deployed_and_tried(azure: Any, client: Any, here: Path) -> None:
    assert VALUES["ENDPOINT"] == ENDPOINT
    register(client, write_bundle(here / "bundle"), VALUES["VERSION"], name=VALUES["MODEL"])
    azure.scoring.scorers["street:3"] = answers("street/3", label=40)
    deploy = words("Deploy beside the old version, then move the traffic", "scripts/deploy.py")
    succeed(run("deploy", *deploy, "managed.step_seconds=0", cwd=here))
    assert list(traffic_now(client).values()) == [100]
    prepare = words("A street to try it with", "pointseg.prepare")
    succeed(run("prepare", *prepare, "synthetic.beams=16", "synthetic.azimuth_steps=64", cwd=here))
    succeed(run("invoke", *words("Try the endpoint", "scripts/invoke.py"), cwd=here))
    (labels,) = (here / "labels").rglob("*.label")  # as the step looks for them
    (scan,) = (here / "street").rglob("*.bin")
    assert labels.stat().st_size == scan.stat().st_size // 4
    client.online_endpoints.begin_delete(ENDPOINT).result()
