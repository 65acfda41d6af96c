"""Jobs of a workspace: submitted, followed, fetched, cancelled."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.core.errors import JobFailed, OutputError
from pointseg.core.files import check_writable
from pointseg.core.optional_packages import needed
from pointseg.jobs.spec import Result

__all__ = ["best_trial", "cancel", "fetch", "fetch_results", "follow", "submit"]

log = logging.getLogger(__name__)

ENDED_WELL = "Completed"
BEST = "best_child_run_id"  # the property in which Azure keeps the best trial of a sweep job


def submit(client: Any, job_file: Path, **settings: Any) -> Any:
    """Submit the job that a file describes, with its code and environment.

    Args:
        client: of a workspace.
        job_file: as `compute.azureml.write_job` writes it.
        settings: fields of the job to set, such as name.

    Raises:
        ConfigError, AzureError: if Azure ML refuses it or cannot be reached; nothing runs then.

    Example:
        >>> submit(client, Path("job/job.yaml")).name
        'kind_box_1jvs4g2lf4'
    """
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    with plain_errors("submitting the job"):
        job = sdk.load_job(str(job_file))
        for key, value in settings.items():
            setattr(job, key, value)
        submitted = client.jobs.create_or_update(job)
    log.info("Job %s: %s", submitted.name, submitted.studio_url)
    return submitted


def follow(client: Any, name: str) -> None:
    """Stay until a job ends, with its words on the console.

    Raises:
        JobFailed: if it did not end well.
        AzureError: if Azure ML cannot be reached any more; the job goes on.
        KeyboardInterrupt: at Ctrl-C; the job goes on.
    """
    sdk = needed("azure.ai.ml.exceptions", "azure", "Azure ML")
    with plain_errors(f"following the job {name}, which goes on"):
        try:
            client.jobs.stream(name)
        except sdk.JobException as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # the SDK tells Ctrl-C as it tells a job that failed
                raise KeyboardInterrupt from error
            log.debug("the job failed", exc_info=error)
        job = client.jobs.get(name)
    status = getattr(job.status, "value", job.status)
    if status != ENDED_WELL:
        raise JobFailed(f"the job ended as {status}", where=name, remedy=f"Its logs: {job.studio_url}")


def fetch(client: Any, name: str, output: str, folder: Path) -> None:
    """Bring what a job wrote to one of its outputs into a folder, in the place of what has the same name there.

    Raises:
        AzureError: if it cannot be read.
        JobFailed: if there is nothing.
        OutputError: if it cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetched-") as temporary:
        with plain_errors("fetching what the job wrote"):
            client.jobs.download(name, download_path=temporary, output_name=output)
        written = Path(temporary) / "named-outputs" / output
        if not written.is_dir():
            raise JobFailed(f"the job has written nothing to its output {output}", where=name)
        try:
            shutil.copytree(written, folder, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise OutputError(f"what the job wrote cannot be kept ({error})", where=folder) from error


def fetch_results(client: Any, name: str, results: Mapping[str, Result]) -> None:
    """Bring what a job was asked to write to where it was asked for.

    Args:
        results: by the name of the job's output.

    Raises:
        AzureError, JobFailed: if it cannot be read, or there is nothing.
        OutputError: if it cannot be written.
    """
    for output, result in results.items():
        check_writable(result.folder, result.key)
        fetch(client, name, output, result.folder)
        log.info("Fetched %s: %s", result.key, result.folder / result.file)


def best_trial(client: Any, name: str) -> str:
    """The name of the job of a sweep job's best trial.

    Raises:
        JobFailed: if there is none.
        AzureError: if Azure ML cannot be asked.

    Example:
        >>> best_trial(client, "kind_box_1jvs4g2lf4")
        'kind_box_1jvs4g2lf4_3'
    """
    with plain_errors("asking for the best trial"):
        job = client.jobs.get(name)
    best = (job.properties or {}).get(BEST)
    if not best:
        raise JobFailed("no trial of the sweep has come to a score", where=name, remedy=f"Their logs: {job.studio_url}")
    return str(best)


def cancel(client: Any, name: str) -> None:
    """End a job.

    Raises:
        AzureError: if Azure ML cannot be asked.
    """
    with plain_errors("cancelling the job"):
        client.jobs.begin_cancel(name).result()
