"""Resources by their ids, as Azure's resource manager keeps them."""

from __future__ import annotations

import copy
import datetime
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from .messages import AzureError

Resource = dict[str, Any]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


class Store:
    """Thread-safe; ids are compared without case and come back as first written. What it gives are copies."""

    def __init__(self) -> None:
        self._resources: dict[str, Resource] = {}
        self._lock = threading.RLock()

    def find(self, resource_id: str) -> Resource | None:
        with self._lock:
            return copy.deepcopy(self._resources.get(resource_id.lower()))

    def get(self, resource_id: str) -> Resource:
        """The resource; Azure's 404 where there is none."""
        found = self.find(resource_id)
        if found is None:
            *_, kind, name = resource_id.split("/")
            raise AzureError(404, "ResourceNotFound", f"The resource {kind}/{name} was not found: {resource_id}")
        return found

    def put(
        self, resource_id: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[Resource, bool]:
        """Writes a resource where the conditions in the headers (If-Match, If-None-Match) hold; also whether it is new."""
        with self._lock:
            old = self._resources.get(resource_id.lower())
            self._check_conditions(old, headers or {})
            parts = resource_id.split("/providers/", 1)[1].split("/")
            system = {"lastModifiedAt": now(), "lastModifiedBy": "tester", "lastModifiedByType": "User"}
            born = old["systemData"] if old else {"createdAt": now(), "createdBy": "tester", "createdByType": "User"}
            resource = {
                **copy.deepcopy(dict(body)),
                "id": old["id"] if old else resource_id,
                "name": parts[-1],
                "type": "/".join([parts[0], *parts[1::2]]),
                "etag": f'"{uuid.uuid4()}"',
                "systemData": {**born, **system},
            }
            self._resources[resource_id.lower()] = resource
            return copy.deepcopy(resource), old is None

    def change(self, resource_id: str, **properties: Any) -> None:
        """Sets properties of a resource that still exists."""
        with self._lock:
            found = self._resources.get(resource_id.lower())
            if found is not None:
                found["properties"].update(properties)

    @staticmethod
    def _check_conditions(old: Resource | None, headers: Mapping[str, str]) -> None:
        match, none_match = headers.get("if-match"), headers.get("if-none-match")
        failed = match is not None and (old is None or match not in ("*", old["etag"]))
        if failed or (none_match == "*" and old is not None):
            raise AzureError(412, "PreconditionFailed", "The condition in If-Match or If-None-Match does not hold.")

    def delete(self, resource_id: str) -> bool:
        """Removes a resource and everything below it; False where there was none."""
        key = resource_id.lower()
        with self._lock:
            gone = [other for other in self._resources if other == key or other.startswith(key + "/")]
            for other in gone:
                del self._resources[other]
        return bool(gone)

    def everything(self) -> list[Resource]:
        return self.below("")

    def list(self, collection_id: str) -> list[Resource]:
        """The direct members of a collection, the newest first."""
        depth = collection_id.rstrip("/").count("/") + 1
        return [resource for resource in self.below(collection_id) if resource["id"].count("/") == depth]

    def below(self, resource_id: str) -> list[Resource]:
        """Everything under an id, the newest first."""
        prefix = resource_id.lower().rstrip("/") + "/"
        with self._lock:
            return [copy.deepcopy(self._resources[key]) for key in reversed(self._resources) if key.startswith(prefix)]
