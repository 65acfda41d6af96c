"""`pipeline compute=aml_*`: all steps as one job of Azure ML."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg.azure import jobs, pipelines, publishing
from pointseg.azure.assets import settled
from pointseg.azure.plan import carry_out
from pointseg.azure.workspace import Workspace, connect
from pointseg.cli.azure_job import azure_compute, workspace_of
from pointseg.cli.cancelling import offered_to_cancel
from pointseg.cli.entry import Job
from pointseg.cli.job_inputs import with_inputs_told, with_told
from pointseg.cli.job_places import READ
from pointseg.cli.pipeline_record import Record
from pointseg.cli.pipeline_steps import build_pipeline
from pointseg.compute.pipeline import PipelineSpec, Wire, output_folder
from pointseg.compute.pipeline_files import outer_inputs, write_pipeline
from pointseg.compute.publication import check_cron, check_name, write_publication
from pointseg.errors import ConfigError, JobFailed, PointsegError
from pointseg.files import remove_folder

__all__ = ["pipeline_in_azure"]

log = logging.getLogger(__name__)

FOLDER = "pipeline"


def pipeline_in_azure(job: Job) -> None:
    """Write the pipeline; unless `compute.dry_run` is set, submit it; with `compute.wait`, stay and fetch what it wrote.

    Raises:
        ConfigError: for whatever Azure ML would not take.
        AzureError: if it cannot be reached, or refuses.
        JobFailed: if the job was waited for and did not end well.
    """
    config = job.config
    if _managed(job):
        return
    _refuse_lone_keys(config)
    pipeline = build_pipeline(config)
    where = None if config.compute.dry_run else workspace_of(job)
    if config.invoke is not None:
        _invoke(job, pipeline, where)
        return
    if config.publish is not None:
        _check_publication(config)
        _publish(job, pipeline, where)
        return
    client = None if where is None else connect(where, config.azure.auth)
    path = _written(job, _settled(pipeline, client))
    if client is None:
        log.info("%s", path.read_text(encoding="utf-8"))
        log.info("Not submitted. To submit it: az ml job create -f %s", path)
        return
    name = jobs.submit(client, path).name
    if not config.compute.wait:
        log.info("It goes on without this command. compute.wait=true stays and fetches what it writes.")
        return
    _wait(job, client, name, pipeline)


# ---- what a workspace keeps ----------------------------------------------------------------------------------------


def _managed(job: Job) -> bool:
    """Say or change what is scheduled, if that is asked for."""
    config = job.config
    asked = [key for key in ("enable", "disable", "remove") if config[key] is not None]
    chosen = asked + [key for key in ("publish", "invoke") if config[key] is not None] + ["list"] * bool(config.list)
    if len(chosen) > 1:
        raise ConfigError(f"{chosen[0]} and {chosen[1]} are two commands", where=chosen[1], remedy="Give one of them.")
    for key in asked:
        check_name(str(config[key]), key)
    if not asked and not config.list:
        return False
    if config.compute.dry_run:
        raise ConfigError("there is nothing to write", where="compute.dry_run", remedy="Leave it out.")
    client = connect(workspace_of(job), config.azure.auth)
    for key in asked:
        publishing.switch_schedule(client, str(config[key]), key)
        log.info("Schedule %s: %sd", config[key], key)
    if config.list:
        log.info("%s", "\n".join(publishing.published(client)) or "Nothing is published.")
    return True


def _refuse_lone_keys(config: DictConfig) -> None:
    for key in ("version", "schedule"):
        if config[key] is not None and config.publish is None:
            raise ConfigError("this is of what is published", where=key, remedy="Add publish=NAME.")


def _check_publication(config: DictConfig) -> None:
    check_name(str(config.publish))
    if config.schedule is not None:
        check_cron(str(config.schedule))
        publishing.check_time_zone(str(config.time_zone))


def _publish(job: Job, pipeline: PipelineSpec, where: Workspace | None) -> None:
    """Keep the pipeline behind a batch endpoint, and with `schedule` let it run by itself."""
    config = job.config
    client = None if where is None else connect(where, config.azure.auth)
    path = _written(job, _with_kinds(pipeline, client, now=False))
    made = write_publication(
        path.parent,
        str(config.publish),
        version=None if config.version is None else str(config.version),
        schedule=None if config.schedule is None else str(config.schedule),
        time_zone=str(config.time_zone),
    )
    if client is None:
        log.info("%s", made.file("component").read_text(encoding="utf-8"))
        log.info("Not published. It is all in %s", path.parent)
        return
    carry_out(publishing.steps_to_publish(client, made), plan=False)
    log.info("Published %s, version %s. Run it: invoke=%s", made.name, made.version, made.name)


def _invoke(job: Job, pipeline: PipelineSpec, where: Workspace | None) -> None:
    """Run what is published on what `input` and `gate` say."""
    if where is None:
        raise ConfigError("there is nothing to write", where="compute.dry_run", remedy="Leave it out.")
    check_name(str(job.config.invoke), "invoke")
    client = connect(where, job.config.azure.auth)
    inputs = {
        name: float(place.path) if place.kind == "number" else (place.kind, place.path)
        for name, place in outer_inputs(_with_kinds(pipeline, client, now=False)).items()
    }
    name = publishing.invoke(client, str(job.config.invoke), inputs)
    log.info("Job %s of %s", name, job.config.invoke)
    if job.config.compute.wait:
        _wait(job, client, name, pipeline)


# ---- one job -------------------------------------------------------------------------------------------------------


def _settled(pipeline: PipelineSpec, client: Any) -> PipelineSpec:
    """The pipeline with azureml:NAME@latest as the version that it is now, so that what is recorded stays true.

    Steps that read what prepare makes of an asset are told that asset.
    """
    steps = list(_with_kinds(pipeline, client).steps)
    sources = {step.name: step.spec.inputs["input"].path for step in steps if "input" in step.spec.inputs}
    for number, step in enumerate(steps):
        wire = step.wires.get("data_root")
        source = sources.get(wire.step, "") if wire else ""
        if source.startswith("azureml:"):
            steps[number] = replace(step, spec=with_told(step.spec, {"data.root": source}))
    return PipelineSpec(tuple(steps))


def _with_kinds(pipeline: PipelineSpec, client: Any, *, now: bool = True) -> PipelineSpec:
    """The pipeline with assets of the workspace as what they are there, see `settled`; None asks nobody."""
    if client is None:
        return pipeline
    asked = partial(settled, client, now=now)
    return PipelineSpec(tuple(replace(step, spec=with_inputs_told(step.spec, READ, asked)) for step in pipeline.steps))


def _written(job: Job, pipeline: PipelineSpec) -> Path:
    """The files of the pipeline, in place of those of an earlier try in the same folder."""
    folder = job.folder / FOLDER
    remove_folder(folder)
    config = job.config
    return write_pipeline(
        pipeline,
        azure_compute(config),
        folder,
        light_cluster=config.light_cluster,
        force_rerun=bool(config.force_rerun),
    )


def _wait(job: Job, client: Any, name: str, pipeline: PipelineSpec) -> None:
    failed: JobFailed | None = None
    try:
        with offered_to_cancel(client, name):
            pipelines.follow(client, name)
    except JobFailed as error:
        failed = error
    places = {
        step.name: {output: output_folder(job.folder, Wire(step.name, output)) for output in step.spec.outputs}
        for step in pipeline.steps
    }
    try:
        fetched = pipelines.fetch_steps(client, name, places)
    except PointsegError as error:
        if failed is None:
            raise
        log.warning("%s", error)
        raise failed from error
    record = Record(job.folder, str(job.config.compute.name))
    for step in pipeline.steps:
        if step.name in fetched:
            record.begin(step, record.look(pipeline, step).now)
            record.end(step, None, 0, job=name)
    log.info("Fetched into %s: %s", job.folder, ", ".join(fetched) or "nothing")
    if failed is not None:
        raise failed
