"""Computes of a workspace as plain descriptions, checked before anything is sent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pointseg.azure.names import IDENTITY, SUBNET, check_location, check_matches, check_whole, resource_id
from pointseg.core.errors import ConfigError

__all__ = ["AttachedCompute", "Cluster", "WantedCompute", "Identity", "KubernetesCluster", "wanted_compute"]

TIERS = ("dedicated", "low_priority")
MOST_NODES = 1000
LONGEST_IDLE = 7 * 86400
KUBERNETES = resource_id("(Microsoft.ContainerService/managedClusters|Microsoft.Kubernetes/connectedClusters)")

Identity = str | tuple[str, ...]  # "none", "system", or ids of user-assigned identities, sorted


def _identity(key: str, value: object) -> Identity:
    """An identity in one form; raises ConfigError naming the key for what is not one."""
    if value in (None, "none", "system"):
        return "system" if value == "system" else "none"
    ids = [value] if isinstance(value, str) else value
    remedy = "Use none, system, or a list of ids /subscriptions/.../userAssignedIdentities/NAME."
    if not isinstance(ids, list | tuple) or not ids:
        raise ConfigError(f"{value!r} is not an identity", where=key, remedy=remedy)
    return tuple(sorted({check_matches(key, each, IDENTITY, "identity", remedy).lower() for each in ids}))


def _check_name(name: str, longest: int) -> None:
    remedy = f"Use 2 to {longest} letters, digits and -, a letter first, no - at the end."
    pattern = rf"[A-Za-z][A-Za-z0-9-]{{0,{longest - 2}}}[A-Za-z0-9]"
    check_matches(f"clusters.{name}", name, pattern, "compute name", remedy)


@dataclass(frozen=True)
class Cluster:
    """A cluster of machines that Azure ML starts and stops itself.

    Args:
        name: in the workspace.
        vm_size: of each machine, such as Standard_NC24ads_A100_v4.
        min_nodes, max_nodes: machines that are always on, and charged for; machines at most.
        idle_seconds: after which an idle machine is given back.
        tier: "dedicated", or "low_priority": spare machines that may be taken away.
        identity: "none", "system", or ids of user-assigned identities; jobs read storage with it.
        subnet: the id of the subnet of the machines.
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
        check_matches(f"{key}.vm_size", self.vm_size, size, "machine size", "Such as Standard_NC24ads_A100_v4.")
        check_whole(f"{key}.min_nodes", self.min_nodes, 0, MOST_NODES)
        check_whole(f"{key}.max_nodes", self.max_nodes, 1, MOST_NODES)
        check_whole(f"{key}.idle_seconds", self.idle_seconds, 60, LONGEST_IDLE)
        if self.min_nodes > self.max_nodes:
            raise ConfigError(
                f"at least {self.min_nodes} machines, but at most {self.max_nodes}",
                where=f"{key}.min_nodes",
                remedy="Give max_nodes or less; 0 costs nothing while idle.",
            )
        if self.tier not in TIERS:
            raise ConfigError(
                f"there is no tier {self.tier!r}", where=f"{key}.tier", remedy=f"Use {' or '.join(TIERS)}."
            )
        object.__setattr__(self, "identity", _identity(f"{key}.identity", self.identity))
        if self.subnet is not None:
            remedy = "/subscriptions/.../virtualNetworks/NAME/subnets/NAME, or null."
            check_matches(f"{key}.subnet", self.subnet, SUBNET, "subnet id", remedy)
        if self.location is not None:
            check_location(f"{key}.location", self.location)


@dataclass(frozen=True)
class KubernetesCluster:
    """A Kubernetes cluster (AKS or Arc), attached under a name.

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
        check_matches(f"{key}.resource_id", self.resource_id, KUBERNETES, "Kubernetes cluster id", remedy)
        label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
        remedy = "Use lower-case letters, digits and -, at most 63."
        check_matches(f"{key}.namespace", self.namespace, label, "namespace", remedy)
        object.__setattr__(self, "identity", _identity(f"{key}.identity", self.identity))


@dataclass(frozen=True)
class AttachedCompute:
    """Any compute that somebody has attached; it is only checked that it exists."""

    kind: ClassVar[str] = "attached"

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name, 32)


WantedCompute = Cluster | KubernetesCluster | AttachedCompute
KINDS: dict[str, type[WantedCompute]] = {each.kind: each for each in (Cluster, KubernetesCluster, AttachedCompute)}


def wanted_compute(name: str, values: Mapping[str, Any]) -> WantedCompute:
    """The description that a section of the configuration gives.

    Raises:
        ConfigError: naming the key that is unknown, missing or invalid.

    Example:
        >>> wanted_compute("cpu-cluster", {"vm_size": "Standard_D8s_v5", "max_nodes": 4}).min_nodes
        0
    """
    key = f"clusters.{name}"
    if not isinstance(values, Mapping):
        remedy = "Give vm_size and its other keys, or null."
        raise ConfigError(f"{values!r} does not describe a cluster", where=key, remedy=remedy)
    kind = values.get("kind", Cluster.kind)
    if kind not in KINDS:
        raise ConfigError(f"there is no kind {kind!r}", where=f"{key}.kind", remedy=f"Use {', '.join(KINDS)}.")
    known = {each.name for each in fields(KINDS[kind])} - {"name"}
    required: dict[str, Any] = {
        name: None for name in ("vm_size", "resource_id") if name in known
    }  # the check names it
    given = {str(name): value for name, value in values.items() if name != "kind"}
    for unknown in sorted(given.keys() - known):
        near = difflib.get_close_matches(unknown, known, 1)
        others = ", ".join(sorted(known)) or "no further key"
        remedy = f"Did you mean {key}.{near[0]}?" if near else f"It takes {others}."
        raise ConfigError(f"a compute of kind {kind} has no key {unknown}", where=f"{key}.{unknown}", remedy=remedy)
    return KINDS[kind](name, **required | given)
