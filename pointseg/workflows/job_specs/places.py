"""What a job reads becomes its inputs, what is asked of it its outputs, which come back here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg.azure.assets import kind_of_address
from pointseg.core.addresses import is_registered_model, is_remote, is_shipped_model
from pointseg.core.config import READS, keys_of
from pointseg.core.errors import ConfigError
from pointseg.engine.training.run_folder import RunFolder
from pointseg.jobs.spec import Place, Result
from pointseg.workflows.evaluation.report import page_name
from pointseg.workflows.run_config import run_config_of
from pointseg.workflows.run_data import data_of_run
from pointseg.workflows.settings.shared import DATA_READS

__all__ = ["data_along", "input_name", "places_read", "results_of", "value_of"]

log = logging.getLogger(__name__)

MODELS = ("against", "checkpoint", "init", "run")  # keys that name a model
ENDINGS = (".yaml", ".yml")  # of a label map of one's own; the shipped ones have names
SCORED = ("evaluate", "export", "report")  # verbs that take the data of the model's run


def value_of(values: Mapping[str, Any], key: str) -> Any:
    """The value of a key with dots; None where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def input_name(key: str) -> str:
    """What the input that a key reads is called."""
    return key.replace(".", "_")


# ---- what is read --------------------------------------------------------------------------------------------------


def places_read(kind: type, values: Mapping[str, Any], mode: Any = "mount") -> tuple[dict[str, str], dict[str, Place]]:
    """Words that name places, by the keys whose values are to be read there; and the places.

    Args:
        kind: the dataclass that declares the keys.
        values: of the configuration.

    Raises:
        ConfigError: for what is not there, or a pattern of files.
    """
    declared = {key.path: key for key in keys_of(kind)}
    keys = [path for path, key in declared.items() if key.nature == READS]
    keys += [f"data.{name}" for name in sorted(DATA_READS)] if "data" in declared else []
    words, inputs = {}, {}
    for key in keys:
        value = value_of(values, key)
        usual = key in declared and value == declared[key].default
        if isinstance(value, str) and not usual and (place := _place(key, value, mode)):
            name = input_name(key)
            inputs[name] = place
            words[key] = f"{key}=${{{{inputs.{name}}}}}"
    return words, inputs


def _place(key: str, value: str, mode: Any) -> Place | None:
    """Where a value points; None for one that is no place, such as a shipped label map or model, or a registered model."""
    in_package = is_shipped_model(value) if key in MODELS else key.endswith("labels") and not value.endswith(ENDINGS)
    if in_package or is_registered_model(value):
        return None
    if is_remote(value):
        return Place(value, kind_of_address(key, value), mode, key)
    if any(sign in value for sign in "*?["):
        raise ConfigError(
            "a pattern is looked up on this machine, and the job runs on another",
            where=f"{key}={value}",
            remedy="Name the folder.",
        )
    path = Path(value).expanduser()
    if not path.exists():
        raise ConfigError("there is no such file or folder", where=f"{key}={value}", remedy="Check the path.")
    return Place(str(path), "uri_file" if path.is_file() else "uri_folder", mode, key)


def data_along(verb: str, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration with the data of the run that is scored, which its own configuration names by paths of this
    machine; as it is where data are named, or the run has none.

    Returns:
        The configuration, and of a key whose file lies in the run folder, which goes along as a whole since it says how
        its data are split, the rest of the path.

    Raises:
        ConfigError: if they are not here either.
    """
    key = next((key for key in ("run", "checkpoint") if values.get(key)), None)
    if verb not in SCORED or key is None or values.get("drift") or value_of(values, "data.root"):
        return values, {}
    given = Path(str(values[key])).expanduser().absolute()
    path = None if is_remote(str(values[key])) else run_config_of(str(given))
    if path is None:
        return values, {}
    data = data_of_run(values["data"], str(values[key]), values.get("models") or ())
    assets = RunFolder(path.parent).describe().get("inputs", {})  # of a run that was made by a job
    only_compared = verb == "export" and values["format"] not in ("onnx-int8", "half")
    named = dict(values["data"])
    for name in DATA_READS:
        value = data.get(name)
        if value is None or (name == "labels" and not str(value).endswith(ENDINGS)):
            continue
        place = str(assets.get(f"data.{name}", value))
        if only_compared and not is_remote(place):
            continue  # folders of this machine are not uploaded for that
        if not is_remote(place) and not Path(place).expanduser().exists():
            raise ConfigError(
                "what the run was made of is not on this machine",
                where=f"{key}={values[key]}: data.{name}={place}",
                remedy=f"Name a copy, data.{name}=PATH, or an address in Azure.",
            )
        named[name] = place
        log.info("What the run was made of goes along: data.%s=%s", name, place)
    values = {**values, "data": named}
    if given == path.parent:
        return values, {}
    return {**values, key: str(path.parent)}, {key: given.relative_to(path.parent).as_posix()}


# ---- what is written -----------------------------------------------------------------------------------------------


def results_of(verb: str, config: Any, folder: Path) -> dict[str, Result]:
    """What a run is asked to write beside its own folder, by the name of the job's output.

    Args:
        config: the dataclass of the verb's task.
        folder: of the run here.
    """
    found: dict[str, Result] = {}
    if verb == "predict" and config.submission:
        archive = Path(str(config.submission)).expanduser()
        found["archive"] = Result("submission", archive.parent, archive.name)
    output = getattr(config, "output", None)
    if output:
        path = Path(str(output)).expanduser()
        found["result"] = Result("output", path.parent, path.name) if verb == "report" else Result("output", path)
    elif verb == "report" and config.run and not config.drift:
        # beside the run, which the job has as an input that it cannot write into
        beside = folder if is_remote(str(config.run)) else Path(str(config.run)).expanduser()
        found["result"] = Result("output", beside, page_name(config.against))
    return found
