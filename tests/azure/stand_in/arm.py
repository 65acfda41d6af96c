"""management.azure.com: one resource group and its workspaces, as far as the SDK asks."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from . import bodies, rules
from .blobs import Blobs
from .jobs import Jobs
from .messages import Answer, AzureError, Request
from .operations import Operations
from .scoring import Scoring
from .shapes import REGION, complete, kind
from .store import Resource, Store

LONG = {
    "",
    "computes",
    "onlineendpoints",
    "onlineendpoints/deployments",
    "batchendpoints",
    "batchendpoints/deployments",
    "schedules",
}
ARTIFACTS = {"workspaceblobstore": "azureml-blobstore", "workspaceartifactstore": "azureml"}


@dataclass(frozen=True)
class Scope:
    """Where everything is."""

    subscription: str
    group: str

    @property
    def root(self) -> str:
        return f"/subscriptions/{self.subscription}"

    def workspace(self, name: str) -> str:
        return f"{self.root}/resourceGroups/{self.group}/providers/Microsoft.MachineLearningServices/workspaces/{name}"


class Arm:
    """Answers requests by their paths; `operation_error` is what an injected fault gives the operation to end with."""

    def __init__(
        self, scope: Scope, store: Store, blobs: Blobs, jobs: Jobs, operations: Operations, scoring: Scoring
    ) -> None:
        self.scope, self.store, self.blobs, self.jobs, self.operations = scope, store, blobs, jobs, operations
        self.scoring = scoring

    def add_workspace(self, name: str) -> None:
        """A workspace as provisioning leaves it: with its datastores and a container of its own behind each."""
        workspace = self.scope.workspace(name)
        storage = f"{self.scope.root}/resourceGroups/{self.scope.group}/providers/Microsoft.Storage/storageAccounts/{self.blobs.account}"
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, workspace))
        properties = {
            "workspaceId": identity,
            "friendlyName": name,
            "discoveryUrl": f"https://{REGION}.api.azureml.ms/discovery/workspaces/{identity}",
            "mlFlowTrackingUri": f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0{workspace}",
            "storageAccount": storage,
            "provisioningState": "Succeeded",
        }
        body = {
            "location": REGION,
            "tags": {},
            "identity": {"type": "SystemAssigned"},
            "kind": "Default",
            "properties": properties,
        }
        self.store.put(workspace, body)
        for datastore, prefix in ARTIFACTS.items():
            container = f"{prefix}-{identity}"
            self.blobs.make_container(container)
            properties = {
                "datastoreType": "AzureBlob",
                "accountName": self.blobs.account,
                "containerName": container,
                "endpoint": "core.windows.net",
                "protocol": "https",
                "isDefault": datastore == "workspaceblobstore",
                "credentials": {"credentialsType": "AccountKey"},
                "tags": {},
                "properties": {},
            }
            self.store.put(f"{workspace}/datastores/{datastore}", {"properties": properties})

    def answer(self, request: Request, operation_error: str | None = None, polls: int | None = None) -> Answer:
        """The answer of the service; raises `AzureError`."""
        if "api-version" not in request.query:
            raise AzureError(
                400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required."
            )
        asked = re.search(r"/locations/[^/]+/(mfeOperation(?:sStatus|Results))/([^/]+)$", request.path, re.IGNORECASE)
        if asked:
            return self.operations.answer(asked[1], asked[2])
        if re.search(r"/locations/[^/]+/(vmSizes|usages)$", request.path, re.IGNORECASE):
            return Answer(200, {"value": []})
        workspace, below = self._place(request.path)
        if request.method in bodies.METHODS:
            wrong = bodies.errors(request.method, below, request.body)
            if wrong:
                raise AzureError(400, "ValidationError", "The request is invalid: " + "; ".join(wrong), wrong)
        if request.method == "GET":
            return self._get(workspace, below, request)
        if request.method == "POST":
            return self._post(workspace, below, request, operation_error, polls)
        if request.method == "DELETE":
            return self._delete(workspace, below, operation_error, polls)
        return self._put(workspace, below, request, operation_error, polls)

    def _place(self, path: str) -> tuple[str, str]:
        """The workspace's id and the path below it."""
        pattern = r"(/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.MachineLearningServices/workspaces(?:/([^/]+))?)/?(.*)"
        found = re.fullmatch(pattern, path, re.IGNORECASE)
        if not found:
            raise AzureError(501, "NotInStandIn", f"The stand-in does not know {path}.")
        if found[2].lower() != self.scope.subscription.lower():
            raise AzureError(404, "SubscriptionNotFound", f"The subscription '{found[2]}' could not be found.")
        if found[3].lower() != self.scope.group.lower():
            raise AzureError(404, "ResourceGroupNotFound", f"Resource group '{found[3]}' could not be found.")
        workspace = self.scope.workspace(found[4]) if found[4] else self.scope.workspace("").rstrip("/")
        if found[5]:
            self.store.get(workspace)
        return workspace, found[5].strip("/")

    def _get(self, workspace: str, below: str, request: Request) -> Answer:
        place = f"{workspace}/{below}".rstrip("/")
        if workspace.endswith("/workspaces") or len([part for part in below.split("/") if part]) % 2:
            found = (
                self.store.below(place.split("/codes/")[0] + "/codes")
                if "hash" in request.query
                else self.store.list(place)
            )
            return Answer(200, {"value": [_shown(200, item).body for item in _chosen(found, request.query)]})
        if kind(below) == "jobs":
            self.jobs.step(place)
        return _shown(200, self.store.get(place))

    def _put(self, workspace: str, below: str, request: Request, error: str | None, polls: int | None) -> Answer:
        place, body = f"{workspace}/{below}".rstrip("/"), dict(request.body)
        old = self.store.find(place)
        if request.method == "PATCH":
            body = _merged(_writable(self.store.get(place)), body)
        rules.check(self.store, workspace, below, body, old)
        if kind(below) == "versions":
            self._check_upload(below, body)
        body = complete(below, body) if below else {**(old or {}), **body}
        if old is not None and kind(below) == "jobs":  # only labels of a job change
            body["properties"]["status"] = old["properties"]["status"]
        headers = {}
        if kind(below) in LONG:
            body["properties"]["provisioningState"] = "Updating" if old else "Creating"
            headers = self.operations.start(REGION, self._finish_put(place), error, polls)
        resource, new = self.store.put(place, body, request.headers)
        if new and kind(below) == "versions":
            self._note_version(place, resource)
        if new and kind(below) == "jobs":
            self.jobs.submitted(resource)
        return _shown(201 if new else 200, self.store.get(place), headers)

    def _finish_put(self, place: str) -> Any:
        return lambda error: self.store.change(place, provisioningState="Failed" if error else "Succeeded")

    def _check_upload(self, below: str, body: dict[str, Any]) -> None:
        """A code asset names blobs whose upload was confirmed, as the SDK does at its end."""
        if below.lower().startswith("codes/"):
            try:
                names = self.blobs.list(*self.blobs.split(body["properties"]["codeUri"]))
            except ValueError as error:
                raise AzureError(400, "UserError", str(error)) from None
            if not any(metadata.get("upload_status") == "completed" for metadata in names.values()):
                raise AzureError(400, "UserError", f"No completed upload at {body['properties']['codeUri']}.")

    def _note_version(self, place: str, resource: Resource) -> None:
        """The container of a version: it knows the latest one and the next."""
        container = place.rsplit("/", 2)[0]
        version = resource["name"]
        found = self.store.find(container) or {"properties": {"tags": {}, "properties": {}, "isArchived": False}}
        following = str(int(version) + 1) if version.isdigit() else found["properties"].get("nextVersion", "1")
        found["properties"] |= {"latestVersion": version, "nextVersion": following}
        if "dataType" in resource["properties"]:
            found["properties"]["dataType"] = resource["properties"]["dataType"]
        self.store.put(container, _writable(found))

    def _delete(self, workspace: str, below: str, error: str | None, polls: int | None) -> Answer:
        place = f"{workspace}/{below}".rstrip("/")
        if self.store.find(place) is None:
            return Answer(204)
        rules.check_deletion(self.store, place, below)
        if kind(below) not in LONG | {"jobs"}:
            self.store.delete(place)
            return Answer(200)
        self.store.change(place, provisioningState="Deleting")

        def finish(failed: str | None) -> None:
            if failed:
                self.store.change(place, provisioningState="Failed")
            else:
                self.store.delete(place)

        return Answer(202, None, self.operations.start(REGION, finish, error, polls))

    def _post(self, workspace: str, below: str, request: Request, error: str | None, polls: int | None) -> Answer:
        """Actions: the last word of the path."""
        place, _, action = f"{workspace}/{below}".rpartition("/")
        action, of_kind = action.lower(), kind(below.rpartition("/")[0]) if "/" in below else ""
        if action == "startpendingupload":
            return Answer(200, self._pending_upload())
        self.store.get(place)
        if action == "listsecrets" and of_kind == "datastores":
            return Answer(200, self._secrets(place, request.body or {}))
        if action in ("listkeys", "regeneratekeys") and of_kind.endswith("endpoints"):
            return Answer(200, self.scoring.keys(place, (request.body or {}).get("keyType")))
        if action == "listkeys" and not of_kind:
            return Answer(200, {"userStorageKey": self.blobs.key, "userStorageResourceId": self.blobs.account})
        if action == "listnodes" and of_kind == "computes":
            return Answer(200, {"nodes": []})
        if action == "token" and of_kind.endswith("endpoints"):
            return Answer(
                200,
                {
                    "accessToken": self.scoring.keys(place)["primaryKey"],
                    "expiryTimeUtc": 0,
                    "refreshAfterTimeUtc": 0,
                    "tokenType": "Bearer",
                },
            )
        if action == "getlogs":
            said = self.scoring.of(self.store.get(place), self.scoring.logs)
            return Answer(200, {"content": said or "the stand-in runs no deployments\n"})
        if action == "cancel" and of_kind == "jobs":
            self.jobs.cancel(place)
            headers = self.operations.start(
                REGION, lambda failed: None if failed else self.jobs.canceled(place), error, polls
            )
            del headers["Azure-AsyncOperation"]  # only Location: the job itself tells how it ended
            return Answer(202, None, headers)
        if action in ("start", "stop", "restart") and of_kind == "computes":
            return Answer(202, None, self.operations.start(REGION, lambda _: None, error, polls))
        raise AzureError(501, "NotInStandIn", f"The stand-in does not know the action {action} of {of_kind}.")

    def _pending_upload(self) -> dict[str, Any]:
        container = f"upload-{uuid.uuid4()}"
        url = self.blobs.make_container(container).url
        credential = {"credentialType": "SAS", "sasUri": f"{url}?{self.blobs.sas(container)}"}
        reference = {"blobUri": url, "storageAccountArmId": self.blobs.account, "credential": credential}
        return {
            "blobReferenceForConsumption": reference,
            "pendingUploadId": container,
            "pendingUploadType": "TemporaryBlobReference",
        }

    def _secrets(self, place: str, body: dict[str, Any]) -> dict[str, Any]:
        """The account's key, or a signature of the container where one that expires is asked for."""
        container = self.store.get(place)["properties"]["containerName"]
        wants_signature = body.get("expirableSecret") and not place.lower().endswith("/workspaceartifactstore")
        if wants_signature:  # not of the artifact store: `jobs.stream` signs addresses of logs with what it gets here
            return {"secretsType": "Sas", "sasToken": self.blobs.sas(container, body.get("expireAfterHours") or 1)}
        return {"secretsType": "AccountKey", "key": self.blobs.key}


