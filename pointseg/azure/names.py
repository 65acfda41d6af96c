"""Which names, sizes and places Azure takes: checked here, since the SDK lets nearly everything through."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pointseg.errors import ConfigError

__all__ = ["check_matches", "check_unlike", "check_whole", "resource_id"]

GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def resource_id(kind: str) -> str:
    """The pattern of a resource's id in the resource manager.

    Args:
        kind: provider and type, such as Microsoft.ManagedIdentity/userAssignedIdentities; a pattern.
    """
    return rf"(?i:/subscriptions/{GUID}/resourceGroups/[\w.()-]{{1,90}}/providers/{kind}/)[\w.-]{{1,128}}"


def check_matches(key: str, value: object, pattern: str, what: str, remedy: str) -> str:
    """The value, if it is a word of a pattern.

    Raises:
        ConfigError: naming the key, for one that is not.
    """
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        missing = "nothing is" if value in (None, "") else f"{value!r} is no"
        given = f"{missing} given for {what}" if value in (None, "") else f"{missing} {what}"
        raise ConfigError(given, where=key, remedy=remedy)
    return value


def check_whole(key: str, value: object, least: int, most: int) -> int:
    """The value, if it is a whole number from `least` to `most`.

    Raises:
        ConfigError: naming the key.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{value!r} cannot be used", where=key, remedy=f"Give a whole number, {least} to {most:,}.")
    return value


def check_unlike(section: str, names: Iterable[str]) -> None:
    """Refuse two names that are one for Azure, which does not look at capitals.

    Raises:
        ConfigError: naming both.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(
                f"{other} and {name} are one name for Azure", where=section, remedy="Leave one out, or rename it."
            )
