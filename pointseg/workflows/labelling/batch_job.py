"""`endpoint=batch:NAME`: a folder of clouds is labelled by a job of a batch endpoint."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pointseg.azure import jobs
from pointseg.azure.cancelling import offered_to_cancel
from pointseg.azure.endpoints.batch_jobs import batch_input, download_scores, start_job
from pointseg.azure.names import check_endpoint_name
from pointseg.azure.workspace import connect
from pointseg.core.addresses import is_remote
from pointseg.core.errors import ConfigError, InvalidData, OutputError
from pointseg.core.files import check_writable, expanded
from pointseg.core.progress import Ask
from pointseg.core.text import counted
from pointseg.data.formats.cloud_files import PREDICTION_RECORD
from pointseg.engine.prediction import Item, find_items
from pointseg.serving.batch_score import FAILED_FOLDER
from pointseg.workflows.settings.invoke import InvokeConfig
from pointseg.workflows.workspace.client import named_workspace

__all__ = ["BatchJob", "label_by_job", "stage_input"]

log = logging.getLogger(__name__)

BATCH = "batch:"
# Keys that the deployment decides, or that only a service over HTTP has.
NOT_OF_A_JOB = (
    *("url", "key", "write", "probabilities", "on_error", "remission_scale"),
    *("labels", "timeout", "retries", "compression", "max_body"),
)


class BatchJob(NamedTuple):
    """A job of a batch endpoint: its name, and how many files it labelled; None if it was not waited for."""

    name: str
    files: int | None


def label_by_job(config: InvokeConfig, ask: Ask) -> BatchJob:
    """Start a job of the endpoint on `input`; with `wait`, or for `job`, fetch its labels into `output`.

    Args:
        ask: at Ctrl-C, whether to cancel the job.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        DataError, OutputError: if the input or the folder cannot be used.
        AzureError: if Azure refuses something or cannot be reached.
        JobFailed: if the job was waited for and did not end well.
        InvalidData: if it could not use some of the files (exit code 2).
    """
    endpoint = _check(config)
    output = expanded(config.output) if config.output else None
    with tempfile.TemporaryDirectory(prefix="pointseg-batch-") as temporary:
        given = None if config.job else stage_input(str(config.input), Path(temporary))
        workspace = named_workspace(config.azure)
        if output is not None:
            check_writable(output, "output")
        client = connect(workspace, config.azure.auth)
        if given is None:
            name = str(config.job)
        else:
            name = start_job(client, endpoint, batch_input(client, given), config.deployment or None).name
    again = f"python scripts/invoke.py endpoint={config.endpoint} job={name} output=DIR"
    if given is not None and not config.wait:
        log.info("It continues without this command. To fetch its labels: %s", again)
        return BatchJob(name, None)
    with offered_to_cancel(client, name, ask=ask):
        jobs.follow(client, name)
    assert output is not None
    return BatchJob(name, _fetch(client, name, output, again, overwrite=config.overwrite))


def _check(config: InvokeConfig) -> str:
    given, default = str(config.endpoint), InvokeConfig()
    if not given.startswith(BATCH):
        raise ConfigError(
            f"{given!r} does not name an endpoint",
            where="endpoint",
            remedy="Write endpoint=batch:NAME or endpoint=online:NAME; other services have url=URL.",
        )
    for key in NOT_OF_A_JOB:
        if getattr(config, key) != getattr(default, key):
            raise ConfigError(
                "the caller of a batch endpoint cannot set this",
                where=key,
                remedy="Leave it out; batch.KEY of scripts/deploy.py decides what a deployment does.",
            )
    if bool(config.input) == bool(config.job):
        what = "both input and job are given" if config.job else "no input is given"
        raise ConfigError(
            what, where="input", remedy="Give input=SCANS for a new job, or job=NAME to fetch an earlier one's."
        )
    if (config.wait or config.job) and not config.output:
        raise ConfigError("no output folder is given", where="output", remedy="Name it: output=DIR.")
    if config.output and not (config.wait or config.job):
        raise ConfigError(
            "labels can be fetched only after the job has ended",
            where="output",
            remedy="Add wait=true, or leave it out.",
        )
    return check_endpoint_name("endpoint", given.removeprefix(BATCH))


def stage_input(given: str, folder: Path) -> str:
    """The input of a job: an address in Azure as it is; of a local folder only the clouds, in the layout of their results.

    Args:
        folder: for links to the clouds.

    Raises:
        DataError: if there are no clouds.
    """
    if is_remote(given):
        return given
    items = find_items(given, folder / "out", "label")
    size = sum(item.source.stat().st_size for item in items)
    log.info("To upload: %s, %.1f MB", counted(len(items), "file"), size / 1e6)
    return str(_linked(items, folder / "out", folder / "scans"))


def _linked(items: Sequence[Item], output: Path, folder: Path) -> Path:
    """Links to the clouds, from which the deployment derives where labels go; nothing else of the folder is uploaded."""
    for item in items:
        parts = item.target.relative_to(output).parts
        if len(parts) == 4 and (parts[0], parts[2]) == ("sequences", "predictions"):
            parts = (*parts[:2], "velodyne", parts[3])
        place = folder.joinpath(*parts[:-1], item.source.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(item.source.resolve())
    return folder


def _fetch(client: Any, name: str, output: Path, again: str, *, overwrite: bool) -> int:
    """Fetch the labels into `output`; how many files they are of."""
    with tempfile.TemporaryDirectory(dir=output, prefix=".fetched-") as temporary:
        root = download_scores(client, name, Path(temporary))
        failed = sorted(path.read_text(encoding="utf-8").strip() for path in (root / FAILED_FOLDER).rglob("*.txt"))
        shutil.rmtree(root / FAILED_FOLDER, ignore_errors=True)
        if not overwrite:
            _refuse_other_results(root, output, again)
        try:
            shutil.copytree(root, output, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise OutputError(f"the labels cannot be kept ({error})", where=f"output={output}") from error
        files = len(
            [
                path
                for path in root.rglob("*")
                if path.is_file() and path.name != PREDICTION_RECORD and path.suffix != ".npy"
            ]
        )
    for line in failed:
        log.error("error: %s", line)
    log.info("%s labelled", counted(files, "file"))
    log.info("  %s", output)
    if failed:
        raise InvalidData(
            f"{counted(len(failed), 'file')} of {files + len(failed):,} cannot be used",
            where=f"job {name}",
            remedy="See above; repair them and start another job.",
        )
    return files


def _refuse_other_results(fetched: Path, output: Path, again: str) -> None:
    """A folder may hold the labels of only one model, as for `pointseg.predict`."""
    known = _record(output)
    taken = [path for path in fetched.rglob("*") if path.is_file() and (output / path.relative_to(fetched)).exists()]
    if (known is None and taken) or (known is not None and known != _record(fetched)):
        raise OutputError(
            "the folder holds results of another model or settings" if known else "files of these names already exist",
            where=f"output={output}",
            remedy=f"Fetch into another folder, or add overwrite=true: {again}",
        )


def _record(folder: Path) -> Any:
    try:
        return json.loads((folder / PREDICTION_RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
