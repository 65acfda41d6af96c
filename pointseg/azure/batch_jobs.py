"""Jobs of batch endpoints: started on a folder, and what they wrote brought back."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from pointseg.azure.assets import kind_of_address, settled
from pointseg.azure.batch import default_deployment
from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.quiet import quiet_unless_seen
from pointseg.compute.spec import Place
from pointseg.errors import ConfigError, JobFailed
from pointseg.extras import needed

__all__ = ["batch_input", "download_scores", "start_job"]

log = logging.getLogger(__name__)

OUTPUT = "score"  # what Azure calls the output of a batch endpoint


def batch_input(client: Any, given: str) -> Any:
    """What a batch job reads: a folder or file of this machine, azureml:NAME:VERSION, or an address of a datastore.

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
        given: of `batch_input`; what lies on this machine is uploaded.
        deployment: another than the default.

    Returns:
        The job, as Azure has it.

    Raises:
        ConfigError: if there is no such endpoint, or nothing that would do the work.
        AzureError: if Azure refuses it or cannot be reached.
    """
    there = found(f"looking for the endpoint {endpoint}", lambda: client.batch_endpoints.get(endpoint))
    if there is None:
        raise ConfigError(
            "the workspace has no such batch endpoint",
            where=f"endpoint=batch:{endpoint}",
            remedy="scripts/deploy.py target=batch makes it.",
        )
    # always by name: the SDK keeps the name of one call for the next ones of the same process
    deployment = deployment or default_deployment(there)
    if deployment is None:
        raise ConfigError(
            "the endpoint has no default deployment",
            where=f"endpoint=batch:{endpoint}",
            remedy="Name one by deployment=NAME, or call scripts/deploy.py again.",
        )
    with plain_errors(f"starting a job of the endpoint {endpoint}"), quiet_unless_seen():
        started = client.batch_endpoints.invoke(endpoint_name=endpoint, deployment_name=deployment, input=given)
        job = client.jobs.get(started.name)
    log.info("Job %s, by the deployment %s: %s", job.name, deployment, job.studio_url)
    return job


def download_scores(client: Any, name: str, folder: Path) -> Path:
    """Bring what a batch job wrote into a folder.

    Returns:
        Where it lies in there.

    Raises:
        AzureError: if it cannot be read.
        JobFailed: if there is nothing.
    """
    with plain_errors("fetching what the job wrote"), quiet_unless_seen():
        names = [name, *(child.name for child in client.jobs.list(parent_job_name=name))]
        for number, one in enumerate(
            names
        ):  # the output is the step's, and SDK versions look for it in one or the other
            place = folder / str(number)
            client.jobs.download(one, download_path=str(place), output_name=OUTPUT)
            root = place / "named-outputs" / OUTPUT
            root = root if root.is_dir() else place
            if any(path.is_file() for path in root.rglob("*")):
                return root
            shutil.rmtree(place, ignore_errors=True)
    raise JobFailed("the job has written nothing", where=name, remedy="Its logs tell why; see the studio.")
