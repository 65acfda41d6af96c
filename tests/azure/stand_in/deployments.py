"""Templates of the resource manager, as far as the SDK uses them: `workspaces.begin_create` deploys one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .messages import Answer, AzureError, Request
from .store import Store


class Deployments:
    """A deployment makes the workspace that its parameters name; what else is in the template is not looked at."""

    PATH = re.compile(
        r"/subscriptions/[^/]+/resourceGroups/([^/]+)(?:/providers/Microsoft\.Resources)?/deployments/([^/]+)(/operations)?",
        re.IGNORECASE,
    )

    def __init__(self, store: Store, group: str, add_workspace: Callable[[str], None]) -> None:
        self._store, self._group, self._add_workspace = store, group, add_workspace

    def answer(self, request: Request) -> Answer:
        """PUT, GET and the list of a deployment's operations."""
        found = self.PATH.fullmatch(request.path)
        if found is None or found[1].lower() != self._group.lower():
            raise AzureError(404, "ResourceGroupNotFound", f"The stand-in does not know {request.path}.")
        place = f"{request.path.lower().split('/deployments/')[0].split('/providers/')[0]}/providers/microsoft.resources/deployments/{found[2]}"
        if request.method == "PUT":
            self._deploy(place, request.body)
        if found[3]:
            return Answer(200, {"value": []})
        return Answer(201 if request.method == "PUT" else 200, self._store.get(place))

    def _deploy(self, place: str, body: Any) -> None:
        parameters = (body or {}).get("properties", {}).get("parameters", {})
        name = parameters.get("workspaceName", {}).get("value")
        if not name or "template" not in body["properties"]:
            raise AzureError(400, "InvalidTemplate", "The stand-in deploys templates of workspaces only.")
        self._add_workspace(name)
        properties = {"provisioningState": "Succeeded", "duration": "PT1S", "outputs": {}}
        self._store.put(place, {"properties": properties})
