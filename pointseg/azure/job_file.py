"""A job as Azure ML's command job: one YAML file with its code and environment beside it.

The file is what `az ml job create -f` takes, and what is submitted from here is that same file: `compute.dry_run=true` shows
what runs. Nothing of Azure is imported.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pointseg.azure.sweep_file import sweep_job
from pointseg.core.addresses import is_remote
from pointseg.core.errors import ConfigError
from pointseg.core.files import write_text
from pointseg.core.processor import NEEDS_GPU
from pointseg.core.redaction import is_secret_name, redact_text
from pointseg.jobs.environment import conda_environment, read_pins, requirements_of, shipped
from pointseg.jobs.search_space import SearchSpace, SweepSettings
from pointseg.jobs.snapshot import take_snapshot
from pointseg.jobs.spec import PLACEHOLDER, JobSpec, Place

__all__ = [
    "BASE_IMAGE",
    "JOB_FILE",
    "AzureCompute",
    "check_input",
    "check_tags",
    "command_job",
    "command_line",
    "job_environment",
    "write_environment",
    "write_job",
    "write_surroundings",
]

log = logging.getLogger(__name__)

JOB_FILE = "job.yaml"
CONDA = "environments/conda.yml"
BASE_IMAGE = (
    "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:20260715.v1"  # by date: :latest is another one every month
)
SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
INPUT_MODES = {"mount": "ro_mount", "download": "download"}
OUTPUT_MODES = {"mount": "rw_mount", "upload": "upload"}
SERVICES = ("vs_code", "jupyter_lab", "tensor_board", "ssh")
IDENTITIES = {"managed": "managed_identity", "user": "user_identity", "token": "aml_token"}
TRACKING = "azureml-mlflow"  # how a job's runs reach Azure ML
RESERVED = ("AZUREML_", "MLFLOW_", "AZ_")  # Azure ML sets these itself
NAMING = "Write azureml:NAME:VERSION or azureml:NAME@latest."
ASSET = re.compile(r"azureml:[A-Za-z0-9][A-Za-z0-9_.-]{0,254}(:[A-Za-z0-9_.-]{1,255}|@[A-Za-z0-9_.-]{1,255})")


@dataclass
class AzureCompute:
    """On what, and as what, a job runs in Azure ML.

    Args:
        cluster: the name of a compute cluster, or of an attached one; or
        instance_type: of an attached Kubernetes cluster: what a job gets of it.
        vm_size: without a cluster, machines of this size are taken for the job alone (serverless).
        spot: with vm_size, spare machines, which may be taken away; a cluster has its tier from when it was made.
        environment: azureml:NAME:VERSION of a workspace, azureml://registries/... of a registry, or a conda file.
        image: of the container, with a conda file.
        torch: the build of torch, with a conda file: cpu, or one of CUDA such as cu126; None: as PyPI has it.
        gpu: a job that finds no GPU fails at once, unless it is told accelerator=cpu.
        env: variables of the environment, such as NCCL_DEBUG.
        shm: shared memory of the container, such as 16g.
        seconds: after which the job is ended; None: no limit.
        identity: managed, user or token; None: as the workspace does.
        services: by which people look into a running job: vs_code, jupyter_lab, tensor_board (of the run folder), ssh.
        ssh_key: for ssh: the public key, or a file of it.
        asset: the name under which the run folder becomes a data asset, with the job that wrote it.
        experiment: the runs it belongs to.
        display_name: for people.
        description: for people.
        tags: plain words.

    Raises:
        ConfigError: naming the key, for whatever Azure would refuse only later, or take and not do.

    Example:
        >>> AzureCompute(cluster="gpu-cluster", shm="16g", seconds=86400)
    """

    cluster: str | None = None
    instance_type: str | None = None
    vm_size: str | None = None
    spot: bool = False
    environment: str = CONDA
    image: str = BASE_IMAGE
    torch: str | None = "cpu"
    gpu: bool = False
    env: Mapping[str, Any] = field(default_factory=dict)
    shm: str | None = None
    seconds: int | None = None
    identity: str | None = None
    services: Sequence[str] = ()
    ssh_key: str | None = None
    asset: str | None = None
    experiment: str = "pointseg"
    display_name: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.cluster) == bool(self.vm_size):
            both = "both are given" if self.cluster else "neither is given"
            remedy = "Give compute.cluster=NAME, or compute.vm_size=SIZE for machines of the job's own."
            raise ConfigError(
                f"a job runs on a cluster or on machines of its own, and {both}", where="compute", remedy=remedy
            )
        if self.spot and self.cluster:
            raise ConfigError(
                "a cluster has its tier from when it was made",
                where="compute.spot",
                remedy="Name a low-priority cluster, or give compute.vm_size instead of compute.cluster.",
            )
        self._check_names()
        if self.shm is not None and not re.fullmatch(r"[1-9][0-9]*[bkmg]", str(self.shm)):
            raise _wrong("shm", self.shm, "no size", "Give a number and b, k, m or g, such as 16g.")
        if self.seconds is not None and not (isinstance(self.seconds, int) and self.seconds > 0):
            raise _wrong("seconds", self.seconds, "no number of seconds", "Give 1 or more, or null.")
        if self.identity is not None and self.identity not in IDENTITIES:
            raise _wrong("identity", self.identity, "no identity", f"Use {', '.join(IDENTITIES)} or null.")
        if self.instance_type is not None and not self.cluster:
            raise _wrong("instance_type", self.instance_type, "of a cluster, and none is given", "Use compute.vm_size.")
        _check_variables(self.env)
        self._check_services()
        if self.environment.startswith("azureml:") and not (
            ASSET.fullmatch(self.environment) or self.environment.startswith("azureml://registries/")
        ):
            raise _wrong("environment", self.environment, "no environment", NAMING)

    def _check_services(self) -> None:
        for service in self.services:
            if service not in SERVICES:
                raise _wrong("services", service, "no service", f"Use {', '.join(SERVICES)}.")
        if ("ssh" in self.services) != (self.ssh_key is not None):
            remedy = "Give both: compute.services=[ssh] compute.ssh_key=~/.ssh/id_ed25519.pub."
            raise ConfigError("ssh needs a public key, and a key needs ssh", where="compute.ssh_key", remedy=remedy)
        if self.ssh_key is not None and not re.match(r"(ssh-|ecdsa-|sk-)\S+ \S+", _public_key(self.ssh_key)):
            raise ConfigError(
                "this is no public key", where="compute.ssh_key", remedy="It begins with ssh-ed25519 or the like."
            )

    def _check_names(self) -> None:
        for key, value, pattern, remedy in (
            ("cluster", self.cluster, r"[A-Za-z][A-Za-z0-9-]{1,31}", "2 to 32 letters, digits and -, a letter first."),
            ("vm_size", self.vm_size, r"[A-Za-z]+_[A-Za-z0-9_]+", "Such as Standard_NC24ads_A100_v4."),
            (
                "experiment",
                self.experiment,
                r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}",
                "Letters, digits, - _ and ., 255 at most.",
            ),
            ("display_name", self.display_name, r"[^\x00-\x1f]{1,255}", "One line of 255 characters at most."),
            ("instance_type", self.instance_type, r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", "As the cluster calls it."),
            ("torch", self.torch, r"cpu|cu\d{3}|rocm\d+\.\d+", "Such as cpu, cu126 or cu128, or null."),
            ("asset", self.asset, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", "Letters, digits, - _ and ., 255 at most."),
            ("image", self.image, r"[a-z0-9][a-z0-9._/:@-]{1,510}", "REGISTRY/NAME:TAG."),
        ):
            if value is not None and not re.fullmatch(pattern, value):
                raise _wrong(key, value, "no name that Azure takes", remedy)
        check_tags("compute.tags", self.tags)


def check_tags(section: str, tags: Mapping[str, Any]) -> None:
    """Raises ConfigError for a tag that Azure does not take, or that holds a secret, naming it."""
    for name, value in tags.items():
        where = f"{section}.{name}"
        if not isinstance(value, str) or not 0 < len(name) <= 512 or len(value) > 256:
            remedy = "Tags are words: names up to 512, values up to 256 characters."
            raise ConfigError(f"{value!r} is no tag", where=where, remedy=remedy)
        if is_secret_name(name) or redact_text(value) != value:
            raise ConfigError("'***' is a secret, and tags are shown to all", where=where, remedy="Leave it out.")


def _wrong(key: str, value: object, what: str, remedy: str) -> ConfigError:
    return ConfigError(f"{value!r} is {what}", where=f"compute.{key}", remedy=remedy)


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
    _check_variables(spec.variables)
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
    return {"type": service, **({"ssh_public_keys": _public_key(str(on.ssh_key))} if service == "ssh" else {})}


def _public_key(given: str) -> str:
    """A public key by itself or by its file; a private one is not read."""
    path = Path(given).expanduser()
    try:
        return path.read_text(encoding="ascii").strip() if path.suffix == ".pub" and path.is_file() else given.strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the key cannot be read ({type(error).__name__})", where=f"compute.ssh_key={given}"
        ) from error


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


def _check_variables(variables: Mapping[str, Any]) -> None:
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(f"{name!r} is no name of a variable", where=f"compute.env.{name}")
        if name.startswith(RESERVED):
            raise ConfigError("Azure ML sets this variable itself", where=f"compute.env.{name}", remedy="Leave it out.")
        if is_secret_name(name):
            raise ConfigError(
                "a secret in a job's variables can be read by all who see the job",
                where=f"compute.env.{name}",
                remedy="Use an identity, or a key vault.",
            )
