"""Strict check of request bodies against the models that Azure publishes (azure-mgmt-machinelearningservices 2.0.0b2).

The SDK builds its bodies with models of its own, of newer versions of the interface: these here are a second opinion.
Unknown fields, wrong types, values no enumeration has, missing and empty required fields are all found, with the path.
"""

from __future__ import annotations

import base64
import datetime
import enum
import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from azure.mgmt.machinelearningservices import models

# Resource paths below the workspace -> the model of a PUT's body. First match counts.
PUT = (
    (r"jobs/[^/]+", "JobBase"),
    (r"computes/[^/]+", "ComputeResource"),
    (r"codes/[^/]+/versions/[^/]+", "CodeVersion"),
    (r"data/[^/]+", "DataContainer"),
    (r"data/[^/]+/versions/[^/]+", "DataVersionBase"),
    (r"models/[^/]+", "ModelContainer"),
    (r"models/[^/]+/versions/[^/]+", "ModelVersion"),
    (r"environments/[^/]+", "EnvironmentContainer"),
    (r"environments/[^/]+/versions/[^/]+", "EnvironmentVersion"),
    (r"components/[^/]+", "ComponentContainer"),
    (r"components/[^/]+/versions/[^/]+", "ComponentVersion"),
    (r"datastores/[^/]+", "Datastore"),
    (r"onlineendpoints/[^/]+", "OnlineEndpoint"),
    (r"onlineendpoints/[^/]+/deployments/[^/]+", "OnlineDeployment"),
    (r"batchendpoints/[^/]+", "BatchEndpoint"),
    (r"batchendpoints/[^/]+/deployments/[^/]+", "BatchDeployment"),
    (r"schedules/[^/]+", "Schedule"),
    (r"connections/[^/]+", "WorkspaceConnectionPropertiesV2BasicResource"),
    (r"", "Workspace"),
)
PATCH = (
    (r"computes/[^/]+", "ClusterUpdateParameters"),
    (r"onlineendpoints/[^/]+", "PartialMinimalTrackedResourceWithIdentity"),
    (r"onlineendpoints/[^/]+/deployments/[^/]+", "PartialMinimalTrackedResourceWithSku"),
    (r"batchendpoints/[^/]+", "PartialMinimalTrackedResourceWithIdentity"),
    (r"batchendpoints/[^/]+/deployments/[^/]+", "PartialBatchDeploymentPartialMinimalTrackedResourceWithProperties"),
    (r"", "WorkspaceUpdateParameters"),
)
POST = (
    (r".*/startpendingupload", "PendingUploadRequestDto"),
    (r"onlineendpoints/[^/]+/regeneratekeys", "RegenerateEndpointKeysRequest"),
    (r"onlineendpoints/[^/]+/deployments/[^/]+/getlogs", "DeploymentLogsRequest"),
)
AS_NUMBERS = {"hash_version"}  # the SDK itself sends this property of a code asset as a number

METHODS = {"PUT": PUT, "PATCH": PATCH, "POST": POST}

# Fields that newer interfaces have and 2.0.0b2 has not: (model, field) -> what the value must be.
NEWER = {
    ("CommandJob", "queueSettings"): dict,
    ("SweepJob", "queueSettings"): dict,
    ("SweepJob", "resources"): dict,  # of 2023-08-01-preview; the SDK sends those of the trial here too
    ("BatchDeploymentProperties", "deploymentConfiguration"): dict,
    ("ManagedOnlineDeployment", "dataCollector"): dict,  # of 2023-04-01-preview
    ("UriFolderJobOutput", "assetName"): str,  # of 2023-04-01-preview, which the SDK sends jobs by
}
NEWER_POSTS = ((r"datastores/[^/]+/listsecrets", {"expirableSecret": bool, "expireAfterHours": int}),)

PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float)}


def errors(method: str, below: str, body: Any) -> list[str]:
    """What is wrong with the body of a call on the resource `below` the workspace; empty when nothing is.

    A body for which no model is published is refused too, so that no call goes unchecked.
    """
    for pattern, name in METHODS[method]:
        if re.fullmatch(pattern, below.lower()):
            return list(_model(getattr(models, name), body, name))
    for pattern, fields in NEWER_POSTS if method == "POST" and isinstance(body, dict) else ():
        if re.fullmatch(pattern, below.lower()):
            return [
                f"{key}: not a field of this action"
                for key, value in body.items()
                if type(value) is not fields.get(key)
            ]
    return [f"no model is published for {method} {below}"] if body is not None else []