def _shown(status: int, resource: Resource, headers: dict[str, str] | None = None) -> Answer:
    """A resource as it is answered: its etag is a header."""
    return Answer(
        status,
        {key: value for key, value in resource.items() if key != "etag"},
        {"ETag": resource["etag"], **(headers or {})},
    )


def _chosen(found: list[Resource], query: Any) -> list[Resource]:
    """What the query's filters leave: hash, isDefault, listViewType, $top. The newest come first."""
    if query.get("hash"):
        found = [
            item for item in found if (item["properties"].get("properties") or {}).get("hash_sha256") == query["hash"]
        ]
    if query.get("isdefault"):
        found = [item for item in found if item["properties"].get("isDefault")]
    view = query.get("listviewtype", "ActiveOnly").lower()
    if view in ("enabledonly", "disabledonly"):  # of schedules
        found = [item for item in found if item["properties"].get("isEnabled") == (view == "enabledonly")]
    elif view != "all":
        found = [item for item in found if bool(item["properties"].get("isArchived")) == (view == "archivedonly")]
    return found[: int(query["$top"])] if query.get("$top") else found


def _writable(resource: Resource) -> Resource:
    """A resource without what only the store sets."""
    return {key: value for key, value in resource.items() if key not in ("id", "name", "type", "etag", "systemData")}


def _merged(old: Any, new: Any) -> Any:
    """JSON merge patch, RFC 7396."""
    if not isinstance(new, dict) or not isinstance(old, dict):
        return new
    merged = {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in merged.items() if new.get(key, 0) is not None}
