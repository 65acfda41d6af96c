"""A job as Azure ML's command job: one YAML file with its code and environment beside it.

The file is what `az ml job create -f` takes, and what is submitted from here is that same file: `compute.dry_run=true` shows
what runs. Nothing of Azure is imported.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pointseg.azure.job_compute import ASSET, CONDA, IDENTITIES, NAMING, AzureCompute, check_variables, public_key
from pointseg.azure.sweep_file import sweep_job
from pointseg.core.addresses import is_remote
from pointseg.core.errors import ConfigError
from pointseg.core.files import write_text
from pointseg.core.processor import NEEDS_GPU
from pointseg.core.redaction import redact_text
from pointseg.jobs.environment import conda_environment, read_pins, requirements_of, shipped
from pointseg.jobs.search_space import SearchSpace, SweepSettings
from pointseg.jobs.snapshot import take_snapshot
from pointseg.jobs.spec import PLACEHOLDER, JobSpec, Place

__all__ = [
    "JOB_FILE",
    "check_input",
    "command_job",
    "command_line",
    "job_environment",
    "write_environment",
    "write_job",
    "write_surroundings",
]

log = logging.getLogger(__name__)

JOB_FILE = "job.yaml"
SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
INPUT_MODES = {"mount": "ro_mount", "download": "download"}
OUTPUT_MODES = {"mount": "rw_mount", "upload": "upload"}
TRACKING = "azureml-mlflow"  # how a job's runs reach Azure ML


def command_job(
    spec: JobSpec, on: AzureCompute, environment: str | dict[str, str], code: str = "code"
) -> dict[str, Any]:
    """The content of the job's YAML file.

    Args:
        environment: an address in Azure, or image and conda file.
        code: the folder of the snapshot, relative to the file.

    Raises:
        ConfigError: for words, places and variables that cannot be used.
    """
    check_variables(spec.variables)
    job: dict[str, Any] = {"$schema": SCHEMA, "type": "command", "experiment_name": on.experiment}
    for key, value in (("display_name", on.display_name), ("description", on.description), ("tags", dict(on.tags))):
        if value:
            job[key] = value
    job |= {
        "command": command_line(spec),
        "code": code,
        "environment": environment,
    }
    if spec.inputs:
        job["inputs"] = {name: _input(name, place) for name, place in spec.inputs.items()}
    if spec.outputs:
        job["outputs"] = {name: _output(name, place) for name, place in spec.outputs.items()}
        if on.asset and "run" in spec.outputs:
            job["outputs"]["run"]["name"] = on.asset
    if on.cluster:
        job["compute"] = f"azureml:{on.cluster}"
    resources: dict[str, Any] = {"instance_count": spec.nodes}
    machine = on.vm_size or on.instance_type
    resources |= {"instance_type": machine} if machine else {}
    resources |= {"shm_size": on.shm} if on.shm else {}
    job["resources"] = resources
    if spec.world > 1:
        job["distribution"] = {"type": "pytorch", "process_count_per_instance": spec.processes}
    variables = {**spec.variables, **{name: str(value) for name, value in on.env.items()}}
    if on.gpu:
        variables[NEEDS_GPU] = "1"
    if spec.world > 1:
        variables["LOCAL_WORLD_SIZE"] = str(spec.processes)  # Azure says all other places of a process, and not this
    if variables:
        job["environment_variables"] = variables
    if on.services:
        job["services"] = {service: _service(service, on) for service in on.services}
    if on.seconds:
        job["limits"] = {"timeout": on.seconds}
    if on.spot:
        job["queue_settings"] = {"job_tier": "spot"}
    if on.identity:
        job["identity"] = {"type": IDENTITIES[on.identity]}
    return job


def _service(service: str, on: AzureCompute) -> dict[str, str]:
    if service == "tensor_board":
        return {"type": service, "log_dir": "${{outputs.run}}"}
    return {"type": service, **({"ssh_public_keys": public_key(str(on.ssh_key))} if service == "ssh" else {})}


def write_job(
    spec: JobSpec, on: AzureCompute, folder: Path, search: tuple[SearchSpace, SweepSettings] | None = None
) -> Path:
    """Write job.yaml with the code and environment beside it, by relative paths: the folder may be moved.

    Args:
        search: makes it a sweep job, whose trials are this job.

    Raises:
        ConfigError: if a place does not exist, or the code holds a secret or too much.
        OutputError: if it cannot be written.

    Example:
        >>> write_job(spec, AzureCompute(cluster="gpu-cluster"), Path("job"))
        PosixPath('job/job.yaml')
    """
    for name, place in spec.inputs.items():
        check_input(name, place)
    environment = write_surroundings(on, folder, spec.extras)
    spec.write_config(folder / "code")
    job = command_job(spec, on, environment)
    if search is not None:
        job = sweep_job(job, *search)
    write_text(folder / JOB_FILE, yaml.safe_dump(job, sort_keys=False, allow_unicode=True))
    return folder / JOB_FILE


def write_surroundings(on: AzureCompute, folder: Path, extras: Iterable[str] = ()) -> str | dict[str, str]:
    """Write the code and conda.yaml, and give the environment as a job's file says it, relative to the folder.

    Raises:
        ConfigError: if the code holds a secret or too much.
        OutputError: if it cannot be written.
    """
    take_snapshot(folder / "code")
    return write_environment(on, folder, extras)


def write_environment(
    on: AzureCompute, folder: Path, extras: Iterable[str] = (), file: str = "conda.yaml"
) -> str | dict[str, str]:
    """Write a conda file, unless the environment is one of the workspace; gives it as a job's file says it.

    With extras there is always a conda file: what an environment of the workspace holds is not known, and a job without them
    would end only once it has come to need them.

    Raises:
        ConfigError: if a package has no version.
        OutputError: if it cannot be written.
    """
    extras, base = tuple(extras), on.environment
    if base.startswith("azureml:"):
        if not extras:
            return base
        log.info("%s may lack the extra %s: %s has it, and is taken instead.", base, ", ".join(extras), file)
        base = CONDA
    write_text(folder / file, job_environment(base, extras, on.torch))
    return {"image": on.image, "conda_file": file}


def command_line(spec: JobSpec) -> str:
    """What the job's machine runs, its placeholders for Azure ML to fill in.

    Raises:
        ConfigError: for a word that holds a secret: a job keeps its words, here and there.
    """
    for word in (*spec.arguments, *_lines(spec.config or {})):
        if redact_text(word) != word:
            raise ConfigError(
                "a secret in a job's words can be read by all who see the job",
                where=redact_text(word),
                remedy="Leave it out.",
            )
    return " ".join(["python", "-m", spec.module, *map(_quoted, spec.words("."))])


def _lines(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Values of a configuration as KEY=VALUE."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}={value}"


def job_environment(file: str, extras: Iterable[str] = (), torch_build: str | None = None) -> str:
    """The conda file of jobs: `file` with all that they need, each package at its version.

    Args:
        file: a conda file, a shipped one or any.
        extras: of this package, that they need as well.
        torch_build: see `conda_environment`.

    Raises:
        ConfigError: if one of them cannot be read, or a package has no version.
    """
    pins = read_pins(shipped("environments/constraints.txt"))
    names = requirements_of("pointseg", extras) | {TRACKING} | requirements_of(TRACKING)
    if torch_build is not None and torch_build.startswith("cu"):
        names |= {"nvidia-ml-py"}  # MLflow's readings of the GPU
    return conda_environment(shipped(file), pins, names, torch_build)


def _quoted(argument: str) -> str:
    """For the shell of the job's machine; placeholders are filled in before it reads them, with paths without quotes."""
    if "${{search_space." in argument:  # what is filled in may have quotes and spaces
        return f'"{argument}"'
    if re.fullmatch(r"[\w@%+=:,./-]*", PLACEHOLDER.sub("", argument)):
        return argument
    return shlex.quote(argument)