def _model(model: Any, value: Any, path: str) -> Iterator[str]:
    """Errors of a JSON object that shall be this model or the subclass that its discriminator names."""
    if not isinstance(value, dict):
        yield f"{path}: {_kind(value)} where the object {model.__name__} is due"
        return
    model = _subclass(model, value)
    if isinstance(model, str):
        yield f"{path}: {model}"
        return
    known = {entry["key"]: (name, entry["type"]) for name, entry in model._attribute_map.items()}
    value = _flat(value, known)
    for key, item in value.items():
        where = f"{path}.{key}"
        if key in known:
            name, type_name = known[key]
            yield from _value(type_name, _enumeration(model, name), item, where)
            yield from _limits(model._validation.get(name, {}), item, where)
        elif not isinstance(item, NEWER.get((model.__name__, key), ())):
            yield f"{where}: {model.__name__} has no such field"
    for key, (name, _) in known.items():
        if model._validation.get(name, {}).get("required") and value.get(key) is None:
            yield f"{path}.{key}: {model.__name__} requires it"


def _flat(value: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The object with the levels taken out that the model's keys have dots for: {"a": {"b": 1}} is {"a.b": 1}."""
    flat = dict(value)
    for first in {key.split(".")[0] for key in known if "." in key}:
        inner = flat.pop(first, None)
        if inner is not None:
            flat |= (
                {f"{first}.{key}": item for key, item in inner.items()} if isinstance(inner, dict) else {first: inner}
            )
    return flat


def _subclass(model: Any, value: dict[str, Any]) -> Any:
    """The class that the discriminators name, or a sentence where one names none."""
    while "_subtype_map" in vars(model):
        ((name, classes),) = model._subtype_map.items()
        key = model._attribute_map[name]["key"]
        if value.get(key) not in classes:
            return f"{key} {value.get(key)!r} is none of {', '.join(classes)}"
        model = getattr(models, classes[value[key]])
    return model


def _value(type_name: str, enumeration: Any, value: Any, path: str) -> Iterator[str]:
    """Errors of a value of a type in the models' own notation: str, [Model], {Model}, iso-8601, ..."""
    if value is None:
        return  # null is how a field is cleared; required ones are looked at by the model
    if type_name.startswith("["):
        if not isinstance(value, list):
            yield f"{path}: {_kind(value)} where an array is due"
            return
        for index, item in enumerate(value):
            yield from _value(type_name[1:-1], None, item, f"{path}[{index}]")
    elif type_name.startswith("{"):
        if not isinstance(value, dict):
            yield f"{path}: {_kind(value)} where an object is due"
            return
        for key, item in value.items():
            if key not in AS_NUMBERS or not isinstance(item, int):
                yield from _value(type_name[1:-1], None, item, f"{path}.{key}")
    elif type_name in PLAIN:
        if not isinstance(value, PLAIN[type_name]) or (isinstance(value, bool) and type_name != "bool"):
            yield f"{path}: {_kind(value)} where {type_name} is due"
        elif enumeration is not None and str(value).lower() not in {member.value.lower() for member in enumeration}:
            yield f"{path}: {value!r} is none of {', '.join(member.value for member in enumeration)}"
    elif type_name in WRITTEN:
        if not isinstance(value, str) or not WRITTEN[type_name](value):
            yield f"{path}: {value!r} is no {type_name}"
    elif type_name != "object":
        yield from _model(getattr(models, type_name), value, path)


def _is_date(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


DURATION = re.compile(r"-?P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
WRITTEN = {"iso-8601": _is_date, "duration": DURATION.fullmatch, "bytearray": _is_base64}


def _limits(rules: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Errors against a field's length, pattern and range."""
    if isinstance(value, str):
        if len(value) < rules.get("min_length", 0):
            yield f"{path}: shorter than {rules['min_length']}"
        if len(value) > rules.get("max_length", len(value)):
            yield f"{path}: longer than {rules['max_length']}"
        if "pattern" in rules and not re.search(rules["pattern"], value):
            yield f"{path}: {value!r} does not match {rules['pattern']}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not rules.get("minimum", value) <= value <= rules.get("maximum", value):
        yield f"{path}: {value} is out of range"


@functools.cache
def _enumeration(model: Any, name: str) -> type[enum.Enum] | None:
    """The enumeration that a field's documentation names: the generated models have it nowhere else."""
    for documented in model.__mro__:
        found = re.search(
            rf":vartype {name}: str or\s+~azure\.mgmt\.machinelearningservices\.models\.(\w+)", documented.__doc__ or ""
        )
        if found:
            named = getattr(models, found[1])
            return named if isinstance(named, type) and issubclass(named, enum.Enum) else None
    return None


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
