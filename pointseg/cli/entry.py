"""The entry point of every verb: help, checks, Hydra, and errors as messages with an exit code."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pointseg.cli import checks, saved
from pointseg.cli.overrides import MULTIRUN_FLAGS, quote, quote_all, split_arguments
from pointseg.errors import ConfigError, OutputError, PointsegError
from pointseg.files import check_writable
from pointseg.redact import install_log_redaction, redact_text

__all__ = ["Job", "Outcome", "run"]


class Outcome(NamedTuple):
    """One run of a sweep: its overrides, mIoU and folder."""

    overrides: list[str]
    miou: float
    folder: Path


@dataclass
class Job:
    """One run of a verb: what it was told and where it works.

    Attributes:
        config: composed and checked; for `resume=` and `rerun=` the saved one with the overrides.
        folder: the run folder.
        start_dir: where the command was started.
        sweep_dir: the folder of the sweep that this run belongs to, if any.
        number: of the run within the sweep.
        at_end: called with success or failure when the whole command ends.
        outcomes: of the runs of a sweep so far, for its last words.
    """

    config: DictConfig
    folder: Path
    start_dir: Path
    sweep_dir: Path | None = None
    number: int = 0
    at_end: list[Callable[[bool], None]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


Task = Callable[[Job], None]


def run(verb: str, task: Task, help_text: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and end the process: 0 for success, 1 for an error that the user can mend, 2 where `prepare` found bad
    files, 130 after Ctrl-C.

    Args:
        verb: its name, and that of its configuration.
        task: what it does with one `Job`.
        help_text: the worked examples that `--help` begins with.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(_help(verb, help_text, arguments))
        raise SystemExit(0)
    install_log_redaction()
    at_end: list[Callable[[bool], None]] = []
    made: list[Path] = []  # the run folder, where it was chosen here
    succeeded = False
    try:
        flags, overrides = _checked(verb, arguments, made)
        sys.argv = [sys.argv[0], *flags, *overrides]
        _launch(verb, task, at_end)
        succeeded = True
    except PointsegError as error:
        _fail(error)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        for action in at_end:
            action(succeeded)
        if not succeeded:
            _remove_if_empty(made)
    raise SystemExit(0)


def _fail(error: PointsegError) -> NoReturn:
    code = getattr(error, "exit_code", 1)  # 2: bad files were found; 130: stopped, which is no error
    print(redact_text(str(error) if code == 130 else f"error: {error}"), file=sys.stderr, flush=True)
    raise SystemExit(code)


def _remove_if_empty(folders: Sequence[Path]) -> None:
    """A run that was refused leaves no folder behind, unless there is more in it than its log."""
    for folder in folders:
        if folder.is_dir() and all(path.suffix == ".log" or path.is_dir() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)


def _checked(verb: str, arguments: Sequence[str], made: list[Path]) -> tuple[list[str], list[str]]:
    """Flags and overrides for Hydra, after all that can be refused without work is refused."""
    flags, words = split_arguments(arguments)
    multirun = bool(set(flags) & set(MULTIRUN_FLAGS))
    overrides = quote_all(words, multirun=multirun)
    given = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}
    if verb in ("evaluate", "export") and "data" not in given:
        overrides = _data_of_checkpoint(given.get("checkpoint")) + overrides
    _, overrides = checks.compose_checked(verb, overrides, multirun=multirun)
    if given.get("resume") and given.get("rerun"):
        raise ConfigError("both resume and rerun are given", where="the command line", remedy="Give one of them.")
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        if key in given and "${" not in given[key]:
            check_writable(Path(given[key].strip("'\"")).expanduser(), key)
    overrides += [f"hydra.job.name={verb}"]
    if not multirun and "hydra.run.dir" not in given:
        folder = _resumed_folder(given)
        if folder is None:
            folder = _new_folder()
            made.append(folder)
        overrides += [f"hydra.run.dir={quote(str(folder), literal=False)}"]
    elif given.get("resume"):
        raise ConfigError(
            "a resumed run keeps its folder", where="resume", remedy="Leave out hydra.run.dir and -m, or use rerun="
        )
    return flags, overrides


def _data_of_checkpoint(checkpoint: str | None) -> list[str]:
    config = saved.run_config_of(checkpoint)
    choice = saved.data_choice(saved.load_config(config)) if config else None
    return [f"data={choice}"] if choice else []


def _resumed_folder(given: dict[str, str]) -> Path | None:
    if not given.get("resume") or given["resume"] == "null":
        return None
    from pointseg.training.run_folder import RunFolder

    return RunFolder.existing(given["resume"].strip("'\""), "resume", resumable=True).path


def _new_folder() -> Path:
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


def _launch(verb: str, task: Task, at_end: list[Callable[[bool], None]]) -> None:
    start_dir = Path.cwd()
    outcomes: list[Outcome] = []

    def run_job(config: DictConfig) -> None:
        settings = HydraConfig.get()
        sweeps = settings.mode == RunMode.MULTIRUN
        job = Job(
            config=config,
            folder=Path(settings.runtime.output_dir),
            start_dir=start_dir,
            sweep_dir=(start_dir / settings.sweep.dir) if sweeps else None,
            number=int(settings.job.num) if sweeps else 0,
            at_end=at_end,
            outcomes=outcomes,
        )
        if job.sweep_dir is not None:
            _mask_sweep_record(job.sweep_dir)
        try:
            task(job)
        except PointsegError as error:
            logging.getLogger("pointseg").debug("failed", exc_info=True)
            _fail(error)

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # an error that is not the user's keeps its stack trace
    hydra.main(version_base="1.3", config_path=str(checks.config_folder()), config_name=verb)(run_job)()


def _mask_sweep_record(sweep_dir: Path) -> None:
    """Hydra writes the overrides of a sweep to multirun.yaml as they were typed; passwords do not stay in it."""
    record = sweep_dir / "multirun.yaml"
    if record.is_file():
        text = record.read_text(encoding="utf-8")
        if (masked := redact_text(text)) != text:
            record.write_text(masked, encoding="utf-8")


def _help(verb: str, help_text: str, arguments: Sequence[str]) -> str:
    config = (checks.config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    shown = config.split("\nhydra:")[0].split("\n", 1)[1].rstrip()
    used = {name: options for name, options in checks.groups().items() if f"- {name}:" in config}
    if verb == "train":
        used["+experiment"] = checks.groups()["experiment"]
    lines = [help_text.strip(), "", "Configuration groups (GROUP=OPTION):"]
    lines += [f"  {name:<12} {' | '.join(options)}" for name, options in used.items()]
    lines += [
        "",
        f"Keys (KEY=VALUE), from {checks.config_folder() / verb}.yaml; -m sweeps over comma-separated values:",
    ]
    lines += [f"  {line}".rstrip() for line in shown.splitlines()]
    for name in used:
        chosen = [word.partition("=")[2] for word in arguments if word.startswith(f"{name}=")]
        option = checks.config_folder() / name / f"{chosen[-1] if chosen else _default_option(config, name)}.yaml"
        if option.is_file():
            lines += [
                "",
                f"{name}={option.stem}:",
                *(f"  {line}".rstrip() for line in option.read_text("utf-8").splitlines()),
            ]
    return "\n".join(lines)


def _default_option(config: str, group: str) -> str:
    line = next((line for line in config.splitlines() if f"- {group}:" in line), ":")
    return line.partition(":")[2].partition("#")[0].strip().strip('"')
