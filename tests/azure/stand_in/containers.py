"""Microsoft.ContainerInstance: container groups of the resource group, their logs, and what answers at their addresses."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from azure.mgmt.containerinstance import models

from .messages import Answer, AzureError, Request
from .operations import Operations
from .shapes import REGION
from .store import Resource, Store

END = ".azurecontainer.io"
VERSION = "2023-05-01"
FIXED = ("osType", "restartPolicy", "subnetIds")  # with cores and memory: what an update does not change
Scorer = Callable[[Request], Answer]


class Containers:
    """`scorers["NAME:TAG"] = function` is what a group of this image does at its address; without one, or while it is not
    provisioned, there is a 502. `logs["NAME:TAG"]` is what it says. `secrets` is what was sent and is never given back."""

    PATH = re.compile(
        r"/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/Microsoft\.ContainerInstance/containerGroups"
        r"(?:/([^/]+)(?:/containers/([^/]+)/logs)?)?",
        re.I,
    )

    def __init__(self, store: Store, group: str, operations: Operations) -> None:
        self._store, self._group, self._operations = store, group, operations
        self.scorers: dict[str, Scorer] = {}
        self.logs: dict[str, str] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    # ---- the resource manager ----------------------------------------------------------------------------------------

    def answer(self, request: Request, error: str | None, polls: int | None) -> Answer:
        """The list of a group, one of them by PUT, PATCH, GET and DELETE, or the log of a container."""
        found = self.PATH.fullmatch(request.path)
        assert found is not None
        if found[1].lower() != self._group.lower():
            raise AzureError(404, "ResourceGroupNotFound", f"Resource group '{found[1]}' could not be found.")
        if not request.query.get("api-version"):
            raise AzureError(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        if found[2] is None:
            return Answer(200, {"value": self._store.list(request.path)})
        if found[3]:
            container = self._container(self._store.get(request.path.split("/containers/")[0]), found[3])
            return Answer(200, {"content": self.logs.get(_short(container["properties"]["image"]), "")})
        if request.method == "PUT":
            return self._put(request, found[2], error, polls)
        if request.method == "PATCH":
            return self._patch(request)
        if request.method == "DELETE":
            return self._delete(request.path, error, polls)
        return Answer(200, self._store.get(request.path))

    def _container(self, group: Resource, name: str) -> Any:
        for container in group["properties"]["containers"]:
            if container["name"] == name:
                return container
        raise AzureError(404, "ContainerNotFound", f"The group has no container {name}.")

    def _put(self, request: Request, name: str, error: str | None, polls: int | None) -> Answer:
        old = self._store.find(request.path)
        wrong = [*self._errors(request.body, name, old)]
        if wrong:
            raise AzureError(400, "InvalidContainerGroup", "; ".join(wrong), wrong)
        body = copy.deepcopy(request.body)
        self.secrets[name] = dict(_without_secrets(body))
        address = body["properties"].get("ipAddress") or {}
        if address.get("dnsNameLabel"):
            address["fqdn"] = f"{address['dnsNameLabel']}.{body['location']}{END}"
        if address:
            address["ip"] = "10.0.0.4" if address["type"] == "Private" else "20.1.2.3"
        body["properties"] |= {"provisioningState": "Creating", "instanceView": {"state": "Pending", "events": []}}
        _, new = self._store.put(request.path, body)
        headers = self._operations.start(REGION, self._finish(request.path), error, polls)
        return Answer(201 if new else 200, self._store.get(request.path), headers)

    def _patch(self, request: Request) -> Answer:
        """Tags, and nothing else of a group."""
        if models.Resource.deserialize(request.body).serialize() != request.body or set(request.body) - {"tags"}:
            raise AzureError(400, "InvalidRequest", "Only tags are updated.")
        kept = self._store.get(request.path)
        body = {key: value for key, value in kept.items() if key not in ("id", "name", "type", "etag", "systemData")}
        made, _ = self._store.put(request.path, {**body, "tags": request.body["tags"]})
        return Answer(200, made)

    def _finish(self, place: str) -> Callable[[str | None], None]:
        def finish(error: str | None) -> None:
            state = ("Failed", "Failed") if error else ("Succeeded", "Running")
            self._store.change(place, provisioningState=state[0], instanceView={"state": state[1], "events": []})

        return finish

    def _delete(self, place: str, error: str | None, polls: int | None) -> Answer:
        if self._store.find(place) is None:
            return Answer(204)

        def finish(failed: str | None) -> None:
            if not failed:
                self._store.delete(place)

        return Answer(202, None, self._operations.start(REGION, finish, error, polls))

    def _errors(self, body: Any, name: str, old: Resource | None) -> Iterator[str]:
        """What is wrong: against the published model, and what the service refuses."""
        if models.ContainerGroup.deserialize(body).serialize() != body:
            yield "the body has fields that are not published, or values of another kind"
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            yield f"{name} is no name of a container group"
        properties = body["properties"]
        if not body.get("location") or properties.get("osType") != "Linux":
            yield "location and osType are required"
        names = [container["name"] for container in properties["containers"]]
        if len(set(names)) != len(names):
            yield "two containers have one name"
        cores = sum(one["properties"]["resources"]["requests"]["cpu"] for one in properties["containers"])
        memory = sum(one["properties"]["resources"]["requests"]["memoryInGB"] for one in properties["containers"])
        if cores > 4 or memory > 16:
            yield f"{cores} cores and {memory} GB are more than a group has here"
        yield from self._wrong_address(properties)
        volumes = {volume["name"] for volume in properties.get("volumes") or []}
        for container in properties["containers"]:
            for mount in container["properties"].get("volumeMounts") or []:
                if mount["name"] not in volumes:
                    yield f"there is no volume {mount['name']}"
        for credential in properties.get("imageRegistryCredentials") or []:
            if not credential.get("identity") and not (credential.get("username") and credential.get("password")):
                yield f"nothing signs in to {credential['server']}"
        if old is not None:
            now, was = (_fixed(one) for one in (properties, old["properties"]))
            if now != was or body["location"] != old["location"]:
                yield "resources, subnet, location and such cannot be updated: delete the container group first"

    def _wrong_address(self, properties: Any) -> Iterator[str]:
        address = properties.get("ipAddress")
        if address is None:
            return
        label = address.get("dnsNameLabel")
        if label is not None and not re.fullmatch(r"[a-z]([-a-z0-9]{1,61})[a-z0-9]", label):
            yield f"{label} is no DNS name label"
        if address["type"] == "Private" and (label or not properties.get("subnetIds")):
            yield "a private address has a subnet and no DNS name label"
        if address["type"] == "Public" and properties.get("subnetIds"):
            yield "a group in a subnet has no public address"
        exposed = {port["port"] for one in properties["containers"] for port in one["properties"].get("ports") or []}
        for port in address["ports"]:
            if port["port"] not in exposed:
                yield f"no container has the port {port['port']}"

    # ---- what answers at the address ---------------------------------------------------------------------------------

    def score(self, request: Request) -> Answer:
        """A call to https://LABEL.REGION.azurecontainer.io: only where a container listens on 443."""
        for group in self._store.everything():
            address = group.get("properties", {}).get("ipAddress") or {}
            if address.get("fqdn") != request.host or 443 not in {port["port"] for port in address["ports"]}:
                continue
            image = next(
                _short(one["properties"]["image"])
                for one in group["properties"]["containers"]
                if one["name"] == "scoring"
            )
            if group["properties"]["provisioningState"] == "Succeeded" and image in self.scorers:
                return self.scorers[image](request)
            return Answer(502, b"", {"Content-Type": "text/plain"})
        raise AzureError(404, "NotFound", f"No container group has {request.host}.")


def _short(image: str) -> str:
    return image.rsplit("/", 1)[-1]


def _fixed(properties: Any) -> list[Any]:
    resources = [(one["name"], one["properties"]["resources"]) for one in properties["containers"]]
    return [sorted(resources, key=str), [properties.get(key) for key in FIXED]]


def _without_secrets(body: Any) -> Iterator[tuple[str, str]]:
    """Takes out what the service never shows again."""
    for container in body["properties"]["containers"]:
        for variable in container["properties"].get("environmentVariables") or []:
            if "secureValue" in variable:
                yield variable["name"], variable.pop("secureValue")
    for credential in body["properties"].get("imageRegistryCredentials") or []:
        if "password" in credential:
            yield "registry password", credential.pop("password")
    for volume in body["properties"].get("volumes") or []:
        for name, value in (volume.get("secret") or {}).items():
            yield f"{volume['name']}/{name}", value
        if volume.get("secret"):
            volume["secret"] = {}
