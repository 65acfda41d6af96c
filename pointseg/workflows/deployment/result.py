"""The result of a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.azure.steps import Step
from pointseg.serving.local_service import State

__all__ = ["Deployed", "ServiceStatus"]


@dataclass(frozen=True)
class ServiceStatus:
    """The state of a local service.

    Attributes:
        state: running, unhealthy or dead.
        why: it is not running, in a few words.
        model: its sha256, and where it came "from".
    """

    name: str
    state: State
    why: str
    url: str
    pid: int
    model: dict[str, str]


@dataclass(frozen=True)
class Deployed:
    """What was deployed, or with `plan` what would be.

    Attributes:
        target: local, managed, aci or batch.
        endpoint: its name; None for the state of all services of this machine.
        steps: of the plan, in order; those with action "keep" had nothing to do.
        planned: whether `plan` was set, so that nothing was changed.
        url: for callers; None with `plan`, and for a batch endpoint, which is called by its name.
        version: of an endpoint in Azure ML: the deployment, named after its content.
        model: that it serves: an asset of the workspace, or the sha256 of a bundle.
        image: of a container.
        services: of this machine, if their state was asked for.
    """

    target: str
    endpoint: str | None
    steps: tuple[Step, ...] = ()
    planned: bool = False
    url: str | None = None
    version: str | None = None
    model: str | None = None
    image: str | None = None
    services: tuple[ServiceStatus, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without fields that do not apply."""
        facts = {name: getattr(self, name) for name in ("target", "endpoint", "url", "model", "image")}
        facts |= {"deployment": self.version}
        return {name: value for name, value in facts.items() if value is not None}
