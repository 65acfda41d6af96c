"""Calls, scorers and questions of the tests of managed online endpoints."""

from __future__ import annotations

import importlib.util
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from conftest import scan_points
from verbs import Done, run

from pointseg.azure.endpoints.online import OnlineSettings
from pointseg.workflows.settings.deploy import ManagedConfig

ENDPOINT = "street-online"
QUICK = ("managed.step_seconds=0", "managed.checks=10")


def deploy(here: Path, *words: str) -> Done:
    """The script, with a small scan for its requests, which saves their seconds."""
    if not any(word.startswith("managed.smoke_scan=") for word in words):
        scan_points(500).tofile(here / "smoke.bin")
        words = (*words, "managed.smoke_scan=smoke.bin")
    given = {word.partition("=")[0] for word in words}
    words = (*words, *(word for word in QUICK if word.partition("=")[0] not in given))
    return run("deploy", "target=managed", f"endpoint={ENDPOINT}", *words, cwd=here)


def online_settings(**changes: Any) -> OnlineSettings:
    """Those of `managed` with nothing but defaults, and these changes."""
    names = OnlineSettings.__dataclass_fields__
    values = {key: value for key, value in asdict(ManagedConfig()).items() if key in names}
    return OnlineSettings(**{**values, "collection": None, **changes})


def inference_server() -> Any:
    """The module of tests/serving that starts Azure's inference server."""
    name = "inference_server"
    if name not in sys.modules:
        file = Path(__file__).parents[1] / "serving" / f"{name}.py"
        specification = importlib.util.spec_from_file_location(name, file)
        assert specification is not None and specification.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def register(client: Any, bundle: Path, *versions: str, name: str = "street") -> None:
    """The bundle as a model of the workspace, under several versions."""
    from azure.ai.ml.entities import Model

    for version in versions:
        client.models.create_or_update(Model(name=name, version=version, path=str(bundle), type="custom_model"))


def answers(model: str, label: int = 40, short: int = 0) -> Callable[[Any], Any]:
    """A scorer that gives every point the same label; with `short`, so many points get none."""
    from stand_in.messages import Answer

    from pointseg.serving.wire import expand

    def answer(request: Any) -> Any:
        points = len(expand(request.raw, request.headers.get("content-encoding"), 1 << 30)) // 16
        octets = np.full(points - short, label, "<u4").tobytes()
        headers = {"Content-Type": "application/octet-stream", "X-Model": model}
        return Answer(200, octets, headers)

    return answer


def fails(status: int = 500, after: int = 0) -> Callable[[Any], Any]:
    """A scorer that fails, after as many good answers."""
    from stand_in.messages import AzureError

    good, left = answers("street/good"), [after]

    def answer(request: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            return good(request)
        raise AzureError(status, "ModelError", "made up by the test")

    return answer


def forwards(url: str) -> Callable[[Any], Any]:
    """A scorer that hands requests on to a real server; like Azure it answers 424 where that answers anything but 200."""
    from stand_in.messages import Answer, AzureError

    kept = ("content-type", "content-encoding", "accept", "x-request-id")

    def answer(request: Any) -> Any:
        query = "&".join(f"{key}={value}" for key, value in request.query.items())
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        call = urllib.request.Request(f"{url}/score?{query}", request.raw, headers, method="POST")
        try:
            with urllib.request.urlopen(call, timeout=60) as reply:
                given = {key: value for key, value in reply.headers.items() if key.lower() not in OF_CONNECTION}
                return Answer(200, reply.read(), {key.title(): value for key, value in given.items()})
        except urllib.error.HTTPError as error:
            status = {"ms-azureml-model-error-statuscode": str(error.code), "Content-Type": "application/json"}
            return Answer(424, error.read(), status)
        except OSError as error:
            raise AzureError(502, "BadGateway", f"the container does not answer ({error})") from error

    return answer


OF_CONNECTION = ("connection", "content-length", "transfer-encoding", "date", "server")


def traffic_now(client: Any) -> dict[str, int]:
    return {name: share for name, share in client.online_endpoints.get(ENDPOINT).traffic.items() if share}


def deployments_now(client: Any) -> dict[str, str]:
    return {one.name: one.provisioning_state for one in client.online_deployments.list(ENDPOINT)}


def endpoints_now(client: Any) -> list[str]:
    return [one.name for one in client.online_endpoints.list()]


def changes(azure: Any) -> list[str]:
    """Calls that change something."""
    return [call.short for call in azure.calls.matching("(PUT|PATCH|DELETE) .*")]


def shares_put(azure: Any) -> list[dict[str, int]]:
    """The traffic of every call that set one, in order."""
    puts = azure.calls.matching("PUT onlineEndpoints/[^/]+")
    return [call.body["properties"]["traffic"] for call in puts if call.body["properties"].get("traffic") is not None]
