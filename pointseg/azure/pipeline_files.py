"""A pipeline as Azure ML's files: pipeline.yaml, a component for each step, and the code and environments of these.

    pipeline/
      pipeline.yaml              what `az ml job create -f` takes, and what is submitted from here
      components/train.yaml      one for each step: a command with typed inputs and outputs
      code/train/  conda.yaml    the code with the step's config.yaml; the environment that all share

Nothing of Azure is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.job_file import (
    INPUT_MODES,
    OUTPUT_MODES,
    check_input,
    command_job,
    command_line,
    write_environment,
)
from pointseg.core.addresses import is_remote
from pointseg.core.errors import ConfigError
from pointseg.core.files import write_text
from pointseg.jobs.pipeline import PipelineSpec, PipelineStep
from pointseg.jobs.snapshot import take_snapshot
from pointseg.jobs.spec import JobSpec, Place

__all__ = ["COMPONENTS", "PIPELINE_FILE", "outer_inputs", "pipeline_content", "place_of", "write_pipeline"]

PIPELINE_FILE = "pipeline.yaml"
COMPONENTS = "components"
SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
SERVERLESS = "azureml:serverless"
ACTS = ("register",)  # what it does is in the registry, so Azure ML must not take an earlier run of it for this one
OF_NODE = ("compute", "resources", "distribution", "environment_variables", "limits", "queue_settings", "identity")


def write_pipeline(
    pipeline: PipelineSpec,
    on: AzureCompute,
    folder: Path,
    *,
    light_cluster: str | None = None,
    force_rerun: bool = False,
) -> Path:
    """Write the pipeline with what belongs to it, by relative paths: the folder may be moved.

    Args:
        on: where the steps run.
        light_cluster: where all run that take one process of one machine and train nothing; None: there as well.
        force_rerun: whether Azure ML runs a step again that has run before on the same.

    Raises:
        ConfigError: if an input does not exist, or the code holds a secret or too much.
        OutputError: if it cannot be written.

    Example:
        >>> write_pipeline(pipeline, AzureCompute(cluster="gpu-cluster"), Path("pipeline"))
        PosixPath('pipeline/pipeline.yaml')
    """
    for key, value in (("services", list(on.services)), ("asset", on.asset)):
        if value:
            remedy = "Leave it out; the outputs of its steps are in the studio."
            raise ConfigError(
                "this is of single jobs, not of a pipeline's steps", where=f"compute.{key}={value}", remedy=remedy
            )
    for step in pipeline.steps:
        for name, place in step.spec.inputs.items():
            if name not in step.wires and place.kind != "number":
                check_input(name, place)
    shared = write_environment(on, folder)
    content = pipeline_content(pipeline, on, light_cluster=light_cluster, force_rerun=force_rerun)
    for step in pipeline.steps:
        code = take_snapshot(
            folder / "code" / step.name
        )  # of its own: what another step is told is no reason to run again
        step.spec.write_config(code)
        environment = shared
        if step.spec.extras:  # of its own, so that the other steps' is not another with it, and they need not run again
            environment = write_environment(on, folder, step.spec.extras, f"conda-{step.name}.yaml")
        _write(folder / COMPONENTS / f"{step.name}.yaml", _component(step, environment))
    _write(folder / PIPELINE_FILE, content)
    return folder / PIPELINE_FILE


def pipeline_content(
    pipeline: PipelineSpec, on: AzureCompute, *, light_cluster: str | None = None, force_rerun: bool = False
) -> dict[str, Any]:
    """The content of pipeline.yaml."""
    content: dict[str, Any] = {"$schema": f"{SCHEMAS}/pipelineJob.schema.json", "type": "pipeline"}
    content["experiment_name"] = on.experiment
    for key, value in (("display_name", on.display_name), ("description", on.description), ("tags", dict(on.tags))):
        if value:
            content[key] = value
    outer = outer_inputs(pipeline)
    if outer:
        content["inputs"] = {name: _given(place) for name, place in outer.items()}
    content["settings"] = {
        "default_compute": f"azureml:{on.cluster}" if on.cluster else SERVERLESS,
        "force_rerun": force_rerun,
    }
    content["jobs"] = {step.name: _node(step, place_of(step, on, light_cluster), outer) for step in pipeline.steps}
    return content


def outer_inputs(pipeline: PipelineSpec) -> dict[str, Place]:
    """What comes from outside, by name; what two steps read alike is one input.

    Raises:
        ConfigError: if two steps give one name to different things.
    """
    found: dict[str, Place] = {}
    for step in pipeline.steps:
        for name, place in step.spec.inputs.items():
            if name not in step.wires and found.setdefault(name, place) != place:
                raise ConfigError(f"two steps read different things as {name}", where=step.name)
    return found


def place_of(step: PipelineStep, on: AzureCompute, light_cluster: str | None) -> AzureCompute:
    """Where a step runs: on the light cluster, unless it trains."""
    if light_cluster and step.name != "train":
        return replace(on, cluster=light_cluster, instance_type=None, vm_size=None, spot=False, gpu=False)
    return on


def _node(step: PipelineStep, on: AzureCompute, outer: Mapping[str, Place]) -> dict[str, Any]:
    """A step in pipeline.yaml: which component, on what, and what its inputs are."""
    node: dict[str, Any] = {"type": "command", "component": f"{COMPONENTS}/{step.name}.yaml"}
    inputs = {}
    for name in step.spec.inputs:
        wire = step.wires.get(name)
        source = f"parent.jobs.{wire.step}.outputs.{wire.output}" if wire else f"parent.inputs.{name}"
        inputs[name] = f"${{{{{source}}}}}"
    if inputs:
        node["inputs"] = inputs
    alone = JobSpec(
        step.spec.module, nodes=step.spec.nodes, processes=step.spec.processes, variables=step.spec.variables
    )
    job = command_job(alone, on, "")
    node |= {key: job[key] for key in OF_NODE if key in job}
    if not on.cluster:
        node["compute"] = SERVERLESS
    return node


def _component(step: PipelineStep, environment: str | dict[str, str]) -> dict[str, Any]:
    """A step as a command component, which says what kinds of things it reads and writes."""
    spec = step.spec
    component: dict[str, Any] = {"$schema": f"{SCHEMAS}/commandComponent.schema.json", "type": "command"}
    component |= {
        "name": f"pointseg_{step.name}",
        "display_name": step.name,
        "is_deterministic": step.keeps and step.name not in ACTS,
    }
    if spec.inputs:
        component["inputs"] = {name: _declared(place) for name, place in spec.inputs.items()}
    if spec.outputs:
        component["outputs"] = {
            name: {"type": place.kind, "mode": OUTPUT_MODES.get(place.mode, "rw_mount")}
            for name, place in spec.outputs.items()
        }
    if isinstance(environment, dict):
        environment = {**environment, "conda_file": f"../{environment['conda_file']}"}
    return component | {"command": command_line(spec), "code": f"../code/{step.name}", "environment": environment}


def _declared(place: Place) -> dict[str, Any]:
    if place.kind == "number":
        return {"type": "number"}
    return {"type": place.kind, "mode": INPUT_MODES[place.mode]}


def _given(place: Place) -> Any:
    if place.kind == "number":
        return float(place.path)
    path = place.path if is_remote(place.path) else str(Path(place.path).expanduser().resolve())
    return {"type": place.kind, "path": path, "mode": INPUT_MODES[place.mode]}


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=2**20))
