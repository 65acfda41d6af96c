"""Computes of a workspace: made, changed where Azure can change them, refused where it cannot."""

from __future__ import annotations

from typing import Any

from pointseg.azure.errors import AzureError, completed, get_or_none, sdk_entities
from pointseg.azure.resources.compute import AttachedCompute, Cluster, Identity, KubernetesCluster, WantedCompute
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.core.errors import ConfigError
from pointseg.core.text import counted

__all__ = ["compute_step"]

BUSY = ("Creating", "Updating", "Deleting")


def compute_step(client: Any, wanted: WantedCompute) -> Step:
    """What to do so that the workspace has this compute; nothing is sent but questions.

    Raises:
        ConfigError: if another compute has the name, or this one has properties that Azure does not change.
        AzureError: if Azure cannot be asked.

    Example:
        >>> compute_step(client, Cluster("cpu-cluster", "Standard_D8s_v5", max_nodes=4)).action
        'create'
    """
    existing = get_or_none(f"the compute {wanted.name}", lambda: client.compute.get(wanted.name))
    if isinstance(wanted, AttachedCompute):
        return _attached(wanted, existing)
    kind = "compute cluster" if isinstance(wanted, Cluster) else "kubernetes compute"
    if existing is None:
        return Step(kind, wanted.name, "create", (_described(wanted),), lambda: _send(client, wanted), _costs(wanted))
    _check_same(wanted, existing)
    differences = _described_changes(_changes(wanted, existing))
    state = existing.provisioning_state
    if state in BUSY:
        if differences or state == "Deleting":
            remedy = "Try again when that has ended."
            raise AzureError(f"it is busy ({state})", where=f"compute {wanted.name}", remedy=remedy)
        return Step(kind, wanted.name, "keep", notes=(f"still {state}",))
    if state == "Failed":
        differences = (*differences, "its last change failed: sent again")
    if not differences:
        return Step(kind, wanted.name, "keep", notes=_costs(wanted))
    return Step(kind, wanted.name, "update", differences, lambda: _send(client, wanted, existing), _costs(wanted))


def _attached(wanted: AttachedCompute, existing: Any) -> Step:
    if existing is None:
        raise ConfigError(
            "the workspace has no such compute",
            where=f"clusters.{wanted.name}",
            remedy="Attach it in the portal, or with kind=kubernetes and its resource_id.",
        )
    state = existing.provisioning_state
    note = f"of type {existing.type}" + (f", {state}" if state not in (None, "Succeeded") else "")
    return Step("attached compute", wanted.name, "keep", notes=(note,))


# ---- what exists, and what is wanted -----------------------------------------------------------------------------


def _check_same(wanted: Cluster | KubernetesCluster, existing: Any) -> None:
    """Refuse a change that Azure would not make."""
    remedy = f"Choose another name, or delete it first: az ml compute delete --name {wanted.name}"
    if str(existing.type).lower() != wanted.kind:
        raise ConfigError(
            f"the workspace has a compute of this name and of type {existing.type}",
            where=f"clusters.{wanted.name}",
            remedy="Choose another name, or kind=attached to use it as it is.",
        )
    fixed = [(key, was, now) for key, was, now in _fixed(wanted, existing) if not _equal(was, now)]
    if fixed:
        raise ConfigError(
            f"this cannot be changed on an existing compute ({', '.join(_described_changes(fixed))})",
            where=f"clusters.{wanted.name}.{fixed[0][0]}",
            remedy=remedy if wanted.kind == Cluster.kind else remedy.replace("delete", "detach"),
        )


def _fixed(wanted: Cluster | KubernetesCluster, existing: Any) -> list[tuple[str, object, object]]:
    """What Azure does not change; keys that are not set are not compared."""
    if isinstance(wanted, KubernetesCluster):
        return [
            ("resource_id", existing.resource_id, wanted.resource_id),
            ("namespace", existing.namespace, wanted.namespace),
        ]
    pairs: list[tuple[str, object, object]] = [
        ("vm_size", existing.size, wanted.vm_size),
        ("tier", existing.tier, wanted.tier),
    ]
    if wanted.subnet is not None:
        network = existing.network_settings
        pairs.append(("subnet", network.subnet if network else None, wanted.subnet))
    if wanted.location is not None:
        pairs.append(("location", existing.location, wanted.location))
    return pairs


def _described_changes(changes: list[tuple[str, object, object]]) -> tuple[str, ...]:
    return tuple(f"{key}: {_in_words(was)} -> {_in_words(now)}" for key, was, now in changes)


