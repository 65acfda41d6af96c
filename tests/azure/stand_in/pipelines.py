"""Runs submitted pipeline jobs: each step as a command job of its own, its inputs those that earlier steps have written."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from .jobs import ENDED, Jobs
from .shapes import complete
from .store import Resource, Store

WIRE = re.compile(r"\$\{\{\s*parent\.(?:inputs\.(\w+)|jobs\.(\w+)\.outputs\.(\w+))\s*\}\}")
MODES = {"ro_mount": "ReadOnlyMount", "download": "Download", "rw_mount": "ReadWriteMount", "upload": "Upload"}
LOOK = 0.05


@dataclass
class Going:
    """A pipeline job that runs."""

    resource: Resource
    jobs: dict[str, Any]
    inputs: dict[str, Any]
    children: dict[str, str] = field(default_factory=dict)  # ids of command jobs by step
    stopped: bool = False

    @property
    def workspace(self) -> str:
        return str(self.resource["id"].rsplit("/jobs/", 1)[0])


class Pipelines:
    """Starts each pipeline job in a thread of its own. A step that has run before on the same is not run again, where its
    component says that it is deterministic and the job does not say force_rerun."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs
        self.running: dict[str, Going] = {}
        self._finished: dict[str, dict[str, Any]] = {}
        self._threads: list[threading.Thread] = []

    def start(self, resource: Resource) -> bool:
        """Begins a pipeline job: one with steps of its own, or of a pipeline component."""
        properties = resource["properties"]
        steps = properties.get("jobs") or {}
        if not steps and properties.get("componentId"):
            steps = self._component(properties["componentId"])["jobs"]
        going = Going(resource, steps, properties.get("inputs") or {})
        self.running[resource["name"]] = going
        thread = threading.Thread(target=self._live, args=(going,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    def stop(self, name: str) -> None:
        """Asks the step that runs to end; no other begins."""
        going = self.running[name]
        going.stopped = True
        for child in list(going.children.values()):
            self._jobs.cancel(child)
            self._jobs.canceled(child)

    def close(self) -> None:
        for name in self.running:
            self.stop(name)
        for thread in self._threads:
            thread.join(30)

    def _component(self, component_id: str) -> dict[str, Any]:
        found = self._store.get(component_id.removeprefix("azureml:"))
        spec: dict[str, Any] = found["properties"]["componentSpec"]
        return spec

    def _live(self, going: Going) -> None:
        """The life of a pipeline job: it ends with its last step, or with the first that fails."""
        place, error = going.resource["id"], ""
        try:
            self._store.change(place, status="Running")
            waiting = dict(going.jobs)
            while waiting and not error and not going.stopped:
                name = next(name for name in waiting if self._ready(going, waiting[name]))
                status = self._step(going, name, waiting.pop(name))
                error = "" if status == "Completed" else f"The step {name} ended as {status}."
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        status = "Canceled" if going.stopped else "Failed" if error else "Completed"
        properties = going.resource["properties"].get("properties") or {}
        self._store.change(place, status=status, properties={**properties, "error": error})

    def _ready(self, going: Going, node: dict[str, Any]) -> bool:
        wires = WIRE.findall(json.dumps(node.get("inputs") or {}))
        return all(not step or step in going.children for _, step, _ in wires)

    def _step(self, going: Going, name: str, node: dict[str, Any]) -> str:
        """One step to its end; its status."""
        component = self._component(node["componentId"])
        inputs = {key: self._input(going, component, key, given) for key, given in (node.get("inputs") or {}).items()}
        place = f"{going.workspace}/jobs/{uuid.uuid4()}"
        body = self._command_job(going, name, node, component, inputs)
        key = json.dumps(
            [node["componentId"], {k: v.get("uri") or v.get("value") for k, v in inputs.items()}], sort_keys=True
        )
        again = (going.resource["properties"].get("settings") or {}).get("force_rerun")
        if key in self._finished and component.get("is_deterministic") and not again:
            resource, _ = self._store.put(place, complete(f"jobs/{place.rsplit('/', 1)[1]}", {"properties": body}))
            going.children[name] = place
            self._store.change(place, status="Completed", outputs=self._finished[key])
            return "Completed"
        resource, _ = self._store.put(place, complete(f"jobs/{place.rsplit('/', 1)[1]}", {"properties": body}))
        going.children[name] = place
        self._jobs.submitted(resource)
        while self._store.get(place)["properties"]["status"] not in ENDED:
            time.sleep(LOOK)
        ended = self._store.get(place)["properties"]
        if ended["status"] == "Completed":
            self._finished[key] = ended["outputs"]
        return str(ended["status"])

    def _input(self, going: Going, component: dict[str, Any], key: str, given: dict[str, Any]) -> dict[str, Any]:
        """An input of a command job, for what a step names."""
        declared = component["inputs"][key]
        found = WIRE.fullmatch(str(given.get("value", "")))
        if found and found[1]:
            return dict(going.inputs[found[1]])
        if found:
            outputs = self._store.get(going.children[found[2]])["properties"]["outputs"]
            mode = MODES[declared.get("mode", "ro_mount")]
            return {"jobInputType": declared["type"], "uri": outputs[found[3]]["uri"], "mode": mode}
        return {"jobInputType": "literal", "value": given["value"]}

    def _command_job(
        self, going: Going, name: str, node: dict[str, Any], component: dict[str, Any], inputs: dict[str, Any]
    ) -> dict[str, Any]:
        """The properties of a step's command job, as Azure makes it of node and component."""
        outputs = {
            key: {"jobOutputType": declared["type"], "mode": MODES[declared.get("mode", "rw_mount")]}
            for key, declared in component.get("outputs", {}).items()
        }
        resources = node.get("resources") or {}
        body: dict[str, Any] = {
            "jobType": "Command",
            "displayName": name,
            "experimentName": going.resource["properties"].get("experimentName", "Default"),
            "command": component["command"],
            "codeId": component["code"].removeprefix("azureml:"),
            "environmentId": component["environment"].removeprefix("azureml:"),
            "computeId": node.get("computeId"),
            "inputs": inputs,
            "outputs": outputs,
            "resources": {"instanceCount": resources.get("instance_count", 1)},
            "environmentVariables": node.get("environment_variables") or {},
            "properties": {"parent": going.resource["name"]},
        }
        distribution = node.get("distribution") or {}
        if distribution:
            count = distribution.get("process_count_per_instance", 1)
            body["distribution"] = {"distributionType": "PyTorch", "processCountPerInstance": count}
        return body
