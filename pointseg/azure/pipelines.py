"""Pipeline jobs of a workspace: followed, and their steps' outputs fetched."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg.azure import jobs
from pointseg.azure.errors import plain_errors
from pointseg.core.errors import JobFailed, PointsegError
from pointseg.core.redaction import redact_text

__all__ = ["fetch_steps", "follow_pipeline", "steps_of"]

log = logging.getLogger(__name__)

ERROR = "error: "  # begins the line by which a verb says why it fails
LAST_WORDS = 20  # lines of a failed step that are shown
ENDED_WELL = "Completed"
ENDED_BADLY = ("Failed", "Canceled")


def steps_of(client: Any, name: str) -> dict[str, Any]:
    """The jobs of a pipeline job's steps, by the steps' names.

    Raises:
        AzureError: if it cannot be asked for.
    """
    with plain_errors("looking at the steps of the pipeline"):
        children = [client.jobs.get(child.name) for child in client.jobs.list(parent_job_name=name)]
    return {str(child.display_name): child for child in reversed(children)}


def follow_pipeline(client: Any, name: str) -> None:
    """Stay until a pipeline job ends; of a step that failed, say its words.

    Raises:
        JobFailed: naming the step that did not end well, where the steps can be looked at.
        AzureError: if Azure ML cannot be reached any more; the job goes on.
    """
    try:
        jobs.follow(client, name)
    except JobFailed as error:
        try:
            steps = steps_of(client, name)
        except PointsegError as other:
            log.warning("%s", other)
            raise error from other
        for step, child in steps.items():
            if _status(child) in ENDED_BADLY:
                said = _say_words(client, child.name)
                raise JobFailed(
                    f"the step {step} ended as {_status(child)}{f': {said}' if said else ''}",
                    where=name,
                    remedy=f"Its logs: {child.studio_url}",
                ) from error
        raise


def _say_words(client: Any, name: str) -> str:
    """Say the last words of a job that has ended badly; gives its error, "" where it names none or cannot be asked."""
    with tempfile.TemporaryDirectory(prefix="pointseg-words-") as folder:
        try:
            with plain_errors("reading the words of the step"):
                client.jobs.download(name, download_path=folder)
        except PointsegError as error:  # which step failed is still to be said
            log.warning("%s", error)
            return ""
        logs = sorted(Path(folder).rglob("user_logs/std_log*.txt"))
        lines = [line for log in logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    log.info("Its last words:\n%s", redact_text("\n".join(f"  {line}" for line in lines[-LAST_WORDS:])))
    errors = [line for line in lines if line.startswith(ERROR)]
    return redact_text(errors[-1].removeprefix(ERROR).rstrip(".")) if errors else ""


def fetch_steps(client: Any, name: str, places: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """Bring what the steps of a pipeline job wrote into folders.

    Args:
        places: folders by step and output.

    Returns:
        The steps that ended well, whose outputs are here now.

    Raises:
        AzureError: if it cannot be read.
        OutputError: if it cannot be written.
    """
    fetched = []
    for step, child in steps_of(client, name).items():
        if step in places and _status(child) == ENDED_WELL:
            for output, folder in places[step].items():
                folder.mkdir(parents=True, exist_ok=True)
                jobs.fetch(client, child.name, output, folder)
            fetched.append(step)
    return fetched


def _status(job: Any) -> str:
    return str(getattr(job.status, "value", job.status))
