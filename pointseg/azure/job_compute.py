"""On what, and as what, a job runs in Azure ML: what the keys of `compute=aml_*` say, checked before anything is sent.

Nothing of Azure is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointseg.core.errors import ConfigError
from pointseg.core.redaction import is_secret_name, redact_text

__all__ = [
    "ASSET",
    "BASE_IMAGE",
    "CONDA",
    "IDENTITIES",
    "NAMING",
    "AzureCompute",
    "check_tags",
    "check_variables",
    "public_key",
]

CONDA = "environments/conda.yml"
# by date: :latest is another one every month
BASE_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:20260715.v1"
IDENTITIES = {"managed": "managed_identity", "user": "user_identity", "token": "aml_token"}
SERVICES = ("vs_code", "jupyter_lab", "tensor_board", "ssh")
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
        check_variables(self.env)
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
        if self.ssh_key is not None and not re.match(r"(ssh-|ecdsa-|sk-)\S+ \S+", public_key(self.ssh_key)):
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


def public_key(given: str) -> str:
    """A public key by itself or by its file; a private one is not read."""
    path = Path(given).expanduser()
    try:
        return path.read_text(encoding="ascii").strip() if path.suffix == ".pub" and path.is_file() else given.strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the key cannot be read ({type(error).__name__})", where=f"compute.ssh_key={given}"
        ) from error


def check_variables(variables: Mapping[str, Any]) -> None:
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
