"""Places in the words of a job: what it reads becomes its inputs, what is asked of it its outputs, which come back here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from pointseg.azure import jobs
from pointseg.azure.assets import kind_of_address
from pointseg.cli import saved
from pointseg.cli.overrides import parse
from pointseg.compute.spec import Place, is_remote
from pointseg.errors import ConfigError
from pointseg.files import check_writable

__all__ = ["READ", "Result", "fetch_results", "keys_read", "results_of", "with_data_along", "with_places"]

log = logging.getLogger(__name__)

# Keys whose value is something to read, wherever it lies.
READ = (
    *("against", "checkpoint", "data.labels", "data.root", "drift", "input", "labels"),
    *("manifest", "rerun", "run", "scores"),
)
LABEL_MAPS = ("data.labels", "labels")
ENDINGS = (".yaml", ".yml")  # of a label map of one's own; the shipped ones have names
SCORED = ("evaluate", "export", "report")  # verbs that take the data of the model's run


# ---- what is read --------------------------------------------------------------------------------------------------


def keys_read(verb: str) -> tuple[str, ...]:
    """The keys of a verb that may name something to read."""
    return (*READ, "submission") if verb == "evaluate" else READ  # predict writes one


def with_places(
    config: DictConfig, overrides: Sequence[str], mode: Any = "mount", keys: Sequence[str] = READ
) -> tuple[dict[str, str], dict[str, Place]]:
    """Overrides by key, those that name something to read with a place's name instead; and the places.

    Args:
        keys: that may name something to read.

    Raises:
        ConfigError: for what is not there, or a pattern of files.
    """
    words = {o.key_or_group: o.input_line or "" for o in parse(overrides)}
    words = {key: word for key, word in words.items() if key.split(".")[0] != "compute"}
    inputs = {}
    for key in keys:
        value = OmegaConf.select(config, key)
        if isinstance(value, str) and (place := _place(key, value, mode)):
            name = key.replace(".", "_")
            inputs[name] = place
            words[key] = f"{key}=${{{{inputs.{name}}}}}"
    return words, inputs


def _place(key: str, value: str, mode: Any) -> Place | None:
    """Where a value points; None for one that is no place, such as a shipped label map or a registered model."""
    if value.startswith("models:/") or (key in LABEL_MAPS and not value.endswith(ENDINGS)):
        return None
    if is_remote(value):
        return Place(value, kind_of_address(key, value), mode)
    if any(sign in value for sign in "*?["):
        raise ConfigError(
            "a pattern is looked up on this machine, and the job runs on another",
            where=f"{key}={value}",
            remedy="Name the folder.",
        )
    path = Path(value).expanduser()
    if not path.exists():
        raise ConfigError("there is no such file or folder", where=f"{key}={value}", remedy="Check the path.")
    return Place(str(path), "uri_file" if path.is_file() else "uri_folder", mode)


def with_data_along(verb: str, config: DictConfig) -> tuple[DictConfig, dict[str, str]]:
    """The configuration with the data of the run that is scored, which its own configuration names by paths of this
    machine; as it is where data are named, or the run has none.

    Returns:
        The configuration, and of a key whose file lies in the run folder, which goes along as a whole since it says how
        its data are split, the rest of the path.

    Raises:
        ConfigError: if they are not here either.
    """
    key = next((key for key in ("run", "checkpoint") if config.get(key)), None)
    if verb not in SCORED or key is None or config.get("drift") or OmegaConf.select(config, "data.root"):
        return config, {}
    given = Path(str(config[key])).expanduser().absolute()
    path = None if is_remote(str(config[key])) else saved.run_config_of(str(given))
    if path is None:
        return config, {}
    from pointseg.cli.evaluating import data_of_run  # on use: it takes torch along
    from pointseg.training.run_folder import RunFolder

    data = data_of_run(config, key).data
    assets = RunFolder(path.parent).describe().get("inputs", {})  # of a run that was made by a job
    only_compared = verb == "export" and config.format != "onnx-int8"
    config = config.copy()
    for name in ("root", "labels"):
        value = data.get(name)
        if value is None or (name == "labels" and not str(value).endswith(ENDINGS)):
            continue
        place = str(assets.get(f"data.{name}", value))
        if only_compared and not is_remote(place):
            continue  # folders of this machine are not uploaded for that
        if not is_remote(place) and not Path(place).expanduser().exists():
            raise ConfigError(
                "what the run was made of is not on this machine",
                where=f"{key}={config[key]}: data.{name}={place}",
                remedy=f"Name a copy, data.{name}=PATH, or an address in Azure.",
            )
        OmegaConf.update(config, f"data.{name}", place, force_add=True)
        log.info("What the run was made of goes along: data.%s=%s", name, place)
    if given == path.parent:
        return config, {}
    config[key] = str(path.parent)
    return config, {key: given.relative_to(path.parent).as_posix()}


# ---- what is written -----------------------------------------------------------------------------------------------


class Result(NamedTuple):
    """Something that a key names to be written.

    Attributes:
        key: of the configuration.
        folder: of this machine, that receives all that the job writes there.
        file: in it; "" where the key names the folder.
    """

    key: str
    folder: Path
    file: str = ""

    def word(self, output: str) -> str:
        """What the job is told instead, whose output of that name it is."""
        return f"{self.key}=${{{{outputs.{output}}}}}" + (f"/{self.file}" if self.file else "")


def results_of(verb: str, config: DictConfig, folder: Path) -> dict[str, Result]:
    """What a run is asked to write beside its own folder, by the name of the job's output.

    Args:
        folder: of the run here.
    """
    found: dict[str, Result] = {}
    if verb == "predict" and config.submission:
        archive = Path(str(config.submission)).expanduser()
        found["archive"] = Result("submission", archive.parent, archive.name)
    output = OmegaConf.select(config, "output")
    if output:
        path = Path(str(output)).expanduser()
        found["result"] = Result("output", path.parent, path.name) if verb == "report" else Result("output", path)
    elif verb == "report" and config.run and not config.drift:
        from pointseg.cli.reporting import page_name  # on use: it takes torch along

        # beside the run, which the job has as an input that it cannot write into
        beside = folder if is_remote(str(config.run)) else Path(str(config.run)).expanduser()
        found["result"] = Result("output", beside, page_name(config))
    return found


def fetch_results(client: Any, name: str, results: Mapping[str, Result]) -> None:
    """Bring what a job was asked to write to where it was asked for.

    Raises:
        AzureError, JobFailed: if it cannot be read, or there is nothing.
        OutputError: if it cannot be written.
    """
    for output, result in results.items():
        check_writable(result.folder, result.key)
        jobs.fetch(client, name, output, result.folder)
        log.info("Fetched %s: %s", result.key, result.folder / result.file)
