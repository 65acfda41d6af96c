"""Azure ML as a place where jobs run: what `compute=aml_*` names."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from pointseg.azure import jobs, pipelines
from pointseg.azure.assets import settled
from pointseg.azure.cancelling import offered_to_cancel
from pointseg.azure.cluster_check import check_cluster, check_size
from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.job_file import write_job
from pointseg.azure.pipeline_files import outer_inputs, place_of, write_pipeline
from pointseg.azure.publishing import steps as publishing
from pointseg.azure.publishing.files import check_cron, check_publication_name, write_publication
from pointseg.azure.sign_in import check_auth
from pointseg.azure.steps import carry_out
from pointseg.azure.sweep_file import check_for_azure, names_of, searched_words
from pointseg.azure.workspace import connect, find_workspace
from pointseg.core.errors import ConfigError, JobFailed, PointsegError
from pointseg.core.files import remove_folder
from pointseg.core.progress import Ask, nobody
from pointseg.jobs.backend import FoundTrial
from pointseg.jobs.context import SweepMember
from pointseg.jobs.pipeline import PipelineJob, PipelineSpec, Publishing, Wire, output_folder
from pointseg.jobs.search_space import SearchSpace, SweepSettings
from pointseg.jobs.spec import JobSpec, Place

__all__ = ["AzureML"]

log = logging.getLogger(__name__)

RUNS = "pointseg/runs"  # folder of the datastore
PIPELINE = "pipeline"  # folder of the files of a pipeline
NAMED = {"subscription": "subscription", "group": "group", "workspace": "name"}


class AzureML(AzureCompute):
    """Azure ML. Jobs are submitted with their code and environment; their outputs come back where somebody waits.

    Args:
        nodes, processes: machines, and processes on each.
        run: name of a training: its folder in the datastore; the same name goes on with it.
        datastore: where trainings keep their folders.
        data_mode: "mount" or "download": how a job gets at its inputs.
        dry_run: write what would be submitted, and submit nothing.
        wait: stay until a job ends, and fetch what it wrote.
        azure: subscription, group and workspace, where they are not found by environment or file; and `auth`.
        ask: whether a job is cancelled after Ctrl-C.
        compute: see `AzureCompute`.

    Raises:
        ConfigError: for a value that Azure ML would not take.

    Example:
        >>> AzureML(cluster="gpu-cluster", wait=True).run(JobSpec("pointseg.train", config=config), Path("run"))
        0
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        processes: int = 1,
        run: str | None = None,
        datastore: str = "workspaceblobstore",
        data_mode: Literal["mount", "download", "upload"] = "mount",
        dry_run: bool = False,
        wait: bool = False,
        azure: Mapping[str, Any] | None = None,
        ask: Ask = nobody,
        **compute: Any,
    ) -> None:
        super().__init__(**compute)
        self.nodes, self.processes = nodes, processes
        if self.vm_size:
            check_size(self.vm_size, "compute.vm_size", processes, gpu=self.gpu)
        self.run_name, self.datastore, self.data_mode = run, datastore, data_mode
        self.dry_run, self.wait, self.azure, self.ask = dry_run, wait, azure or {}, ask

    @property
    def machines(self) -> AzureCompute:
        """On what and as what its jobs run."""
        return AzureCompute(**{one.name: getattr(self, one.name) for one in fields(AzureCompute)})

    @cached_property
    def client(self) -> Any:
        """Of the workspace; None in a dry run, which asks nobody."""
        if self.dry_run:
            return None
        auth = str(self.azure.get("auth", "default"))
        check_auth(auth)
        given = {name: self.azure.get(key) for key, name in NAMED.items()}
        return connect(find_workspace(Path.cwd(), given), auth)

    # ---- a job -----------------------------------------------------------------------------------------------

    def run(self, job: JobSpec, folder: Path) -> int:
        """Submit a job; with `wait`, stay and fetch what it wrote."""
        name = self.submit(job, folder)
        if name is not None and self.wait:
            self.collect(name, job, folder)
        elif name is not None:
            log.info("It goes on without this command. What it writes are its outputs: %s.", ", ".join(job.outputs))
        return 0

    def submit(self, job: JobSpec, folder: Path) -> str | None:
        """Write a job and submit it, see `RemoteBackend`."""
        name = self._submitted(job, _as_member(self.machines, job.sweep), folder)
        if name is not None and job.outputs["run"].path:
            run = job.outputs["run"].path.rstrip("/").rsplit("/", 1)[-1]
            log.info("Run %s: the same command with compute.run=%s goes on with it.", run, run)
        return name

    def _submitted(
        self, job: JobSpec, on: AzureCompute, folder: Path, search: tuple[SearchSpace, SweepSettings] | None = None
    ) -> str | None:
        if self.client is not None:
            check_cluster(self.client, self.machines, job.processes)
            job = job.with_assets(partial(settled, self.client))
        remove_folder(folder / "job")  # of an earlier try
        return self._sent(write_job(job, on, folder / "job", search))

    def _sent(self, path: Path) -> str | None:
        if self.client is None:
            log.info("%s", path.read_text(encoding="utf-8"))
            log.info("Not submitted. To submit it: az ml job create -f %s", path)
            return None
        return str(jobs.submit(self.client, path).name)

    def collect(self, name: str, job: JobSpec, folder: Path, waiting: tuple[str, ...] = ()) -> None:
        """Stay until a job ends, and fetch what it wrote; of one that failed what it has written of its results.

        Raises:
            JobFailed: if it did not end well.
            AzureError: if Azure ML cannot be reached any more.
        """
        try:
            with offered_to_cancel(self.client, name, *waiting, ask=self.ask):
                jobs.follow(self.client, name)
        except JobFailed:
            try:  # so it ends after files that cannot be used, and the others are done
                jobs.fetch_results(self.client, name, job.results)
            except PointsegError as error:
                log.warning("Nothing is fetched: %s", error)
            raise
        jobs.fetch(self.client, name, "run", folder)
        log.info("Fetched into %s", folder)
        jobs.fetch_results(self.client, name, job.results)

    def training_output(self, number: int | None) -> Place:
        """The run folder in the datastore.

        Raises:
            ConfigError: for a name that cannot be a folder's, or a datastore's name that cannot be one.
        """
        for key, value in (("run", self.run_name), ("datastore", self.datastore)):
            if not (value is None and key == "run") and not re.fullmatch(
                r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", str(value)
            ):
                remedy = "Letters, digits, - _ and ., 100 at most."
                raise ConfigError(f"{value!r} is no name", where=f"compute.{key}", remedy=remedy)
        if self.run_name is None:
            run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        else:
            run = self.run_name if number is None else f"{self.run_name}-{number}"
        # the / at the end: without it NAME-10 is fetched with NAME-1
        return Place(f"azureml://datastores/{self.datastore}/paths/{RUNS}/{run}/")

    # ---- a search --------------------------------------------------------------------------------------------

    def check_search(self, space: SearchSpace, settings: SweepSettings) -> None:
        """Refuse what Azure would refuse later, or take and not do.

        Raises:
            ConfigError: naming the key.
        """
        if self.run_name is not None:
            raise ConfigError(
                "the trials of a search have folders of their own",
                where=f"compute.run={self.run_name}",
                remedy="Leave it out.",
            )
        check_for_azure(space, settings, self.seconds)

    def search(self, job: JobSpec, space: SearchSpace, settings: SweepSettings, folder: Path) -> FoundTrial | None:
        """One sweep job, whose trials are this job; with `wait` the best trial's run folder comes here.

        Raises:
            JobFailed: if no trial has come to a score.
            AzureError: if Azure ML cannot be reached.
        """
        trial = job.told(searched_words(space), searched=tuple(names_of(space).values()))
        name = self._submitted(trial, self.machines, folder, (space, settings))
        if name is None:
            return None
        if not self.wait:
            log.info("It goes on without this command. What it writes are its outputs: %s.", ", ".join(job.outputs))
            return None
        with offered_to_cancel(self.client, name, ask=self.ask):
            jobs.follow(self.client, name)
        best = jobs.best_trial(self.client, name)
        jobs.fetch(self.client, best, "run", folder)
        log.info("Fetched into %s", folder)
        return FoundTrial(name, best)

    # ---- a pipeline ------------------------------------------------------------------------------------------

    def run_pipeline(
        self, pipeline: PipelineSpec, folder: Path, *, light_cluster: str | None = None, force_rerun: bool = False
    ) -> PipelineJob | None:
        """One job of all steps; with `wait` the outputs of those that ended well come here, each into its folder."""
        self._check_clusters(pipeline, light_cluster)
        pipeline = self._with_sources(self._with_kinds(pipeline))
        name = self._sent(self._written(pipeline, folder, light_cluster, force_rerun))
        if name is None:
            return None
        if not self.wait:
            log.info("It goes on without this command. compute.wait=true stays and fetches what it writes.")
            return PipelineJob(name)
        return self._followed(name, pipeline, folder)

    def publish(
        self,
        pipeline: PipelineSpec,
        folder: Path,
        wanted: Publishing,
        *,
        light_cluster: str | None = None,
        force_rerun: bool = False,
    ) -> None:
        """Keep a pipeline behind a batch endpoint, and with a schedule let it run by itself."""
        check_publication_name(wanted.name)
        if wanted.schedule is not None:
            check_cron(wanted.schedule)
            publishing.check_time_zone(wanted.time_zone)
        self._check_clusters(pipeline, light_cluster)
        path = self._written(self._with_kinds(pipeline, now=False), folder, light_cluster, force_rerun)
        made = write_publication(
            path.parent,
            wanted.name,
            version=wanted.version,
            schedule=wanted.schedule,
            time_zone=wanted.time_zone,
        )
        if self.client is None:
            log.info("%s", made.file("component").read_text(encoding="utf-8"))
            log.info("Not published. It is all in %s", path.parent)
            return
        carry_out(publishing.steps_to_publish(self.client, made), plan=False)
        log.info("Published %s, version %s. Run it: invoke=%s", made.name, made.version, made.name)

    def invoke(self, pipeline: PipelineSpec, folder: Path, name: str) -> PipelineJob | None:
        """Run what is published on what this pipeline reads."""
        check_publication_name(name, "invoke")
        self._refuse_dry_run()
        inputs = {
            key: float(place.path) if place.kind == "number" else (place.kind, place.path)
            for key, place in outer_inputs(self._with_kinds(pipeline, now=False)).items()
        }
        job = publishing.start_published(self.client, name, inputs)
        log.info("Job %s of %s", job, name)
        return self._followed(job, pipeline, folder) if self.wait else PipelineJob(job)

    def switch_schedule(self, name: str, action: Literal["enable", "disable", "remove"]) -> None:
        """Let a schedule run or rest, or delete it."""
        check_publication_name(name, action)
        self._refuse_dry_run()
        publishing.switch_schedule(self.client, name, action)
        log.info("Schedule %s: %sd", name, action)

    def published(self) -> list[str]:
        """What is published and scheduled, one line each."""
        self._refuse_dry_run()
        return publishing.published(self.client)

    def _refuse_dry_run(self) -> None:
        if self.dry_run:
            raise ConfigError("there is nothing to write", where="compute.dry_run", remedy="Leave it out.")

    def _with_kinds(self, pipeline: PipelineSpec, *, now: bool = True) -> PipelineSpec:
        """The pipeline with assets of the workspace as what they are there, see `settled`; a dry run asks nobody."""
        if self.client is None:
            return pipeline
        asked = partial(settled, self.client, now=now)
        return PipelineSpec(tuple(replace(step, spec=step.spec.with_assets(asked)) for step in pipeline.steps))

    @staticmethod
    def _with_sources(pipeline: PipelineSpec) -> PipelineSpec:
        """Steps that read what prepare makes of an asset are told that asset, so that what is recorded stays true."""
        sources = {s.name: s.spec.inputs["input"].path for s in pipeline.steps if "input" in s.spec.inputs}
        steps = []
        for step in pipeline.steps:
            wire = step.wires.get("data_root")
            source = sources.get(wire.step, "") if wire else ""
            told = step.spec.with_sources({"data.root": source}) if source.startswith("azureml:") else step.spec
            steps.append(replace(step, spec=told))
        return PipelineSpec(tuple(steps))

    def _check_clusters(self, pipeline: PipelineSpec, light_cluster: str | None) -> None:
        """Refuse a step that its cluster cannot run; a dry run asks nobody."""
        wanted: dict[str | None, tuple[AzureCompute, int]] = {}  # each cluster is asked for once
        for step in pipeline.steps if self.client is not None else ():
            on = place_of(step, self.machines, light_cluster)
            most = max(step.spec.processes, wanted.get(on.cluster, (on, 1))[1])
            wanted[on.cluster] = on, most
        for on, most in wanted.values():
            check_cluster(self.client, on, most)

    def _written(self, pipeline: PipelineSpec, folder: Path, light_cluster: str | None, force_rerun: bool) -> Path:
        """The files of the pipeline, in place of those of an earlier try in the same folder."""
        remove_folder(folder / PIPELINE)
        return write_pipeline(
            pipeline, self.machines, folder / PIPELINE, light_cluster=light_cluster, force_rerun=force_rerun
        )

    def _followed(self, name: str, pipeline: PipelineSpec, folder: Path) -> PipelineJob:
        failed: JobFailed | None = None
        try:
            with offered_to_cancel(self.client, name, ask=self.ask):
                pipelines.follow_pipeline(self.client, name)
        except JobFailed as error:
            failed = error
        places = {
            step.name: {output: output_folder(folder, Wire(step.name, output)) for output in step.spec.outputs}
            for step in pipeline.steps
        }
        try:
            fetched = pipelines.fetch_steps(self.client, name, places)
        except PointsegError as error:
            if failed is None:
                raise
            log.warning("%s", error)
            return PipelineJob(name, failed=failed)
        log.info("Fetched into %s: %s", folder, ", ".join(fetched) or "nothing")
        return PipelineJob(name, tuple(fetched), failed)


def _as_member(compute: AzureCompute, sweep: SweepMember | None) -> AzureCompute:
    """How one job of a grid is submitted: named and tagged so that the grid's jobs are found together."""
    if sweep is None:
        return compute
    inside = sweep.folder.is_relative_to(Path.cwd())
    name = str(sweep.folder.relative_to(Path.cwd())) if inside else sweep.folder.name
    tags = {**compute.tags, "pointseg.sweep": name[-256:], "pointseg.sweep_number": str(sweep.number)}
    shown = f"{compute.display_name or sweep.folder.name}-{sweep.number}"
    return replace(compute, display_name=shown, tags=tags)