def _input(name: str, place: Place) -> dict[str, str]:
    if place.mode not in INPUT_MODES:
        raise ConfigError(f"{place.mode!r} is no way to read", where=f"input {name}", remedy="Use mount or download.")
    path = place.path if is_remote(place.path) else str(Path(place.path).expanduser().resolve())
    return {"type": place.kind, "path": path, "mode": INPUT_MODES[place.mode]}


def _output(name: str, place: Place) -> dict[str, str]:
    if place.mode not in OUTPUT_MODES:
        raise ConfigError(f"{place.mode!r} is no way to write", where=f"output {name}", remedy="Use mount or upload.")
    if place.path and not is_remote(place.path):
        raise ConfigError(
            "a folder of this machine cannot be written by a job in Azure",
            where=f"output {name}: {place.path}",
            remedy="Leave it out, or name azureml://datastores/NAME/paths/FOLDER.",
        )
    return {"type": place.kind, "mode": OUTPUT_MODES[place.mode], **({"path": place.path} if place.path else {})}


def check_input(name: str, place: Place) -> None:
    """Raises ConfigError for an input that names nothing, or something of another kind."""
    where = f"input {name}: {place.path}"
    if (
        place.path.startswith("azureml:")
        and not place.path.startswith("azureml://")
        and not ASSET.fullmatch(place.path)
    ):
        raise ConfigError("this names no data asset", where=where, remedy=NAMING)
    if is_remote(place.path):
        if (shown := redact_text(place.path)) != place.path:
            raise ConfigError(
                "a secret in an address can be read by all who see the job",
                where=f"input {name}: {shown}",
                remedy="Leave it out; make a datastore for the place.",
            )
        return
    path = Path(place.path).expanduser()
    if not path.exists():
        raise ConfigError("there is no such file or folder", where=where, remedy="Check the path.")
    if place.kind == "uri_file" and not path.is_file():
        raise ConfigError("a file is needed, and this is a folder", where=where)
    if place.kind != "uri_file" and not path.is_dir():
        raise ConfigError("a folder is needed, and this is a file", where=where)
    if place.kind == "mltable" and not (path / "MLTable").is_file():
        raise ConfigError("the folder has no file MLTable", where=where, remedy="Make it with prepare format=parquet.")
