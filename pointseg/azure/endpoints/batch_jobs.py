"""Jobs of batch endpoints: started on a folder, their results fetched."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from pointseg.azure.assets import kind_of_address, settled
from pointseg.azure.endpoints.deployment import default_deployment
from pointseg.azure.errors import get_or_none, plain_errors
from pointseg.core.errors import ConfigError, JobFailed
from pointseg.core.optional_packages import needed
from pointseg.jobs.spec import Place

__all__ = ["batch_input", "download_scores", "start_job"]

log = logging.getLogger(__name__)

OUTPUT = "score"  # what Azure calls the output of a batch endpoint


def batch_input(client: Any, given: str) -> Any:
    """The input of a batch job: a local folder or file, azureml:NAME:VERSION, or an address of a datastore.

    Raises:
        ConfigError: if there is no such data asset, or it is a table.
        AzureError: if Azure cannot be asked.
    """
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    kind = settled(client, "input", Place(given, kind_of_address("input", given))).kind
    return sdk.Input(type=kind, path=given)


def start_job(client: Any, endpoint: str, given: Any, deployment: str | None = None) -> Any:
    """Start a job of a batch endpoint.

    Args:
        given: from `batch_input`; local files are uploaded.
        deployment: other than the default.

    Returns:
        The job, as Azure has it.

    Raises:
        ConfigError: if there is no such endpoint, or it has no deployment.
        AzureError: if Azure refuses it or cannot be reached.
    """
    existing = get_or_none(f"the endpoint {endpoint}", lambda: client.batch_endpoints.get(endpoint))
    if existing is None:
        raise ConfigError(
            "the workspace has no such batch endpoint",
            where=f"endpoint=batch:{endpoint}",
            remedy="scripts/deploy.py target=batch makes it.",
        )
    # always by name: the SDK keeps the name of one call for the next ones of the same process
    deployment = deployment or default_deployment(existing)
    if deployment is None:
        raise ConfigError(
            "the endpoint has no default deployment",
            where=f"endpoint=batch:{endpoint}",
            remedy="Name one by deployment=NAME, or call scripts/deploy.py again.",
        )
    with plain_errors(f"starting a job of the endpoint {endpoint}"):
        started = client.batch_endpoints.invoke(endpoint_name=endpoint, deployment_name=deployment, input=given)
        job = client.jobs.get(started.name)
    log.info("Job %s, by the deployment %s: %s", job.name, deployment, job.studio_url)
    return job


def download_scores(client: Any, name: str, folder: Path) -> Path:
    """Fetch the results of a batch job into a folder.

    Returns:
        The folder in it that holds them.

    Raises:
        AzureError: if it cannot be read.
        JobFailed: if there is nothing.
    """
    with plain_errors("fetching what the job wrote"):
        names = [name, *(child.name for child in client.jobs.list(parent_job_name=name))]
        for number, job in enumerate(names):  # the output belongs to the step; SDK versions look in one or the other
            target = folder / str(number)
            client.jobs.download(job, download_path=str(target), output_name=OUTPUT)
            root = target / "named-outputs" / OUTPUT
            root = root if root.is_dir() else target
            if any(path.is_file() for path in root.rglob("*")):
                return root
            shutil.rmtree(target, ignore_errors=True)
    raise JobFailed("the job has written nothing", where=name, remedy="Its logs tell why; see the studio.")
