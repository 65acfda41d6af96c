"""What an address in the words of a job is: a model of the workspace or data, a folder or a file, and of which version."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Literal

from pointseg.azure.found import found
from pointseg.compute.spec import Place
from pointseg.errors import ConfigError
from pointseg.formats import KINDS

__all__ = ["kind_of_address", "settled"]

ASSET = re.compile(r"azureml:([^/:@]+)(?::([^/:@]+)|@([^/:@]+))")
MODEL_KEYS = ("against", "checkpoint", "run")  # name models, where the workspace has one of the name
FILE_KEYS = ("data.labels", "labels", "manifest")
FILES = (".ckpt", ".json", ".onnx", ".yaml", ".yml", ".zip", *KINDS)
TYPES = ("uri_folder", "uri_file", "custom_model", "mlflow_model")  # that can be read as folders and files


def kind_of_address(key: str, address: str) -> Literal["uri_folder", "uri_file", "custom_model"]:
    """What an address is taken for before Azure is asked.

    Args:
        key: that it is the value of.

    Example:
        >>> kind_of_address("scores", "azureml://datastores/scans/paths/run/metrics.json")
        'uri_file'
    """
    if ASSET.fullmatch(address) and key in MODEL_KEYS:
        return "custom_model"
    if key in FILE_KEYS:
        return "uri_file"
    path = "" if ASSET.fullmatch(address) or address.endswith("/") else address.partition("?")[0]
    return "uri_file" if PurePosixPath(path).suffix.lower() in FILES else "uri_folder"


def settled(client: Any, key: str, place: Place, *, now: bool = True) -> Place:
    """A place whose path is azureml:NAME:VERSION or azureml:NAME@latest as what that is there; other places stay.

    Args:
        key: that it is the value of: those of `MODEL_KEYS` are looked for among models before data.
        now: as the version that @latest is now; False leaves the label, for what is run later.

    Raises:
        ConfigError: if there is no such thing, or it is of a kind that cannot be read so, naming the key.
        AzureError: if Azure cannot be asked.

    Example:
        >>> settled(client, "checkpoint", Place("azureml:street@latest"))
        Place(path='azureml:street:3', kind='custom_model', mode='mount')
    """
    named = ASSET.fullmatch(place.path)
    if named is None:
        return place
    name, version, label = named.groups()
    asked = {"version": version} if version else {"label": label}
    where, there = f"{key}={place.path}", None
    if key in MODEL_KEYS:
        there = found(f"looking for the model {place.path}", lambda: client.models.get(name, **asked))
    if there is None:
        there = found(f"looking for the data {place.path}", lambda: client.data.get(name, **asked))
    if there is None:
        what = "model and no such data" if key in MODEL_KEYS else "data"
        raise ConfigError(f"the workspace has no such {what}", where=where, remedy="Look in the studio.")
    if there.type not in TYPES:
        what, remedy = ("data", "Name a folder.")
        if there.type == "triton_model":
            what, remedy = ("model", "Name one that was registered with format=custom_model or mlflow_model.")
        raise ConfigError(f"the {what} is of the type {there.type}", where=where, remedy=remedy)
    path = f"azureml:{name}:{there.version}" if now else place.path
    return replace(place, path=path, kind=there.type)
