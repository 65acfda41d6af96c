"""Names, numbers and regions that Azure accepts: checked here, since the SDK lets nearly everything through."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pointseg.core.errors import ConfigError

__all__ = [
    "GUID",
    "IDENTITY",
    "SUBNET",
    "check_asset_name",
    "check_cluster_name",
    "check_different",
    "check_endpoint_name",
    "check_image_name",
    "check_location",
    "check_matches",
    "check_whole",
    "resource_id",
]

GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def resource_id(kind: str) -> str:
    """The pattern of a resource's id in the resource manager.

    Args:
        kind: provider and type, such as Microsoft.ManagedIdentity/userAssignedIdentities; a pattern.
    """
    return rf"(?i:/subscriptions/{GUID}/resourceGroups/[\w.()-]{{1,90}}/providers/{kind}/)[\w.-]{{1,128}}"


IDENTITY = resource_id("Microsoft.ManagedIdentity/userAssignedIdentities")
SUBNET = resource_id(r"Microsoft.Network/virtualNetworks/[\w.-]{1,80}/subnets")


def check_matches(key: str, value: object, pattern: str, what: str, remedy: str) -> str:
    """The value, if it is text that a pattern matches.

    Args:
        what: it is, without an article, such as "endpoint name".

    Raises:
        ConfigError: naming the key, if it does not.
    """
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        text = f"no {what} is given" if value in (None, "") else f"{value!r} is not a valid {what}"
        raise ConfigError(text, where=key, remedy=remedy)
    return value


def check_asset_name(key: str, name: object, what: str) -> str:
    """The name of a model, data asset or environment, or its version; raises ConfigError naming the key."""
    pattern = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
    return check_matches(key, name, pattern, what, "Use letters, digits, - _ and ., at most 255.")


def check_cluster_name(key: str, name: object) -> str:
    """The name of a cluster; raises ConfigError naming the key."""
    pattern = r"[A-Za-z][A-Za-z0-9-]{1,31}"
    return check_matches(key, name, pattern, "cluster name", "Use 2 to 32 letters, digits and -, a letter first.")


def check_endpoint_name(key: str, name: object) -> str:
    """The name of an endpoint; raises ConfigError naming the key."""
    remedy = "Use 3 to 32 lower-case letters, digits and -, a letter first and no - at the end."
    return check_matches(key, name, r"[a-z][a-z0-9-]{1,30}[a-z0-9]", "endpoint name", remedy)


def check_image_name(key: str, image: object) -> str:
    """A container image; raises ConfigError naming the key."""
    return check_matches(key, image, r"[a-z0-9][a-z0-9._/:@-]{1,510}", "container image", "Use REGISTRY/NAME:TAG.")


def check_location(key: str, value: object) -> str:
    """The short name of a region; raises ConfigError naming the key."""
    return check_matches(key, value, r"[a-z]{3,}[a-z0-9]*", "region", "Use its short name, such as westeurope.")


def check_whole(key: str, value: object, least: int, most: int) -> int:
    """The value, if it is a whole number from `least` to `most`.

    Raises:
        ConfigError: naming the key.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{value!r} cannot be used", where=key, remedy=f"Give a whole number, {least} to {most:,}.")
    return value


def check_different(section: str, names: Iterable[str]) -> None:
    """Refuse two names that differ in capitals only: Azure takes them for one.

    Raises:
        ConfigError: naming both.
    """
    by_lower_case: dict[str, str] = {}
    for name in names:
        other = by_lower_case.setdefault(name.lower(), name)
        if other != name:
            text = f"{other} and {name} are the same name for Azure"
            raise ConfigError(text, where=section, remedy="Leave one out, or rename it.")
