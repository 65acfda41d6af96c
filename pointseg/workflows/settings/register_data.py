"""What `register_data` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import MAPPING, READS, TEXT, key, section
from pointseg.workflows.settings.shared import AzureConfig

__all__ = ["RegisterDataConfig"]


@dataclass
class RegisterDataConfig:
    """Register a folder of scans or tables as a data asset of the workspace, versioned by its content.

    Example:
        >>> RegisterDataConfig(path="kitti", name="semantic-kitti", plan=True)
    """

    path: str | None = key(
        None,
        "a folder of this machine, or where it lies: azureml://datastores/NAME/paths/FOLDER, abfss://..., https://...",
        READS,
    )
    type: str = key(
        "uri_folder",
        "uri_folder: scans or a packed store; mltable: tables of points, as prepare format=parquet writes them",
        choices=("uri_folder", "mltable"),
    )
    name: str | None = key(None, "name of the asset; null: semantic-kitti, or semantic-kitti-tabular for tables", TEXT)
    version: str | None = key(
        None, "version of the asset; null: by the content of a folder, or by the address of a place", TEXT
    )
    description: str | None = key(None, "a sentence for people", TEXT)
    tags: dict[str, Any] | None = key({}, "further words kept with the asset: tags.KEY=VALUE", MAPPING)
    check: bool = key(True, "false: take a folder that holds neither scans nor tables")
    labels: str = key("semantickitti", "label map of raw scans: a shipped one or a YAML", READS)
    columns: list[str] = key(["x", "y", "z", "remission"], "columns of raw scans, float32 each")
    plan: bool = key(False, "say what would be done, and change nothing")
    azure: AzureConfig = section(AzureConfig, "the workspace")
