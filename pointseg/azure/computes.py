"""Computes of a workspace: made, changed where Azure can change them, refused where it cannot."""

from __future__ import annotations

from typing import Any

from pointseg.azure.clusters import AttachedCompute, Cluster, Compute, Identity, KubernetesCluster
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.found import found
from pointseg.azure.ours import TAG
from pointseg.azure.plan import Step
from pointseg.errors import ConfigError
from pointseg.extras import needed
from pointseg.words import counted

__all__ = ["compute_step"]

BUSY = ("Creating", "Updating", "Deleting")
TYPES = {"amlcompute": "amlcompute", "kubernetes": "kubernetes"}  # as the SDK names the kinds that are made here


def compute_step(client: Any, wanted: Compute) -> Step:
    """What is to be done so that the workspace has this compute; nothing is sent but questions.

    Args:
        client: of the workspace.

    Raises:
        ConfigError: if there is another compute of the name, or one with properties that Azure does not change.
        AzureError: if Azure cannot be asked.

    Example:
        >>> compute_step(client, Cluster("cpu-cluster", "Standard_D8s_v5", max_nodes=4)).action
        'create'
    """
    there = found(f"looking for the compute {wanted.name}", lambda: client.compute.get(wanted.name))
    if isinstance(wanted, AttachedCompute):
        return _attached(wanted, there)
    kind = "compute cluster" if isinstance(wanted, Cluster) else "kubernetes compute"
    if there is None:
        return Step(kind, wanted.name, "create", (_described(wanted),), lambda: _send(client, wanted), _costs(wanted))
    _check_same(wanted, there)
    differences = tuple(f"{key}: {_word(was)} -> {_word(now)}" for key, was, now in _changes(wanted, there))
    state = there.provisioning_state
    if state in BUSY:
        if differences or state == "Deleting":
            raise AzureError(
                f"it is busy ({state})", where=f"compute {wanted.name}", remedy="Try again when that has ended."
            )
        return Step(kind, wanted.name, "keep", notes=(f"still {state}",))
    if state == "Failed":
        differences = (*differences, "its last change failed: it is sent again")
    if not differences:
        return Step(kind, wanted.name, "keep", notes=_costs(wanted))
    return Step(kind, wanted.name, "update", differences, lambda: _send(client, wanted, there), _costs(wanted))


def _attached(wanted: AttachedCompute, there: Any) -> Step:
    if there is None:
        raise ConfigError(
            "the workspace has no such compute",
            where=f"clusters.{wanted.name}",
            remedy="Attach it in the portal, or with kind=kubernetes and its resource_id.",
        )
    state = there.provisioning_state
    told = f"of type {there.type}" + (f", {state}" if state not in (None, "Succeeded") else "")
    return Step("attached compute", wanted.name, "keep", notes=(told,))


# ---- what is there, and what is wanted ---------------------------------------------------------------------------


def _check_same(wanted: Cluster | KubernetesCluster, there: Any) -> None:
    """Refuse what Azure would not change."""
    remedy = f"Choose another name, or delete it first: az ml compute delete --name {wanted.name}"
    if str(there.type).lower() != TYPES[wanted.kind]:
        raise ConfigError(
            f"the workspace has a compute of this name, of type {there.type}",
            where=f"clusters.{wanted.name}",
            remedy="Choose another name, or kind=attached to take it as it is.",
        )
    fixed = [(key, was, now) for key, was, now in _fixed(wanted, there) if not _equal(was, now)]
    if fixed:
        said = ", ".join(f"{key}: {_word(was)} -> {_word(now)}" for key, was, now in fixed)
        raise ConfigError(
            f"this cannot be changed on a compute that is there ({said})",
            where=f"clusters.{wanted.name}.{fixed[0][0]}",
            remedy=remedy if wanted.kind == Cluster.kind else remedy.replace("delete", "detach"),
        )


def _fixed(wanted: Cluster | KubernetesCluster, there: Any) -> list[tuple[str, object, object]]:
    """What stays as it was made; what is not asked for is not looked at."""
    if isinstance(wanted, KubernetesCluster):
        return [
            ("resource_id", there.resource_id, wanted.resource_id),
            ("namespace", there.namespace, wanted.namespace),
        ]
    pairs: list[tuple[str, object, object]] = [
        ("vm_size", there.size, wanted.vm_size),
        ("tier", there.tier, wanted.tier),
    ]
    if wanted.subnet is not None:
        network = there.network_settings
        pairs.append(("subnet", network.subnet if network else None, wanted.subnet))
    if wanted.location is not None:
        pairs.append(("location", there.location, wanted.location))
    return pairs


