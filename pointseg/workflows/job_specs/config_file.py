"""The config.yaml that a job takes along: plain values that Hydra begins with, and the job that its process belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pointseg.core.package import shipped_folder
from pointseg.jobs.context import SECTION, JobContext

__all__ = ["in_place", "job_config"]


def job_config(verb: str, content: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Plain values as a configuration that Hydra begins with: how it logs and works is taken over from the verb's own.

    Args:
        folder: of the run; None: as Hydra does.
    """
    shipped = _shipped(f"{verb}.yaml")
    defaults = [entry for entry in shipped["defaults"] if isinstance(entry, dict) and "hydra" in str(entry)]
    hydra = {**shipped["hydra"], **({} if folder is None else {"run": {"dir": _literal(str(folder))}})}
    values = {key: _literal(value) for key, value in content.items() if key != "hydra"}
    return {"defaults": [*defaults, "_self_"], **values, "hydra": hydra}


def in_place(values: Mapping[str, Any], context: JobContext) -> dict[str, Any]:
    """What a job's process is configured with: the same, to run where it is started, and the job that it belongs to."""
    # azure.* says where to from here: where a job runs, with compute=local, there is no such section
    kept = {key: value for key, value in values.items() if key not in ("azure", "compute", SECTION)}
    return {**kept, "compute": _shipped("compute/local.yaml"), SECTION: context.to_dict()}


def _shipped(file: str) -> dict[str, Any]:
    return dict(yaml.safe_load((shipped_folder("configs") / file).read_text(encoding="utf-8")))


def _literal(value: Any) -> Any:
    """Plain values of which nothing is interpolated when they are read again."""
    if isinstance(value, Mapping):
        return {str(key): _literal(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(one) for one in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value
