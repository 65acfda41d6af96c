"""Which data assets a job reads: its versions are settled before it is sent, and its processes are told them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pointseg.compute.spec import JobSpec, Place

__all__ = ["INPUTS_VARIABLE", "inputs_of_environment", "warn_of_others", "with_inputs_told", "with_told"]

log = logging.getLogger(__name__)

INPUTS_VARIABLE = "POINTSEG_INPUTS"  # {"data.root": "azureml:semantic-kitti:3"}, as JSON


def with_inputs_told(
    spec: JobSpec, keys: Sequence[str], settled: Callable[[str, Place], Place] | None = None
) -> JobSpec:
    """The job, whose processes learn from the environment which asset each key of theirs names.

    Args:
        keys: of the configuration that may name an input; its name is the key with _ in place of dots.
        settled: (key, azureml:NAME@latest) -> azureml:NAME:VERSION, of the kind that it is; None leaves all as it is.
    """
    inputs, told = dict(spec.inputs), {}
    for key in keys:
        name = key.replace(".", "_")
        if name in inputs and inputs[name].path.startswith("azureml:"):
            inputs[name] = settled(key, inputs[name]) if settled else inputs[name]
            told[key] = inputs[name].path
    return with_told(replace(spec, inputs=inputs), told) if told else spec


def with_told(spec: JobSpec, told: Mapping[str, str]) -> JobSpec:
    """The job, whose processes learn that these keys are about these assets."""
    return replace(spec, variables={**spec.variables, INPUTS_VARIABLE: json.dumps(told)})


def warn_of_others(before: Mapping[str, str]) -> None:
    """Say where a run that goes on reads other assets than it began with: @latest may have moved on.

    Args:
        before: what the run has recorded.
    """
    for key, asset in inputs_of_environment().items():
        if before.get(key, asset) != asset:
            log.warning("The run began with %s=%s and goes on with %s.", key, before[key], asset)


def inputs_of_environment() -> dict[str, str]:
    """What the keys of this process name, if it is one of a job in Azure ML; {} elsewhere."""
    given = os.environ.get(INPUTS_VARIABLE)
    return {} if given is None else {str(key): str(value) for key, value in json.loads(given).items()}
