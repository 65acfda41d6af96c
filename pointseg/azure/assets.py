"""What an address in a configuration stands for: a model or data of the workspace, and in which version."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Literal

from pointseg.azure.errors import get_or_none
from pointseg.core.errors import ConfigError
from pointseg.data.formats import KINDS
from pointseg.jobs.spec import Place

__all__ = ["kind_of_address", "settled"]

NAMED_ASSET = re.compile(r"azureml:([^/:@]+)(?::([^/:@]+)|@([^/:@]+))")
MODEL_KEYS = ("against", "checkpoint", "run")  # name models, where the workspace has one of the name
FILE_KEYS = ("data.labels", "labels", "manifest")
FILES = (".ckpt", ".json", ".onnx", ".yaml", ".yml", ".zip", *KINDS)
TYPES = ("uri_folder", "uri_file", "custom_model", "mlflow_model")  # that can be read as folders and files


def kind_of_address(key: str, address: str) -> Literal["uri_folder", "uri_file", "custom_model"]:
    """What an address is assumed to be before Azure is asked.

    Args:
        key: that has this value.

    Example:
        >>> kind_of_address("scores", "azureml://datastores/scans/paths/run/metrics.json")
        'uri_file'
    """
    if NAMED_ASSET.fullmatch(address) and key in MODEL_KEYS:
        return "custom_model"
    if key in FILE_KEYS:
        return "uri_file"
    path = "" if NAMED_ASSET.fullmatch(address) or address.endswith("/") else address.partition("?")[0]
    return "uri_file" if PurePosixPath(path).suffix.lower() in FILES else "uri_folder"


def settled(client: Any, key: str, place: Place, *, now: bool = True) -> Place:
    """A place at azureml:NAME:VERSION or azureml:NAME@latest with the kind and version that the workspace has; other places
    unchanged.

    Args:
        key: that has this value; for those of `MODEL_KEYS`, models are looked up before data.
        now: replace @latest by the present version; False keeps the label, for what runs later.

    Raises:
        ConfigError: naming the key, if there is no such asset, or it is of a kind that a job cannot read.
        AzureError: if Azure cannot be asked.

    Example:
        >>> settled(client, "checkpoint", Place("azureml:street@latest"))
        Place(path='azureml:street:3', kind='custom_model', mode='mount')
    """
    match = NAMED_ASSET.fullmatch(place.path)
    if match is None:
        return place
    name, version, label = match.groups()
    which = {"version": version} if version else {"label": label}
    where, asset = f"{key}={place.path}", None
    if key in MODEL_KEYS:
        asset = get_or_none(f"the model {place.path}", lambda: client.models.get(name, **which))
    if asset is None:
        asset = get_or_none(f"the data {place.path}", lambda: client.data.get(name, **which))
    if asset is None:
        what = "model and no such data" if key in MODEL_KEYS else "data"
        raise ConfigError(f"the workspace has no such {what}", where=where, remedy="Look in the studio.")
    if asset.type not in TYPES:
        what, remedy = ("data", "Name a folder.")
        if asset.type == "triton_model":
            what, remedy = ("model", "Name one that was registered with format=custom_model or mlflow_model.")
        raise ConfigError(f"the {what} is of the type {asset.type}", where=where, remedy=remedy)
    path = f"azureml:{name}:{asset.version}" if now else place.path
    return replace(place, path=path, kind=asset.type)