def _changes(wanted: Cluster | KubernetesCluster, existing: Any) -> list[tuple[str, object, object]]:
    """What Azure can change, and differs."""
    pairs: list[tuple[str, object, object]] = [("identity", _identity_of(existing), wanted.identity)]
    if isinstance(wanted, Cluster):
        idle = existing.idle_time_before_scale_down
        pairs = [
            ("min_nodes", existing.min_instances, wanted.min_nodes),
            ("max_nodes", existing.max_instances, wanted.max_nodes),
            ("idle_seconds", None if idle is None else int(idle), wanted.idle_seconds),
            *pairs,
        ]
    return [(key, was, now) for key, was, now in pairs if was != now]


def _identity_of(existing: Any) -> Identity:
    identity = existing.identity
    kind = str(identity.type).replace("_", "").lower() if identity is not None else "none"
    if "user" in kind:
        return tuple(sorted(str(each.resource_id).lower() for each in identity.user_assigned_identities or ()))
    return "system" if "system" in kind else "none"


def _equal(was: object, now: object) -> bool:
    """Azure changes the capitals of sizes and ids."""
    return str(was).lower() == str(now).lower()


def _in_words(value: object) -> str:
    return ", ".join(each.rsplit("/", 1)[-1] for each in value) if isinstance(value, tuple) else str(value)


def _described(wanted: Cluster | KubernetesCluster) -> str:
    if isinstance(wanted, KubernetesCluster):
        return f"{wanted.resource_id}, namespace {wanted.namespace}, identity {_in_words(wanted.identity)}"
    return (
        f"{wanted.vm_size}, {wanted.min_nodes} to {counted(wanted.max_nodes, 'node')}, {wanted.tier}, given back after "
        f"{wanted.idle_seconds} s idle, identity {_in_words(wanted.identity)}"
    )


def _costs(wanted: Cluster | KubernetesCluster) -> tuple[str, ...]:
    if isinstance(wanted, KubernetesCluster) or wanted.min_nodes == 0:
        return ()
    return (f"min_nodes={wanted.min_nodes}: {counted(wanted.min_nodes, 'node')} always on, charged for while idle too",)


# ---- what is sent ------------------------------------------------------------------------------------------------


def _send(client: Any, wanted: Cluster | KubernetesCluster, existing: Any = None) -> None:
    """Make the compute, or change it, and wait until that has ended."""
    sdk = sdk_entities()
    what = f"{'making' if existing is None else 'changing'} the compute {wanted.name}"
    identity = None if wanted.identity == "none" else _sdk_identity(wanted.identity)
    if isinstance(wanted, KubernetesCluster):
        kubernetes = sdk.KubernetesCompute(
            name=wanted.name,
            resource_id=wanted.resource_id,
            namespace=wanted.namespace,
            tags=dict(MADE_BY_TAG),
            identity=identity,
        )
        completed(what, lambda: client.compute.begin_attach(kubernetes))
    elif existing is None:
        cluster = sdk.AmlCompute(
            name=wanted.name,
            size=wanted.vm_size,
            min_instances=wanted.min_nodes,
            max_instances=wanted.max_nodes,
            idle_time_before_scale_down=wanted.idle_seconds,
            tier=wanted.tier,
            location=wanted.location,
            identity=identity,
            network_settings=None if wanted.subnet is None else sdk.NetworkSettings(subnet=wanted.subnet),
            ssh_public_access_enabled=False,
            tags=dict(MADE_BY_TAG),
        )
        completed(what, lambda: client.compute.begin_create_or_update(cluster))
    else:  # the rest stays as it is: ssh keys, network and tags
        existing.min_instances, existing.max_instances = wanted.min_nodes, wanted.max_nodes
        existing.idle_time_before_scale_down = wanted.idle_seconds
        if _identity_of(existing) != wanted.identity:
            existing.identity = _sdk_identity(wanted.identity)
        completed(what, lambda: client.compute.begin_update(existing))


def _sdk_identity(wanted: Identity) -> Any:
    sdk = sdk_entities()
    if isinstance(wanted, tuple):
        each = [sdk.ManagedIdentityConfiguration(resource_id=identity) for identity in wanted]
        return sdk.IdentityConfiguration(type="user_assigned", user_assigned_identities=each)
    return sdk.IdentityConfiguration(type="system_assigned" if wanted == "system" else "none")
