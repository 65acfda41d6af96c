"""Register a folder of scans or tables as a data asset, versioned by its content."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pointseg.azure.resources.data_assets import DataAsset, check_address, data_step, version_of_address
from pointseg.azure.resources.folder_content import FolderContent, folder_content
from pointseg.azure.steps import Step, carry_out
from pointseg.core.addresses import is_remote
from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.files import write_json, write_text
from pointseg.core.labels import LabelMap
from pointseg.core.package import VERSION
from pointseg.core.progress import Progress, silent
from pointseg.core.text import counted
from pointseg.data.folders import describe_folder
from pointseg.data.tabular import MLTABLE, check_mltable, find_tables
from pointseg.workflows.settings.register_data import RegisterDataConfig
from pointseg.workflows.workspace.client import client_for

__all__ = ["RegisteredData", "register_data"]

log = logging.getLogger(__name__)

RECORD = "data_asset.json"
NAMES = {"uri_folder": "semantic-kitti", "mltable": "semantic-kitti-tabular"}


@dataclass(frozen=True)
class RegisteredData:
    """A data asset of the workspace, or with `plan` what it would be.

    Attributes:
        address: as keys of a job name it, azureml:NAME:VERSION.
        kind: uri_folder or mltable.
        tags: those given, and what the folder holds.
        step: of the plan; "keep" where this version existed.
        planned: whether `plan` was set, so that nothing was changed.
    """

    address: str
    kind: str
    tags: dict[str, str]
    step: Step
    planned: bool


def register_data(
    config: RegisterDataConfig, *, folder: str | Path | None = None, progress: Progress = silent
) -> RegisteredData:
    """Look at the folder and at the workspace, and register the version if it is new.

    Args:
        folder: of this run, for data_asset.json; None: it is not written.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if a key is missing or cannot be used, or the folder holds what must not be uploaded.
        DataError: if the folder holds neither scans nor tables.
        AzureError: if Azure cannot be reached, or refuses.

    Example:
        >>> register_data(RegisterDataConfig(path="kitti")).address
        'azureml:semantic-kitti:0a41c2f97b3e'
    """
    path = _check(config)
    _, client = client_for(config.azure, plan=config.plan)
    if is_remote(path):
        asset, size, mltable = _pointed_at(config, path), "", None
    else:
        asset, size, mltable = _uploaded(config, Path(path).expanduser(), progress)
    step = data_step(client, asset, size)
    registered = RegisteredData(asset.address, asset.kind, dict(asset.tags), step, config.plan)
    if mltable is not None and not config.plan:
        write_text(Path(asset.path) / MLTABLE, mltable)
        log.info("Wrote %s, which says how the tables are read.", Path(asset.path) / MLTABLE)
    elif mltable is not None:
        log.info("The folder has no file %s: it would be written.", MLTABLE)
    carry_out([step], plan=config.plan)
    if config.plan:
        return registered
    if folder is not None:
        facts = {"asset": asset.address, "type": asset.kind, "tags": registered.tags}
        write_json(Path(folder) / RECORD, facts)
    log.info("%s", asset.address)
    if asset.kind == "mltable":
        log.info("As an input of type mltable, a job reads it by mltable.load(PATH).")
    else:
        log.info("Train on it: python -m pointseg.train +experiment=kitti compute=aml_gpu data.root=%s", asset.address)
    return registered


def _check(config: RegisterDataConfig) -> str:
    """The path, after the checks that need neither folder nor workspace."""
    check_choices(config)
    remedy = "Name it: path=DIR, or path=azureml://datastores/NAME/paths/FOLDER."
    if not config.path:
        raise ConfigError("no folder is given", where="path", remedy=remedy)
    if is_remote(config.path) or "://" in config.path:
        check_address(config.path)
    _asset(config, config.path, "0", {})
    return config.path


def _asset(
    config: RegisterDataConfig, path: str, version: str, about: dict[str, str], sha256: str | None = None
) -> DataAsset:
    """The asset of a path; `version` where none is given."""
    tags = {key: str(value) for key, value in (config.tags or {}).items()}
    tags = {**tags, **about, "pointseg_version": VERSION}
    name = NAMES[config.type] if config.name is None else config.name
    version = config.version or version
    return DataAsset(name, version, config.type, path, sha256, tags, config.description)


def _pointed_at(config: RegisterDataConfig, path: str) -> DataAsset:
    return _asset(config, path, version_of_address(config.type, path), {})


def _uploaded(config: RegisterDataConfig, folder: Path, progress: Progress) -> tuple[DataAsset, str, str | None]:
    """The asset of a local folder, its size in words, and the content of the file MLTable, if it is missing."""
    if not folder.is_dir():
        what = "a folder is needed, and this is a file" if folder.exists() else "there is no such folder"
        raise ConfigError(what, where=f"path={folder}", remedy="Name the folder that holds the data.")
    folder = folder.resolve()
    about, mltable = _look_at(config, folder)
    content = folder_content(folder, {} if mltable is None else {MLTABLE: mltable}, progress("reading"))
    return _asset(config, str(folder), content.version, about, content.sha256), _size(content), mltable


def _look_at(config: RegisterDataConfig, folder: Path) -> tuple[dict[str, str], str | None]:
    """What the folder holds, as tags, and the content of the file MLTable, if it is missing."""
    has_mltable = (folder / MLTABLE).is_file()
    if config.type == "mltable":
        if has_mltable:
            check_mltable(folder)
        if has_mltable and not config.check:
            return {}, None
        tables = find_tables(folder)
        return tables.tags, None if has_mltable else tables.mltable
    if not config.check:
        return {}, None
    if has_mltable:
        raise ConfigError(
            "the folder holds tables",
            where=f"path={folder}",
            remedy="Give type=mltable, or check=false to register it as it is.",
        )
    return describe_folder(folder, LabelMap.load(config.labels), tuple(config.columns)), None


def _size(content: FolderContent) -> str:
    size: float = content.bytes
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{counted(content.files, 'file')}, {size:,.0f} {unit}"
