"""The entry point of every verb: help, checks, Hydra, and errors as messages with an exit code."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pointseg.cli import checks, dispatch
from pointseg.cli.command_line import checked, new_folder
from pointseg.cli.help import help_of
from pointseg.cli.overrides import MULTIRUN_FLAGS
from pointseg.cli.search import Search, planned, search_here
from pointseg.cli.sweeps import Outcome
from pointseg.errors import PointsegError
from pointseg.ranks import ranks_of_environment
from pointseg.redact import install_log_redaction, redact_text

if TYPE_CHECKING:
    from pointseg.cli.azure_sweeps import Submitted

__all__ = ["Job", "Outcome", "run"]


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
        after: called when all runs of the command have ended well, before `at_end`.
        search: what is searched for, where the run is a trial, or the job of a whole search.
        submitted: jobs of a grid in Azure ML so far.
    """

    config: DictConfig
    folder: Path
    start_dir: Path
    sweep_dir: Path | None = None
    number: int = 0
    at_end: list[Callable[[bool], None]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)
    search: Search | None = None
    submitted: list[Submitted] = field(default_factory=list)


Task = Callable[[Job], None]


def run(verb: str, task: Task, help_text: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and end the process: 0 for success, 1 for an error that the user can mend, 2 where `prepare` or
    `predict` found bad files, 3 where a model was not promoted or is below a gate, or scans have drifted, 130 after Ctrl-C.

    Args:
        verb: its name, and that of its configuration.
        task: what it does with one `Job`.
        help_text: the worked examples that `--help` begins with.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_of(verb, help_text, arguments))
        raise SystemExit(0)
    install_log_redaction()
    at_end: list[Callable[[bool], None]] = []
    made: list[Path] = []  # the run folder, where it was chosen here
    succeeded = False
    try:
        flags, overrides = checked(verb, arguments, made)
        search = planned(verb, overrides, multirun=bool(set(flags) & set(MULTIRUN_FLAGS)))
        if search is None:
            _launch(verb, task, [*flags, *overrides], at_end)
        elif search.in_azure:
            _launch(verb, task, _as_one_run(search, made), at_end, search)
        else:
            search_here(search, lambda words, number: _launch(verb, task, words, at_end, search, number), at_end)
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
            with suppress(OSError):
                folder.parent.rmdir()  # of the day, where nothing else is in it


def _as_one_run(search: Search, made: list[Path]) -> list[str]:
    """A search as the words of a single run, whose job is the sweep job."""
    folder = search.folder
    if folder is None:
        folder = new_folder()
        made.append(folder)
    return search.words(search.space.first(), folder)


def _launch(
    verb: str,
    task: Task,
    words: Sequence[str],
    at_end: list[Callable[[bool], None]],
    search: Search | None = None,
    trial: int = 0,
) -> None:
    start_dir = Path.cwd()
    outcomes: list[Outcome] = []
    after: list[Callable[[], None]] = []
    submitted: list[Submitted] = []

    def run_job(config: DictConfig) -> None:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        sweeps = settings.mode == RunMode.MULTIRUN
        sweep_dir, number = (start_dir / settings.sweep.dir, int(settings.job.num)) if sweeps else (None, 0)
        if (within := dispatch.sweep_of_environment()) is not None:
            sweep_dir, number = within
        elif search is not None and not search.in_azure:
            sweep_dir, number = folder.parent, trial
        job = Job(config, folder, start_dir, sweep_dir, number, at_end, outcomes, after, search, submitted)
        _quiet_unless_first()
        if job.sweep_dir is not None:
            _mask_sweep_record(job.sweep_dir)
        try:
            if not dispatch.dispatched(verb, job):
                task(job)
        except PointsegError as error:
            logging.getLogger("pointseg").debug("failed", exc_info=True)
            _fail(error)

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # an error that is not the user's keeps its stack trace
    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=str(checks.config_folder()), config_name=verb)(run_job)()
    for action in after:
        action()


def _quiet_unless_first() -> None:
    """Of the processes of a job the first one speaks; the others say only what is wrong."""
    if ranks_of_environment().rank == 0:
        return
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)


def _mask_sweep_record(sweep_dir: Path) -> None:
    """Hydra writes the overrides of a sweep to multirun.yaml as they were typed; passwords do not stay in it."""
    record = sweep_dir / "multirun.yaml"
    if record.is_file():
        text = record.read_text(encoding="utf-8")
        if (masked := redact_text(text)) != text:
            record.write_text(masked, encoding="utf-8")
