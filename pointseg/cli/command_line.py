"""The words of a command line as Hydra's: checked, and with the folder in which the run works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from pointseg.cli import checks, dispatch, saved
from pointseg.cli.overrides import MULTIRUN_FLAGS, quote, quote_all, split_arguments
from pointseg.errors import ConfigError, OutputError
from pointseg.files import check_writable

__all__ = ["checked", "composed", "new_folder"]


def checked(verb: str, arguments: Sequence[str], made: list[Path]) -> tuple[list[str], list[str]]:
    """Flags and overrides for Hydra, after all that can be refused without work is refused.

    Args:
        made: takes the run folder, where it is chosen here.

    Raises:
        ConfigError, CheckpointError, OutputError: naming the word that is wrong.
    """
    flags, words = split_arguments(arguments)
    multirun = bool(set(flags) & set(MULTIRUN_FLAGS))
    given = _given(words)
    if verb == "serve":
        _refuse_for_service(given, multirun)
    if verb == "pipeline" and multirun:
        raise ConfigError(
            "a pipeline is not swept over", where="-m", remedy="Sweep a verb: python -m pointseg.train -m."
        )
    config, overrides = composed(verb, words, multirun=multirun)
    dispatch.refuse_verb(verb, config)
    if given.get("resume") and given.get("rerun"):
        raise ConfigError("both resume and rerun are given", where="the command line", remedy="Give one of them.")
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        if key in given and "${" not in given[key]:
            check_writable(Path(given[key].strip("'\"")).expanduser(), key)
    overrides += [f"hydra.job.name={verb}"]
    if given.get("resume") == saved.AUTO:
        return flags, _begun_or_new(given, overrides, multirun)
    if not multirun and "hydra.run.dir" not in given and verb != "serve":  # which makes no files
        folder = _resumed_folder(given)
        if folder is None:
            folder = new_folder()
            made.append(folder)
        overrides += [f"hydra.run.dir={quote(str(folder), literal=False)}"]
    elif given.get("resume"):
        raise ConfigError(
            "a resumed run keeps its folder", where="resume", remedy="Leave out hydra.run.dir and -m, or use rerun="
        )
    return flags, overrides


def _given(words: Sequence[str]) -> dict[str, str]:
    return {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}


def composed(verb: str, words: Sequence[str], *, multirun: bool = False) -> tuple[DictConfig, list[str]]:
    """The configuration of a verb with the words of a command line, all checked, and those words for Hydra.

    Raises:
        ConfigError: naming the word that is wrong.
    """
    given, overrides = _given(words), quote_all(words, multirun=multirun)
    if verb in ("evaluate", "export", "register_model", "report") and "data" not in given:
        overrides = _data_of_checkpoint(given.get("checkpoint") or given.get("run")) + overrides
    return checks.compose_checked(verb, overrides, multirun=multirun)


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


def _data_of_checkpoint(checkpoint: str | None) -> list[str]:
    config = saved.run_config_of(checkpoint)
    choice = saved.data_choice(saved.load_config(config)) if config else None
    return [saved.data_word(choice)] if choice else []


def _begun_or_new(given: dict[str, str], overrides: list[str], multirun: bool) -> list[str]:
    """What `resume=auto` means this time: it stays where a run has begun in hydra.run.dir."""
    if multirun or "hydra.run.dir" not in given:
        raise ConfigError(
            "there is no folder in which a run may have begun",
            where="resume=auto",
            remedy="Name it by hydra.run.dir=DIR, without -m.",
        )
    from pointseg.training.run_folder import RunFolder

    if RunFolder(given["hydra.run.dir"].strip("'\"")).begun:
        return overrides
    return [*overrides, "resume=null"]


def _resumed_folder(given: dict[str, str]) -> Path | None:
    if not given.get("resume") or given["resume"] == "null":
        return None
    from pointseg.training.run_folder import RunFolder

    return RunFolder.existing(given["resume"].strip("'\""), "resume", resumable=True).path


def new_folder() -> Path:
    """outputs/DATE/TIME, with a number where several runs start in the same second; made by its first run."""
    base = Path("outputs") / time.strftime("%Y-%m-%d")
    name, count = time.strftime("%H-%M-%S"), 1
    while True:
        folder = base / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir(parents=True)
            return folder.resolve()
        except FileExistsError:
            count += 1
        except OSError as error:
            raise OutputError(
                f"the output folder cannot be made ({error.strerror})",
                where=folder.resolve(),
                remedy="Name another with hydra.run.dir=DIR.",
            ) from error
