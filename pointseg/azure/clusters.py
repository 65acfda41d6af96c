"""What a workspace shall compute on: plain descriptions, checked before anything is sent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pointseg.azure.names import check_matches, check_whole, resource_id
from pointseg.errors import ConfigError

__all__ = ["AttachedCompute", "Cluster", "Compute", "Identity", "KubernetesCluster", "compute_of"]

TIERS = ("dedicated", "low_priority")
MOST_NODES = 1000
LONGEST_IDLE = 7 * 86400
IDENTITY = resource_id("Microsoft.ManagedIdentity/userAssignedIdentities")
SUBNET = resource_id(r"Microsoft.Network/virtualNetworks/[\w.-]{1,80}/subnets")
KUBERNETES = resource_id("(Microsoft.ContainerService/managedClusters|Microsoft.Kubernetes/connectedClusters)")

Identity = str | tuple[str, ...]  # "none", "system", or ids of user-assigned identities, sorted


def _identity(key: str, value: object) -> Identity:
    """What is given, in one form.

    Raises:
        ConfigError: if it is no identity.
    """
    if value in (None, "none"):
        return "none"
    if value == "system":
        return "system"
    ids = [value] if isinstance(value, str) else value
    remedy = "Use none, system, or a list of ids /subscriptions/.../userAssignedIdentities/NAME."
    if not isinstance(ids, list | tuple) or not ids:
        raise ConfigError(f"{value!r} is no identity", where=key, remedy=remedy)
    return tuple(sorted({check_matches(key, each, IDENTITY, "identity", remedy).lower() for each in ids}))


def _check_name(name: str, longest: int) -> None:
    check_matches(
        f"clusters.{name}",
        name,
        rf"[A-Za-z][A-Za-z0-9-]{{0,{longest - 2}}}[A-Za-z0-9]",
        "name of a compute",
        f"2 to {longest} letters, digits and -, a letter first, no - at the end.",
    )


@dataclass(frozen=True)
class Cluster:
    """A cluster of machines that Azure ML starts and stops itself.

    Args:
        name: in the workspace.
        vm_size: of each machine, such as Standard_NC24ads_A100_v4.
        min_nodes: machines that are always there, and cost.
        max_nodes: machines at most.
        idle_seconds: after which a machine that does nothing is given back.
        tier: "dedicated", or "low_priority": spare machines that may be taken away.
        identity: "none", "system", or ids of user-assigned identities; jobs read storage with it.
        subnet: the id of one, in which the machines stand.
        location: a region; None: that of the workspace.

    Raises:
        ConfigError: naming the key.

    Example:
        >>> Cluster("gpu-cluster", "Standard_NC24ads_A100_v4", max_nodes=4, tier="low_priority")
    """

    kind: ClassVar[str] = "amlcompute"

    name: str
    vm_size: str
    min_nodes: int = 0
    max_nodes: int = 1
    idle_seconds: int = 600
    tier: str = "dedicated"
    identity: Identity = "none"
    subnet: str | None = None
    location: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, 32)
        key = f"clusters.{self.name}"
        size = r"[A-Za-z]+_[A-Za-z0-9]+(_[A-Za-z0-9-]+)*"
        check_matches(f"{key}.vm_size", self.vm_size, size, "size of a machine", "Such as Standard_NC24ads_A100_v4.")
        check_whole(f"{key}.min_nodes", self.min_nodes, 0, MOST_NODES)
        check_whole(f"{key}.max_nodes", self.max_nodes, 1, MOST_NODES)
        check_whole(f"{key}.idle_seconds", self.idle_seconds, 60, LONGEST_IDLE)
        if self.min_nodes > self.max_nodes:
            raise ConfigError(
                f"at least {self.min_nodes} machines and at most {self.max_nodes}",
                where=f"{key}.min_nodes",
                remedy="min_nodes is max_nodes or less; 0 costs nothing while idle.",
            )
        if self.tier not in TIERS:
            raise ConfigError(
                f"there is no tier {self.tier!r}", where=f"{key}.tier", remedy=f"Use {' or '.join(TIERS)}."
            )
        object.__setattr__(self, "identity", _identity(f"{key}.identity", self.identity))
        if self.subnet is not None:
            remedy = "/subscriptions/.../virtualNetworks/NAME/subnets/NAME, or null."
            check_matches(f"{key}.subnet", self.subnet, SUBNET, "id of a subnet", remedy)
        if self.location is not None:
            check_location(f"{key}.location", self.location)


@dataclass(frozen=True)
class KubernetesCluster:
    """A Kubernetes cluster (AKS or Arc) that is attached under a name.

    Args:
        name: in the workspace.
        resource_id: of the cluster.
        namespace: in which jobs run.
        identity: as of `Cluster`.

    Raises:
        ConfigError: naming the key.
    """

    kind: ClassVar[str] = "kubernetes"

    name: str
    resource_id: str
    namespace: str = "default"
    identity: Identity = "none"

    def __post_init__(self) -> None:
        _check_name(self.name, 16)
        key = f"clusters.{self.name}"
        remedy = "/subscriptions/.../Microsoft.ContainerService/managedClusters/NAME or .../connectedClusters/NAME."
        check_matches(f"{key}.resource_id", self.resource_id, KUBERNETES, "id of a Kubernetes cluster", remedy)
        label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
        check_matches(
            f"{key}.namespace", self.namespace, label, "namespace", "Small letters, digits and -, 63 at most."
        )
        object.__setattr__(self, "identity", _identity(f"{key}.identity", self.identity))


@dataclass(frozen=True)
class AttachedCompute:
    """Any compute that somebody has attached; it is only looked whether it is there."""

    kind: ClassVar[str] = "attached"

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name, 32)


Compute = Cluster | KubernetesCluster | AttachedCompute
KINDS: dict[str, type[Compute]] = {each.kind: each for each in (Cluster, KubernetesCluster, AttachedCompute)}


def check_location(key: str, value: object) -> None:
    """Raises ConfigError for what is no name of a region."""
    check_matches(key, value, r"[a-z]{3,}[a-z0-9]*", "region", "Its short name, such as westeurope.")


def compute_of(name: str, values: Mapping[str, Any]) -> Compute:
    """A section of the configuration as a description.

    Raises:
        ConfigError: naming the key that is unknown, missing or cannot be used.

    Example:
        >>> compute_of("cpu-cluster", {"vm_size": "Standard_D8s_v5", "max_nodes": 4}).min_nodes
        0
    """
    key = f"clusters.{name}"
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{values!r} is no description of a cluster", where=key, remedy="Give vm_size and such, or null."
        )
    kind = values.get("kind", Cluster.kind)
    if kind not in KINDS:
        raise ConfigError(f"there is no kind {kind!r}", where=f"{key}.kind", remedy=f"Use {', '.join(KINDS)}.")
    taken = {each.name for each in fields(KINDS[kind])} - {"name"}
    given = {str(name): value for name, value in values.items() if name != "kind"}
    for unknown in sorted(given.keys() - taken):
        near = difflib.get_close_matches(unknown, taken, 1)
        remedy = (
            f"Did you mean {key}.{near[0]}?" if near else f"It takes {', '.join(sorted(taken)) or 'no further key'}."
        )
        raise ConfigError(f"a compute of kind {kind} has no key {unknown}", where=f"{key}.{unknown}", remedy=remedy)
    for each in fields(KINDS[kind]):
        if each.name in ("vm_size", "resource_id"):
            given.setdefault(each.name, None)  # the check names the key
    return KINDS[kind](name, **given)
