"""Azure Monitor's rules of autoscaling: Microsoft.Insights/autoscaleSettings of the resource group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from azure.mgmt.monitor import models

from .messages import Answer, AzureError, Request
from .store import Store

CALLER_MISTAKE = 400


class Autoscale:
    """Keeps settings, and refuses those that the service would not take, or that would do nothing."""

    PATH = re.compile(
        r"/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/Microsoft\.Insights/autoscaleSettings(?:/([^/]+))?",
        re.I,
    )

    def __init__(self, store: Store, group: str) -> None:
        self._store, self._group = store, group

    def answer(self, request: Request) -> Answer:
        """The list of a group, or one of them by PUT, GET and DELETE."""
        found = self.PATH.fullmatch(request.path)
        if found is None or found[1].lower() != self._group.lower():
            raise AzureError(404, "ResourceGroupNotFound", f"The stand-in does not know {request.path}.")
        if request.query.get("api-version") != "2022-10-01":
            raise AzureError(400, "InvalidApiVersion", "The published version of the interface is 2022-10-01.")
        if found[2] is None:
            return Answer(200, {"value": self._store.list(request.path)})
        if request.method == "PUT":
            wrong = [*self._errors(request.body)]
            if wrong:
                raise AzureError(CALLER_MISTAKE, "BadRequest", "; ".join(wrong), wrong)
            made, new = self._store.put(request.path, request.body)
            return Answer(201 if new else 200, made)
        if request.method == "DELETE":
            return Answer(200 if self._store.delete(request.path) else 204)
        return Answer(200, self._store.get(request.path))

    def _errors(self, body: Any) -> Iterator[str]:
        """What is wrong: against the published model, and of the sense of it."""
        read = models.AutoscaleSettingResource.deserialize(body)
        if read.serialize() != {key: value for key, value in body.items() if key != "name"}:
            yield "the body has fields that are not published"
        if not body.get("location"):
            yield "location is required"
        target = body["properties"].get("targetResourceUri")
        if not target or self._store.find(target) is None:
            yield f"the target {target} does not exist"
        if body["properties"].get("enabled") is not True:
            yield "it is not enabled, and would do nothing"
        for profile in body["properties"]["profiles"]:
            capacity = profile["capacity"]
            if not all(isinstance(value, str) and value.isdecimal() for value in capacity.values()):
                yield "capacities are numbers, written as words"
            elif not int(capacity["minimum"]) <= int(capacity["default"]) <= int(capacity["maximum"]):
                yield f"{capacity} is no minimum, default and maximum"
            directions = {rule["scaleAction"]["direction"] for rule in profile["rules"]}
            if directions != {"Increase", "Decrease"}:
                yield "machines would only come, or only go"
            for rule in profile["rules"]:
                if rule["metricTrigger"]["metricResourceUri"] != target:
                    yield "the rule looks at something else than the target"
