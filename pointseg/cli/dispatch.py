"""Where a run takes place: here, or as a job that `compute` describes."""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pointseg.cli.overrides import parse, quote
from pointseg.cli.saved import AUTO, load_config, resumed_run
from pointseg.cli.sweeps import end_with_table, keep_outcome
from pointseg.compute import JobSpec, run_locally
from pointseg.errors import ConfigError, JobFailed
from pointseg.ranks import ranks_of_environment

if TYPE_CHECKING:
    from pointseg.cli.entry import Job
    from pointseg.training.run_folder import RunFolder

__all__ = ["compute_of_environment", "dispatched", "module_of", "refuse_verb", "sweep_of_environment"]

log = logging.getLogger(__name__)

BAD_FILES = 2  # the exit code of a process that has done its part but for files that cannot be used

SHARES = ("train", "predict")  # verbs whose processes share the work
SCRIPTS = ("deploy", "register_model")  # which are steps of a pipeline as well
OWN_WAY = ("pipeline",)  # verbs that bring their steps to where `compute` says themselves
SWEEP_VARIABLE = "POINTSEG_SWEEP"  # tells a job's processes the sweep that it belongs to: folder and number, as JSON
COMPUTE_VARIABLE = "POINTSEG_COMPUTE"  # and the `compute` section that made them, as JSON


def module_of(verb: str) -> str:
    """What `python -m` runs, for a verb as for a script: scripts do not go along in a wheel."""
    return f"pointseg.cli.{verb}" if verb in SCRIPTS else f"pointseg.{verb}"


def refuse_verb(verb: str, config: DictConfig) -> None:
    """Refuse a place where a verb cannot run.

    Raises:
        ConfigError: naming the place.
    """
    if "compute" in config and config.compute.name == "local_ddp" and verb not in SHARES + OWN_WAY:
        raise ConfigError(
            f"{verb} is the work of one process",
            where="compute=local_ddp",
            remedy="Leave it out, or set compute=local.",
        )


def dispatched(verb: str, job: Job) -> bool:
    """Run a job where `compute` says, if that is not in this process; False if it is.

    Raises:
        JobFailed: if it fails without having said why.
        SystemExit: with its exit code, if it has said why.
    """
    compute = job.config.get("compute")
    if compute is None or COMPUTE_VARIABLE in os.environ or verb in OWN_WAY:
        return False
    compute = _as_before(compute, job)
    if compute.name == "local":
        return False
    if ranks_of_environment().world > 1:
        raise ConfigError(
            "this process is one of a job already",
            where=f"compute={compute.name}",
            remedy="Set compute=local, or start one process.",
        )
    if compute.name.startswith("aml_"):
        from pointseg.cli.azure_job import run_in_azure

        run_in_azure(verb, job)
        return True
    spec = JobSpec(
        module_of(verb),
        tuple(_arguments(HydraConfig.get().overrides.task, job)),
        nodes=compute.nodes,
        processes=compute.processes,
        variables={**_sweep_of(job), COMPUTE_VARIABLE: json.dumps(OmegaConf.to_container(compute, resolve=True))},
    )
    try:
        code = run_locally(spec, job.folder / "ranks", threads=compute.threads, partial=BAD_FILES)
    except JobFailed as error:
        raise JobFailed(error.what, where=error.where, remedy=_remedy(verb, job)) from error
    if code:
        raise SystemExit(code)
    if job.sweep_dir is not None and verb == "train":
        keep_outcome(job, json.loads(_run(job.folder).metrics.read_text(encoding="utf-8"))["miou"])
        end_with_table(job)
    return True


def _as_before(compute: DictConfig, job: Job) -> DictConfig:
    """The `compute` of a run that is resumed or repeated, unless the command line gives another one."""
    earlier = resumed_run(job.config, job.folder) or job.config.get("rerun")
    given = [o for o in parse(HydraConfig.get().overrides.task) if o.key_or_group.split(".")[0] == "compute"]
    if not earlier or given:
        return compute
    config = _run(Path(earlier)).config
    saved = load_config(config).get("compute") if config.is_file() else None  # a run that is not there is told later
    if saved is None or saved.get("name") != "local_ddp":
        return compute
    log.info("With %d processes, as the run was; compute=local takes one.", saved.nodes * saved.processes)
    return saved


def compute_of_environment() -> dict[str, Any] | None:
    """The `compute` section of the job that this process is one of, if any."""
    given = os.environ.get(COMPUTE_VARIABLE)
    return None if given is None else dict(json.loads(given))


def _arguments(overrides: Sequence[str], job: Job) -> list[str]:
    """The words of this run, told to run in place and in the same folder."""
    kept = [o.input_line or "" for o in parse(overrides) if o.key_or_group.split(".")[0] != "compute"]
    folder = (
        []
        if job.config.get("resume") not in (None, AUTO)
        else [f"hydra.run.dir={quote(str(job.folder), literal=False)}"]
    )
    return [*kept, "compute=local", *folder]


def _sweep_of(job: Job) -> dict[str, str]:
    if job.sweep_dir is None:
        return {}
    return {SWEEP_VARIABLE: json.dumps([str(job.sweep_dir), job.number])}


def sweep_of_environment() -> tuple[Path, int] | None:
    """The sweep that this process's job belongs to, if any: its folder, and the number of the run."""
    given = os.environ.get(SWEEP_VARIABLE)
    if given is None:
        return None
    folder, number = json.loads(given)
    return Path(folder), int(number)


def _remedy(verb: str, job: Job) -> str:
    if verb != "train" or not _run(job.folder).last.is_file():
        return ""
    return f"Go on with: python -m pointseg.train {shlex.quote(f'resume={job.folder}')}"


def _run(folder: Path) -> RunFolder:
    from pointseg.training.run_folder import RunFolder  # on use: it takes torch along, and --help needs neither

    return RunFolder(folder)
