"""List the models that can be chosen: their size, what the prediction of a scan costs on this machine, and their paper."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pointseg.core.errors import ConfigError, PointsegError
from pointseg.core.files import check_writable, expanded, is_folder, write_json
from pointseg.core.limits import require_at_least, require_between
from pointseg.core.processes import WorkFailed, in_fresh_process
from pointseg.core.progress import Progress, silent
from pointseg.core.targets import nearest
from pointseg.core.text import counted
from pointseg.data.features import FeatureSpec
from pointseg.engine.prediction_cost import LARGEST_SCAN, prediction_cost
from pointseg.models import from_section
from pointseg.workflows.default_sections import shipped_options
from pointseg.workflows.settings.models import ModelsConfig
from pointseg.workflows.training.parts import build_features

__all__ = ["ModelEntry", "list_models"]

log = logging.getLogger(__name__)

MIB = 1 << 20
HEADINGS = ("model", "parameters", "multiply-adds", "ms", "MiB", "paper")


@dataclass(frozen=True)
class ModelEntry:
    """A model in the list. What was not measured, or cannot be told, is None.

    Attributes:
        name: the option, as in model=NAME.
        parameters: numbers that a training fits.
        paper: of the network; "" if its class names none.
        multiply_adds: of the prediction of a scan.
        milliseconds: that it takes, the median.
        mebibytes: that it takes beyond what the process had before.
        error: why the model cannot be built or measured; "" if it can.
    """

    name: str
    parameters: int | None = None
    paper: str = ""
    multiply_adds: int | None = None
    milliseconds: float | None = None
    mebibytes: float | None = None
    error: str = ""


def list_models(
    config: ModelsConfig,
    *,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = silent,
) -> list[ModelEntry]:
    """List models. Each is measured in a process of its own; a script that calls this at its top level needs the usual
    `if __name__ == "__main__":`.

    Args:
        sections: model sections by name; None: the shipped options of the group model.
        progress: makes a callback for the measuring.

    Raises:
        ConfigError: for a value that cannot be used, a name that does not exist, or if none of the models can be listed. One
            that cannot, among others, is an entry with an error.
        OutputError: if `output` cannot be written.

    Example:
        >>> [entry.parameters for entry in list_models(ModelsConfig(names=["pointnet"], measure=False))]
        [179155]
    """
    known = shipped_options("model") if sections is None else sections
    features = build_features(config.features)
    names = _checked(config, known)
    update, entries = progress("measuring"), []
    for number, name in enumerate(names):
        update(number, len(names))
        entries.append(_entry(name, known, config, features))
    update(len(names), len(names))
    if all(entry.error for entry in entries):
        what = f"model={entries[0].name}: {entries[0].error.rstrip('.')}"
        raise ConfigError(what if len(entries) == 1 else f"none of {len(entries)} models can be listed; {what}")
    log.info("\n%s\n", _table(entries, config, features))
    if config.output:
        measured = {key: getattr(config, key) for key in ("points", "repeats")} if config.measure else {}
        about = {**measured, "features": len(features), "classes": config.classes, "threads": torch.get_num_threads()}
        write_json(expanded(config.output), {**about, "models": [asdict(entry) for entry in entries]})
        log.info("  %s", config.output)
    return entries


def _checked(config: ModelsConfig, known: Mapping[str, Any]) -> Sequence[str]:
    """The names of the models, after everything that can be checked before they are built."""
    require_between(config.points, 1, LARGEST_SCAN, "points", f"Use 1 to {LARGEST_SCAN:,}.")
    require_at_least(config.repeats, 1, "repeats")
    require_at_least(config.classes, 1, "classes")
    for name in config.names:
        if name not in known:
            remedy = f"{nearest(name, known)} There is: {', '.join(sorted(known))}.".strip()
            raise ConfigError(f"there is no model {name!r}", where="names", remedy=remedy)
    if config.output:
        path = expanded(config.output)
        if is_folder(path):
            raise ConfigError("is a folder", where=f"output={path}", remedy="Name a file, such as models.json.")
        check_writable(Path(path.parent), "output")
    return list(dict.fromkeys(config.names)) or sorted(known)


def _entry(
    name: str, known: Mapping[str, Mapping[str, Any]], config: ModelsConfig, features: FeatureSpec
) -> ModelEntry:
    """One model, measured if that is wanted."""
    entry = ModelEntry(name)
    try:
        section = dict(known[name])
        model = from_section(section, features.use, len(features), config.classes)
        entry = replace(
            entry,
            parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            paper=str(getattr(model.network_called, "paper", "")),
        )
        del model
        if not config.measure:
            return entry
        given = section, features, config.classes, config.points, config.repeats, torch.get_num_threads()
        cost = in_fresh_process(prediction_cost, *given)
    except (PointsegError, WorkFailed) as error:
        return replace(entry, error=str(error))
    except Exception as error:  # of somebody's class: the other models are listed all the same
        log.debug("model=%s", name, exc_info=True)
        return replace(entry, error=f"{type(error).__name__}: {error}")
    return replace(
        entry,
        multiply_adds=cost.multiply_adds,
        milliseconds=1000 * cost.seconds,
        mebibytes=None if cost.memory is None else cost.memory / MIB,
    )


# ---- the table ---------------------------------------------------------------------------------------------------


def _table(entries: Sequence[ModelEntry], config: ModelsConfig, features: FeatureSpec) -> str:
    rows: list[tuple[str, ...]] = [HEADINGS, *map(_row, entries)]
    if not config.measure:
        rows = [(*row[:2], row[-1]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    lines = [
        "  ".join(
            cell.ljust(width) if number in (0, last) else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    classes = f"{config.classes} class{'' if config.classes == 1 else 'es'}"
    inputs = f"{counted(len(features), 'feature')} of each point and {classes}"
    if not config.measure:
        return "\n".join([*lines, "", f"With {inputs}."])
    about = (
        f"For a synthetic scan of 64 beams and {counted(config.points, 'point')}, with {inputs}.\n"
        f"ms: the median of {counted(config.repeats, 'prediction')} on {counted(torch.get_num_threads(), 'thread')}. "
        "MiB: the most that a prediction takes beyond what the process had."
    )
    return "\n".join([*lines, "", about])


def _row(entry: ModelEntry) -> tuple[str, ...]:
    def said(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    giga = None if entry.multiply_adds is None else entry.multiply_adds / 1e9
    return (
        entry.name,
        said(entry.parameters, "{:,}"),
        said(giga, "{:,.2f} G"),
        said(entry.milliseconds, "{:,.0f}"),
        said(entry.mebibytes, "{:,.0f}"),
        entry.error or entry.paper or "-",
    )
