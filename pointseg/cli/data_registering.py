"""`scripts/register_data.py`: a folder of scans or tables as a data asset, versioned by its content."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import pointseg
from pointseg.azure.data_assets import KINDS, DataAsset, check_address, data_step, version_of_address
from pointseg.azure.folders import FolderContent, look_through
from pointseg.azure.plan import carry_out
from pointseg.azure.workspace import check_auth
from pointseg.cli.azure_client import client_for
from pointseg.cli.entry import Job
from pointseg.cli.values import plain, progress_bar
from pointseg.compute.azureml import check_tags
from pointseg.compute.spec import is_remote
from pointseg.data.folder_kind import describe_folder
from pointseg.data.mltable import check_mltable, find_tables
from pointseg.data.tabular import MLTABLE
from pointseg.errors import ConfigError
from pointseg.files import write_json, write_text
from pointseg.labels import LabelMap
from pointseg.words import counted

__all__ = ["register_data_job"]

log = logging.getLogger(__name__)

NAMES = {"uri_folder": "semantic-kitti", "mltable": "semantic-kitti-tabular"}


def register_data_job(job: Job) -> None:
    """Look at the folder and at the workspace, and register what is not there yet.

    Raises:
        ConfigError: if a key is missing or cannot be used, or the folder holds what must not go along.
        DataError: if the folder does not hold what it should.
        AzureError: if Azure cannot be reached, or refuses.
    """
    config = job.config
    path = _check(config)
    _, client = client_for(job)
    if is_remote(path):
        asset, size, mltable = _pointed_at(config, path), "", None
    else:
        asset, size, mltable = _uploaded(config, Path(path).expanduser())
    step = data_step(client, asset, size)
    if mltable is not None and not config.plan:
        write_text(Path(asset.path) / MLTABLE, mltable)
        log.info("Wrote %s: how the tables are read.", Path(asset.path) / MLTABLE)
    elif mltable is not None:
        log.info("The folder has no file %s: it would be written.", MLTABLE)
    carry_out([step], plan=config.plan)
    if config.plan:
        return
    write_json(job.folder / "data_asset.json", {"asset": asset.address, "type": asset.kind, "tags": dict(asset.tags)})
    log.info("%s", asset.address)
    if asset.kind == "mltable":
        log.info("As an input of type mltable, a job reads it by mltable.load(PATH).")
    else:
        log.info("Train on it: python -m pointseg.train +experiment=kitti compute=aml_gpu data.root=%s", asset.address)


def _check(config: DictConfig) -> str:
    """The path, after what can be refused without looking at anything."""
    check_auth(config.azure.auth)
    if not config.path:
        raise ConfigError(
            "no folder is given",
            where="path",
            remedy="Name it: path=DIR, or path=azureml://datastores/NAME/paths/FOLDER.",
        )
    path = str(config.path)
    if config.type not in KINDS:
        raise ConfigError(f"there is no type {config.type!r}", where="type", remedy=f"Use {' or '.join(KINDS)}.")
    if isinstance(config.version, float | bool):  # 12e4 is a number for YAML
        raise ConfigError(
            f"{config.version!r} is no version", where="version", remedy="Put it in quotes: \"version='12e4'\"."
        )
    if is_remote(path) or "://" in path:
        check_address(path)
    check_tags("tags", _tags(config))
    DataAsset(_name(config), _version(config, "0"), config.type, path)
    return path


def _tags(config: DictConfig) -> dict[str, str]:
    given = {} if config.tags is None else plain(config.tags)
    return {key: value if isinstance(value, str) else str(value) for key, value in given.items()}


def _name(config: DictConfig) -> str:
    return str(config.name) if config.name is not None else NAMES[config.type]


def _version(config: DictConfig, otherwise: str) -> str:
    return str(config.version) if config.version is not None else otherwise


def _asset(config: DictConfig, path: str, version: str, about: dict[str, str], sha256: str | None = None) -> DataAsset:
    tags = {**_tags(config), **about, "pointseg_version": pointseg.__version__}
    description = None if config.description is None else str(config.description)
    return DataAsset(_name(config), _version(config, version), config.type, path, sha256, tags, description)


def _pointed_at(config: DictConfig, path: str) -> DataAsset:
    return _asset(config, path, version_of_address(config.type, path), {})


def _uploaded(config: DictConfig, folder: Path) -> tuple[DataAsset, str, str | None]:
    """The asset of a folder of this machine, its size in words, and the file MLTable that it lacks."""
    if not folder.is_dir():
        what = "a folder is needed, and this is a file" if folder.exists() else "there is no such folder"
        raise ConfigError(what, where=f"path={folder}", remedy="Name the folder that holds the data.")
    folder = folder.resolve()
    about, mltable = _look_at(config, folder)
    content = look_through(folder, {} if mltable is None else {MLTABLE: mltable}, progress_bar("reading"))
    return _asset(config, str(folder), content.version, about, content.sha256), _size(content), mltable


def _look_at(config: DictConfig, folder: Path) -> tuple[dict[str, str], str | None]:
    """What the folder holds, as tags, and the file MLTable that it lacks."""
    there = (folder / MLTABLE).is_file()
    if config.type == "mltable":
        if there:
            check_mltable(folder)
        if there and not config.check:
            return {}, None
        tables = find_tables(folder)
        return tables.tags, None if there else tables.mltable
    if not config.check:
        return {}, None
    if there:
        raise ConfigError(
            "the folder holds tables",
            where=f"path={folder}",
            remedy="Give type=mltable, or check=false to take it as it is.",
        )
    return describe_folder(folder, LabelMap.load(config.labels), tuple(config.columns)), None


def _size(content: FolderContent) -> str:
    size: Any = content.bytes
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{counted(content.files, 'file')}, {size:,.0f} {unit}"
