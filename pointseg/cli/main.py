"""The entry point of every verb: help, checks, its runs by Hydra, here or elsewhere, and errors with an exit code."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pointseg.cli import override_checks
from pointseg.cli.command_line import Command, checked
from pointseg.cli.configuration_file import resumed_run
from pointseg.cli.console import log_to_console, says_yes
from pointseg.cli.group_options import OptionsOfGroup
from pointseg.cli.help import help_of
from pointseg.cli.hydra_options import completing_modules, config_folder
from pointseg.cli.pipeline_words import run_pipeline
from pointseg.cli.schema import register_schema
from pointseg.cli.searches import planned
from pointseg.cli.verbs import Job, plain, processes_share, run_verb, typed_settings, values_told
from pointseg.core.errors import ConfigError, PointsegError, ProcessFailed
from pointseg.core.optional_packages import missing_extra
from pointseg.core.ranks import ranks_of_environment
from pointseg.core.redaction import install_log_redaction, redact_text
from pointseg.jobs.backend import Backend, RemoteBackend, backend_of, has_own_files
from pointseg.jobs.context import SECTION, JobContext, SweepMember

if TYPE_CHECKING:
    from pointseg.workflows.sweeps.runs import Submissions

__all__ = ["run"]

log = logging.getLogger(__name__)

OWN_WAY = ("pipeline",)  # verbs that bring their steps to where `compute` says themselves


def run(verb: str, help_text: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and end the process: 0 for success, 1 for an error that the user can mend, 2 where `prepare` or
    `predict` found bad files, 3 where a model was not promoted or is below a gate, or scans have drifted, 130 after Ctrl-C.

    Args:
        verb: its name, and that of its configuration.
        help_text: the worked examples that `--help` begins with.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(help_of(verb, help_text, arguments))
        raise SystemExit(0)
    install_log_redaction()
    made: list[Path] = []  # the run folder, where it was chosen here
    succeeded = False
    try:
        command = checked(verb, arguments, made)
        if command.options.asks:
            with completing_modules():
                _hand_to_hydra(lambda config: None, command)
            raise SystemExit(0)
        _refuse_place(verb, command.config)
        search = planned(verb, command)
        if search is None:
            _Launch(verb, command)()
        else:
            log_to_console()
            search.run()
        succeeded = True
    except PointsegError as error:
        _fail(error)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        if not succeeded:
            _remove_if_empty(made)
    raise SystemExit(0)


def _hand_to_hydra(run_job: Callable[[DictConfig], None], command: Command) -> None:
    """Let Hydra compose and run."""
    register_schema()
    if not command.options.asks:  # an error that is not the user's keeps its stack trace
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # the last name counts: a job's own words name its config.yaml, a job that goes on begins with that of its run
    sys.argv = [sys.argv[0], *command.options.flags, "--config-name", command.config_name, *command.overrides]
    folder = str(config_folder())
    hydra.main(version_base="1.3", config_path=folder, config_name=command.config_name)(run_job)()


def _fail(error: PointsegError) -> NoReturn:
    if isinstance(error, ProcessFailed):  # which has said why
        raise SystemExit(error.exit_code)
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


@dataclass
class _Launch:
    """Runs what a command asks for by Hydra: one run, or those of a grid, which are compared at the end."""

    verb: str
    command: Command

    def __call__(self) -> None:
        start_dir = Path.cwd()
        submissions = self._submissions()

        def run_job(config: DictConfig) -> None:
            config, context = _without_context(config)
            settings = HydraConfig.get()
            words = tuple(settings.overrides.task)
            folder = Path(settings.runtime.output_dir)
            member = context.sweep
            if member is None and settings.mode == RunMode.MULTIRUN:
                member = SweepMember(start_dir / settings.sweep.dir, int(settings.job.num))
            config = override_checks.without_left_keys(config, words)
            self._run(Job(config, folder, words, member, context, self._options), submissions)

        if submissions is None:
            _hand_to_hydra(run_job, self.command)
        else:
            self._run_grid(run_job, submissions)

    def _options(self, group: str) -> OptionsOfGroup:
        """The options of a group, as this command line makes them."""
        return OptionsOfGroup(group, self.command.options, self.command.overrides)

    def _submissions(self) -> Submissions | None:
        """Of the runs of a grid; None for a single run."""
        if not self.command.options.multirun:
            return None
        from pointseg.workflows.sweeps.runs import Submissions  # on use: it takes torch along

        return Submissions()

    def _run_grid(self, run_job: Callable[[DictConfig], None], submissions: Submissions) -> None:
        """All runs, by whatever launcher and sweeper Hydra has; then the best of them."""
        from pointseg.workflows.settings.shared import TrackingConfig  # on use: they take torch along
        from pointseg.workflows.sweeps.runs import finish, outcomes_of
        from pointseg.workflows.sweeps.sweep import conclude_grid

        folder, succeeded, values = self.command.sweep_dir, False, plain(self.command.config)
        store, compute = TrackingConfig(**values.get("tracking", {})), values.get("compute", {})
        compared = self.verb == "train" and folder is not None and not has_own_files(compute)
        try:
            _hand_to_hydra(run_job, self.command)
            if folder is not None and (compared or submissions.jobs):
                conclude_grid(folder, submissions, store, compute.get("sweep", {}).get("register"))
            succeeded = True
        finally:
            submissions.say()
            if compared and folder is not None and (outcomes := outcomes_of(folder)):
                finish(folder, outcomes, store, succeeded=succeeded)

    def _run(self, job: Job, submissions: Submissions | None) -> None:
        _quiet_unless_first()
        if job.sweep is not None:
            _mask_sweep_record(job.sweep.folder)
        try:
            if not _ran_elsewhere(self.verb, job, submissions):
                _run_here(self.verb, job)
        except PointsegError as error:
            logging.getLogger("pointseg").debug("failed", exc_info=True)
            _fail(error)
        except ModuleNotFoundError as error:
            refusal = missing_extra(error)
            if refusal is None:
                raise
            _fail(refusal)


# ---- here or elsewhere -------------------------------------------------------------------------------------------


def _refuse_place(verb: str, config: DictConfig) -> None:
    """Refuse a place where a verb cannot run.

    Raises:
        ConfigError: naming the place.
    """
    compute: Any = plain(config.compute) if config.get("compute") else {}
    several = compute.get("nodes", 1) * compute.get("processes", 1) > 1 and "_target_" in compute
    if several and verb not in OWN_WAY and not processes_share(verb):
        raise ConfigError(
            f"{verb} is the work of one process",
            where=f"compute={compute.get('name')}",
            remedy="Leave compute out, or set compute.nodes=1 compute.processes=1.",
        )


def _ran_elsewhere(verb: str, job: Job, submissions: Submissions | None) -> bool:
    """Run a job where `compute` says, if that is not in this process; False if it is.

    Args:
        submissions: of the runs of one command; None where it makes a single run.

    Raises:
        JobFailed: if it fails without having said why.
        SystemExit: with its exit code, if it has said why.
    """
    if job.config.get("compute") is None or job.context.compute or verb in OWN_WAY:
        return False
    values = plain(job.config)
    backend = backend_of(values["compute"], azure=values.get("azure"), ask=says_yes)
    if backend is None:
        return False
    if ranks_of_environment().world > 1:
        raise ConfigError(
            "this process is one of a job already",
            where=f"compute={values['compute']['name']}",
            remedy="Set compute=local, or start one process.",
        )
    from pointseg.workflows.job_specs.spec import job_of, run_as_job  # on use: they take torch along
    from pointseg.workflows.sweeps.runs import keep_outcome, miou_of

    remote = isinstance(backend, RemoteBackend)
    if not remote:
        _say_processes(backend, job)
    spec = job_of(verb, typed_settings(verb, job.config), job.folder, backend, values["compute"], job.sweep)
    if isinstance(backend, RemoteBackend) and submissions is not None:
        submissions.submit(spec, values_told(job.words), job.folder, backend)
        return True
    if code := run_as_job(spec, job.folder, backend):
        raise SystemExit(code)
    if job.sweep is not None and verb == "train" and (miou := miou_of(job.folder)) is not None:
        keep_outcome(job.sweep, values_told(job.words), miou, job.folder)
    return True


def _say_processes(backend: Backend, job: Job) -> None:
    """A run that is resumed or repeated has as many processes as it had, unless the command line gives another number."""
    earlier = resumed_run(job.config, job.folder) or job.config.get("rerun")
    if earlier and not any(word.startswith("compute") for word in job.words):
        log.info("With %d processes, as the run was; compute=local takes one.", backend.nodes * backend.processes)


def _run_here(verb: str, job: Job) -> None:
    """Do one run in this process."""
    if verb == "pipeline":
        run_pipeline(job)
    else:
        run_verb(verb, job)


def _without_context(config: DictConfig) -> tuple[DictConfig, JobContext]:
    """What is configured, and the job that this process belongs to."""
    config = config.copy()
    with open_dict(config):
        section = config.pop(SECTION, None)
    values: Any = None if section is None else OmegaConf.to_container(section, resolve=True)
    return config, JobContext.from_dict(values)


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
