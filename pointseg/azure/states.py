"""In which state Azure has what it was asked to make."""

from __future__ import annotations

from typing import Any

__all__ = ["READY", "state_of"]

READY = "Succeeded"


def state_of(thing: Any) -> str:
    """The provisioning state of an endpoint, deployment or schedule; SDK versions give a word or an enumeration."""
    state = getattr(thing, "provisioning_state", None)
    return str(getattr(state, "value", state))
