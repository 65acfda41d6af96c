"""Jobs and deployments that tests send to the stand-in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def environment(code: Path) -> Any:
    from azure.ai.ml.entities import Environment

    return Environment(
        image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04", conda_file=str(code.parent / "conda.yml")
    )


def command_job(code: Path, cluster: str, **settings: Any) -> Any:
    from azure.ai.ml import command

    settings = {"command": "python main.py", **settings}
    return command(code=str(code), environment=environment(code), compute=cluster, **settings)


def online_deployment(name: str, endpoint: str, code: Path, model: Any) -> Any:
    from azure.ai.ml.entities import CodeConfiguration, ManagedOnlineDeployment, OnlineRequestSettings

    return ManagedOnlineDeployment(
        name=name,
        endpoint_name=endpoint,
        model=model,
        environment=environment(code),
        code_configuration=CodeConfiguration(code=str(code), scoring_script="main.py"),
        instance_type="Standard_DS3_v2",
        instance_count=1,
        request_settings=OnlineRequestSettings(request_timeout_ms=60000),
    )


def batch_deployment(endpoint: str, cluster: str, code: Path, scans: Path) -> Any:
    from azure.ai.ml.entities import CodeConfiguration, Model, ModelBatchDeployment, ModelBatchDeploymentSettings

    return ModelBatchDeployment(
        name="first",
        endpoint_name=endpoint,
        model=Model(name="net", path=str(scans)),
        environment=environment(code),
        code_configuration=CodeConfiguration(code=str(code), scoring_script="main.py"),
        compute=cluster,
        settings=ModelBatchDeploymentSettings(instance_count=2, mini_batch_size=4, output_action="append_row"),
    )


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def press_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes whenever the SDK waits before it looks at a job again."""

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    clock = SimpleNamespace(time=time.time, sleep=sleep)
    monkeypatch.setattr("azure.ai.ml.operations._job_ops_helper.time", clock)
