"""A run as a job in Azure ML: what it reads and writes becomes inputs and outputs, its words name those."""

from __future__ import annotations

import logging
import re
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pointseg.azure import jobs
from pointseg.azure.assets import settled
from pointseg.azure.workspace import Workspace, check_auth, connect, find_workspace
from pointseg.cli.azure_sweeps import as_member, fetch_best, keep_submitted
from pointseg.cli.cancelling import offered_to_cancel
from pointseg.cli.dispatch import module_of
from pointseg.cli.job_extras import extras_of
from pointseg.cli.job_inputs import with_inputs_told
from pointseg.cli.job_places import fetch_results, keys_read, results_of, with_data_along, with_places
from pointseg.cli.saved import AUTO
from pointseg.cli.values import plain
from pointseg.compute.azure_sweep import check_for_azure, names_of, searched_words
from pointseg.compute.azureml import AzureCompute, write_job
from pointseg.compute.spec import JobSpec, Place
from pointseg.errors import ConfigError, JobFailed, PointsegError
from pointseg.files import remove_folder

if TYPE_CHECKING:
    from pointseg.cli.entry import Job

__all__ = ["azure_compute", "azure_spec", "run_in_azure", "workspace_of"]

log = logging.getLogger(__name__)

RUNS = "pointseg/runs"  # folder of the datastore
# Of the compute section, and not of AzureCompute.
OWN = ("name", "run", "datastore", "nodes", "processes", "data_mode", "dry_run", "sweep", "wait")


def azure_compute(config: DictConfig) -> AzureCompute:
    """The `compute` section as settings of Azure ML.

    Raises:
        ConfigError: for a value that Azure ML would not take.
    """
    values = {key: value for key, value in plain(config.compute).items() if key not in OWN}
    return AzureCompute(**values)


def run_name(job: Job) -> str:
    """The name of a training, after which its folder in the datastore is called: the same name goes on with it.

    Raises:
        ConfigError: for one that cannot be a folder's, or a datastore's name that cannot be one.
    """
    compute = job.config.compute
    for key, value in (("run", compute.run), ("datastore", compute.datastore)):
        if not (value is None and key == "run") and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", str(value)):
            remedy = "Letters, digits, - _ and ., 100 at most."
            raise ConfigError(f"{value!r} is no name", where=f"compute.{key}", remedy=remedy)
    if compute.run is None:
        return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return str(compute.run) if job.sweep_dir is None else f"{compute.run}-{job.number}"


def azure_spec(verb: str, job: Job, run: str | None = None) -> JobSpec:
    """The run as a job: the overrides as they were given, with places in place of paths.

    A training looks first whether it has begun in its folder: one whose machine was taken away begins again as a command
    on another machine, and goes on.

    Args:
        run: the name of the training, see `run_name`; without one its folder is called after the job.

    Raises:
        ConfigError: for a pattern of files, which only this machine knows, or a run of this machine to go on with.
    """
    config = job.config
    if config.get("resume") not in (None, AUTO):
        raise ConfigError(
            "a job goes on in its own folder, and not in one of this machine",
            where=f"resume={config.resume}",
            remedy="Name the run of an earlier job by compute.run=NAME, without resume=.",
        )
    config, within = with_data_along(verb, config)
    keys = keys_read(verb)
    words, inputs = with_places(config, HydraConfig.get().overrides.task, config.compute.data_mode, keys)
    words |= {key: f"{words[key]}/{rest}" for key, rest in within.items()}
    # azure.* says where to from here: where the job runs, with compute=local, there is no such section
    words = {key: word for key, word in words.items() if key.split(".")[0] != "azure"}
    if job.search is not None:
        words |= searched_words(job.search.space)
    outputs = {"run": Place("")}
    if verb == "train":
        words["resume"] = f"resume={AUTO}"
        if run is not None:  # the / at the end: without it NAME-10 is fetched with NAME-1
            outputs["run"] = Place(f"azureml://datastores/{config.compute.datastore}/paths/{RUNS}/{run}/")
    words["hydra.run.dir"] = "hydra.run.dir=${{outputs.run}}"
    for output, result in results_of(verb, config, job.folder).items():
        outputs[output] = Place("")
        words[result.key] = result.word(output)
    spec = JobSpec(
        module_of(verb),
        (*words.values(), "compute=local"),
        inputs,
        outputs,
        nodes=config.compute.nodes,
        processes=config.compute.processes,
        searched=tuple(names_of(job.search.space).values()) if job.search else (),
        extras=extras_of(verb, config, config.compute.environment),
    )
    return with_inputs_told(spec, keys)


def run_in_azure(verb: str, job: Job) -> None:
    """Write the job; unless `compute.dry_run` is set, submit it; with `compute.wait`, stay and fetch what it wrote.

    Raises:
        ConfigError: for whatever Azure ML would not take.
        AzureError: if it cannot be reached, or refuses.
        JobFailed: if the job was waited for and did not end well.
    """
    compute = as_member(azure_compute(job.config), job)
    search = (job.search.space, job.search.settings) if job.search else None
    if search is not None:
        check_for_azure(*search, compute.seconds)
    run = run_name(job) if verb == "train" and search is None else None  # each trial has a folder after its own job
    spec = azure_spec(verb, job, run)
    client = None if job.config.compute.dry_run else connect(workspace_of(job), job.config.azure.auth)
    spec = with_inputs_told(spec, keys_read(verb), partial(settled, client)) if client else spec
    remove_folder(job.folder / "job")  # of an earlier try
    path = write_job(spec, compute, job.folder / "job", search)
    if client is None:
        log.info("%s", path.read_text(encoding="utf-8"))
        log.info("Not submitted. To submit it: az ml job create -f %s", path)
        return
    name = jobs.submit(client, path).name
    if run is not None:
        log.info("Run %s: the same command with compute.run=%s goes on with it.", run, run)
    results = results_of(verb, job.config, job.folder)
    if job.sweep_dir is not None:
        keep_submitted(job, client, name, results)
        return
    if not job.config.compute.wait:
        log.info("It goes on without this command. What it writes are its outputs: %s.", ", ".join(spec.outputs))
        return
    try:
        with offered_to_cancel(client, name):
            jobs.follow(client, name)
    except JobFailed:
        try:  # so it ends after files that cannot be used, and the others are done
            fetch_results(client, name, results)
        except PointsegError as error:
            log.warning("Nothing is fetched: %s", error)
        raise
    if job.search is not None:
        fetch_best(job, client, name)
        return
    jobs.fetch(client, name, "run", job.folder)
    log.info("Fetched into %s", job.folder)
    fetch_results(client, name, results)


def workspace_of(job: Job) -> Workspace:
    """The workspace that the configuration names, or the environment, or a file.

    Raises:
        ConfigError: if none is named.
    """
    azure = plain(job.config.azure)
    check_auth(azure["auth"])
    given = {"subscription": azure["subscription"], "group": azure["group"], "name": azure["workspace"]}
    words = {
        key: None if value is None else str(value) for key, value in given.items()
    }  # a name may look like a number
    return find_workspace(job.start_dir, words)