def _changes(wanted: Cluster | KubernetesCluster, there: Any) -> list[tuple[str, object, object]]:
    """What can be changed, and differs."""
    pairs: list[tuple[str, object, object]] = [("identity", _identity_of(there), wanted.identity)]
    if isinstance(wanted, Cluster):
        idle = there.idle_time_before_scale_down
        pairs = [
            ("min_nodes", there.min_instances, wanted.min_nodes),
            ("max_nodes", there.max_instances, wanted.max_nodes),
            ("idle_seconds", None if idle is None else int(idle), wanted.idle_seconds),
            *pairs,
        ]
    return [(key, was, now) for key, was, now in pairs if was != now]


def _identity_of(there: Any) -> Identity:
    identity = there.identity
    kind = str(identity.type).replace("_", "").lower() if identity is not None else "none"
    if "user" in kind:
        return tuple(sorted(str(each.resource_id).lower() for each in identity.user_assigned_identities or ()))
    return "system" if "system" in kind else "none"


def _equal(was: object, now: object) -> bool:
    """Azure writes sizes and ids with capitals of its own."""
    return str(was).lower() == str(now).lower()


def _word(value: object) -> str:
    return ", ".join(each.rsplit("/", 1)[-1] for each in value) if isinstance(value, tuple) else str(value)


def _described(wanted: Cluster | KubernetesCluster) -> str:
    if isinstance(wanted, KubernetesCluster):
        return f"{wanted.resource_id}, namespace {wanted.namespace}, identity {_word(wanted.identity)}"
    return (
        f"{wanted.vm_size}, {wanted.min_nodes} to {counted(wanted.max_nodes, 'node')}, {wanted.tier}, given back after "
        f"{wanted.idle_seconds} s idle, identity {_word(wanted.identity)}"
    )


def _costs(wanted: Cluster | KubernetesCluster) -> tuple[str, ...]:
    if isinstance(wanted, KubernetesCluster) or wanted.min_nodes == 0:
        return ()
    return (f"min_nodes={wanted.min_nodes}: {counted(wanted.min_nodes, 'node')} always on, which cost while idle too",)


# ---- what is sent ------------------------------------------------------------------------------------------------


def _send(client: Any, wanted: Cluster | KubernetesCluster, there: Any = None) -> None:
    """Make it, or change it, and wait for the end."""
    doing = "making" if there is None else "changing"
    with plain_errors(f"{doing} the compute {wanted.name}"):
        if isinstance(wanted, KubernetesCluster):
            client.compute.begin_attach(_kubernetes(wanted)).result()
        elif there is None:
            client.compute.begin_create_or_update(_cluster(wanted)).result()
        else:  # as it is, but for what changes: keys for ssh, network and tags stay
            there.min_instances, there.max_instances = wanted.min_nodes, wanted.max_nodes
            there.idle_time_before_scale_down = wanted.idle_seconds
            if _identity_of(there) != wanted.identity:
                there.identity = _identity(wanted.identity)
            client.compute.begin_update(there).result()


def _cluster(wanted: Cluster) -> Any:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    return entities.AmlCompute(
        name=wanted.name,
        size=wanted.vm_size,
        min_instances=wanted.min_nodes,
        max_instances=wanted.max_nodes,
        idle_time_before_scale_down=wanted.idle_seconds,
        tier=wanted.tier,
        location=wanted.location,
        identity=None if wanted.identity == "none" else _identity(wanted.identity),
        network_settings=None if wanted.subnet is None else entities.NetworkSettings(subnet=wanted.subnet),
        ssh_public_access_enabled=False,
        tags=dict(TAG),
    )


def _kubernetes(wanted: KubernetesCluster) -> Any:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    return entities.KubernetesCompute(
        name=wanted.name,
        resource_id=wanted.resource_id,
        namespace=wanted.namespace,
        tags=dict(TAG),
        identity=None if wanted.identity == "none" else _identity(wanted.identity),
    )


def _identity(wanted: Identity) -> Any:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    if isinstance(wanted, tuple):
        each = [entities.ManagedIdentityConfiguration(resource_id=identity) for identity in wanted]
        return entities.IdentityConfiguration(type="user_assigned", user_assigned_identities=each)
    return entities.IdentityConfiguration(type="system_assigned" if wanted == "system" else "none")
