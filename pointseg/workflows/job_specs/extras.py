"""Which extras of this package a job needs: by what it does, and by the files that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pointseg.core.addresses import is_remote
from pointseg.data.formats import KINDS
from pointseg.engine.bundle import holds_export
from pointseg.jobs.environment import requirements_of

__all__ = ["extras_of"]

CLOUDS = {"predict": "input", "report": "drift"}  # verb -> its key that names point clouds of any kind


def extras_of(verb: str, config: Any, environment: str) -> tuple[str, ...]:
    """The extras without which a job would refuse its work, in the order of their names.

    Args:
        config: the dataclass of the verb's task.
        environment: `compute.environment`. One of the workspace is trusted to read whatever an address leads to, as long as
            nothing shows what that is.

    Example:
        >>> extras_of("export", config, "environments/conda.yml")
        ('export',)
    """
    found = set()
    if verb == "deploy":
        found.add("azure")
    registers_graph = verb == "register_model" and config.format == "triton_model"
    if verb == "export" or registers_graph or _is_exported(getattr(config, "checkpoint", None)):
        found.add("export")
    clouds = getattr(config, CLOUDS[verb]) if verb in CLOUDS else None
    if clouds and _has_other_kinds(str(clouds), unknown=not environment.startswith("azureml:")):
        found.add("formats")
    return tuple(sorted(found))


def _is_exported(checkpoint: str | None) -> bool:
    if not checkpoint or is_remote(checkpoint):
        return str(checkpoint).endswith(".onnx")
    return holds_export(checkpoint)


def _has_other_kinds(place: str, *, unknown: bool) -> bool:
    """Whether there are files that the package itself cannot read.

    Args:
        unknown: the answer where an address does not tell.
    """
    own = requirements_of("pointseg")
    others = {suffix for suffix, kind in KINDS.items() if not own.issuperset(kind.packages)}
    path = Path(place).expanduser()
    if not is_remote(place) and path.is_dir():
        return any(file.suffix.lower() in others for file in path.rglob("*"))
    suffix = path.suffix.lower()
    return suffix in others if suffix in KINDS else unknown and is_remote(place)
