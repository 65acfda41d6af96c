"""The words of a command line, checked: what Hydra is told, what it begins with, and the folder in which the run works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pointseg.cli import override_checks
from pointseg.cli.configuration_file import AUTO, content_of_run, earlier_run, store
from pointseg.cli.hydra_options import PLAIN, HydraOptions, parse_arguments
from pointseg.cli.overrides import quote, quote_all
from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable, new_run_folder
from pointseg.jobs.context import SECTION
from pointseg.workflows.training.renamed_keys import renamed_word

__all__ = ["Command", "checked", "composed"]

WITHOUT_FOLDER = ("models", "serve")  # verbs that make no files of their own


@dataclass(frozen=True)
class Command:
    """What a command line asks for, after all that can be refused without work is refused.

    Attributes:
        options: what it says to Hydra itself.
        overrides: for Hydra.
        config: composed once; of a sweep with each key's first value.
        config_name: what Hydra begins with.
        sweep_dir: the folder of a grid; None where there is none.
    """

    options: HydraOptions
    overrides: list[str]
    config: DictConfig
    config_name: str
    sweep_dir: Path | None = None


def checked(verb: str, arguments: Sequence[str], made: list[Path]) -> Command:
    """Look through the words of a command line.

    Args:
        made: takes the run folder, where it is chosen here.

    Raises:
        ConfigError, CheckpointError, OutputError: naming the word that is wrong.
    """
    options, words = parse_arguments(arguments)
    multirun, given = options.multirun, _given(words)
    if options.asks:  # Hydra answers, and says itself what is wrong
        plain = [
            f"+{word}" if word.startswith("experiment=") else word for word in quote_all(verb, words, multirun=False)
        ]
        return Command(options, plain, OmegaConf.create({}), options.config_name or verb)
    if verb == "serve":
        _refuse_for_service(given, multirun)
    if verb == "models":
        _refuse_for_models(given, multirun)
    if verb == "pipeline" and multirun:
        raise ConfigError(
            "a pipeline is not swept over", where="-m", remedy="Sweep a verb: python -m pointseg.train -m."
        )
    if given.get("resume") and given.get("rerun"):
        raise ConfigError("both resume and rerun are given", where="the command line", remedy="Give one of them.")
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        if key in given and "${" not in given[key]:
            check_writable(Path(given[key].strip("'\"")).expanduser(), key)
    words = _begun_or_new(words, given, multirun) if given.get("resume") == AUTO else words
    config, overrides, name = _composed(verb, words, multirun=multirun, options=options)
    overrides += [f"hydra.job.name={verb}"]
    if verb not in WITHOUT_FOLDER and not multirun and not _has_folder(config, given):
        folder = _resumed_folder(given)
        if folder is None:
            folder = new_run_folder()
            made.append(folder)
        overrides += [f"hydra.run.dir={quote(str(folder), literal=False)}"]
    elif given.get("resume") not in (None, "null", AUTO):
        raise ConfigError(
            "a resumed run keeps its folder", where="resume", remedy="Leave out hydra.run.dir and -m, or use rerun="
        )
    sweep_dir = None
    if multirun:
        sweep_dir = _sweep_folder(given)
        if "hydra.sweep.dir" not in given:
            overrides += [f"hydra.sweep.dir={quote(str(sweep_dir), literal=False)}"]
    return Command(options, overrides, config, name, sweep_dir)


def _sweep_folder(given: dict[str, str]) -> Path | None:
    """Where the runs of a grid lie; None where only Hydra can tell."""
    text = given.get("hydra.sweep.dir", "").strip("'\"")
    if "${" in text:
        return None
    return Path(text or time.strftime("multirun/%Y-%m-%d/%H-%M-%S")).expanduser()


def composed(verb: str, words: Sequence[str], *, multirun: bool = False) -> tuple[DictConfig, list[str]]:
    """The configuration of a verb with the words of a command line, all checked, and those words for Hydra.

    Raises:
        ConfigError: naming the word that is wrong.
    """
    return _composed(verb, words, multirun=multirun, options=PLAIN)[:2]


def _composed(
    verb: str, words: Sequence[str], *, multirun: bool, options: HydraOptions
) -> tuple[DictConfig, list[str], str]:
    """And the name of what Hydra begins with: the verb's own configuration, or that of an earlier run."""
    words = [renamed_word(word) for word in words]
    given, overrides = _given(words), quote_all(verb, words, multirun=multirun)
    name = options.config_name or verb
    begun = earlier_run(given)
    if given.get("resume") == AUTO and options.config_name is not None:
        begun = None  # the file that is begun with, such as that of a job, says all that is to be done
    if begun is not None:
        key, path = begun
        again = given.get("resume") == AUTO
        content, overrides = content_of_run(verb, path, overrides, key, options, again=again)
        name = store(verb, content)
        options = replace(options, config_name=name)
    config, overrides = override_checks.compose_checked(verb, overrides, multirun=multirun, options=options)
    return config, overrides, name


def _given(words: Sequence[str]) -> dict[str, str]:
    return {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}


def _refuse_for_service(given: dict[str, str], multirun: bool) -> None:
    """A service runs here, and once."""
    if given.get("compute", "local") != "local":
        raise ConfigError(
            "a service runs on the machine that starts it",
            where=f"compute={given['compute']}",
            remedy="Leave compute out. Services on Azure are made by scripts/deploy.py target=managed or target=aci.",
        )
    if multirun:
        raise ConfigError("a service is not swept over", where="-m", remedy="Start each with a port of its own.")


def _refuse_for_models(given: dict[str, str], multirun: bool) -> None:
    """Models are measured here, and once."""
    if given.get("compute", "local") != "local":
        raise ConfigError(
            "models are measured on the machine that lists them",
            where=f"compute={given['compute']}",
            remedy="Leave compute out.",
        )
    if multirun:
        raise ConfigError("a list of models is not swept over", where="-m", remedy="Name the models: names=[a,b].")


def _begun_or_new(words: list[str], given: dict[str, str], multirun: bool) -> list[str]:
    """What `resume=auto` means this time: it stays where a run has begun in hydra.run.dir."""
    if multirun or "hydra.run.dir" not in given:
        raise ConfigError(
            "there is no folder in which a run may have begun",
            where="resume=auto",
            remedy="Name it by hydra.run.dir=DIR, without -m.",
        )
    from pointseg.engine.training.run_folder import RunFolder

    if RunFolder(given["hydra.run.dir"].strip("'\"")).begun:
        return words
    given["resume"] = "null"
    return [*(word for word in words if word.lstrip("+").partition("=")[0] != "resume"), "resume=null"]


def _has_folder(config: DictConfig, given: dict[str, str]) -> bool:
    """Whether the run's folder is said: on the command line, or in the file that a job has brought along."""
    return "hydra.run.dir" in given or SECTION in config


def _resumed_folder(given: dict[str, str]) -> Path | None:
    if not given.get("resume") or given["resume"] == "null":
        return None
    from pointseg.engine.training.run_folder import RunFolder

    return RunFolder.existing(given["resume"].strip("'\""), "resume", resumable=True).path
