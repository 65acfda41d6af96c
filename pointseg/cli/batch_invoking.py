"""`scripts/invoke.py endpoint=batch:NAME`: a folder of clouds -> labels, as a job of a batch endpoint."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from pointseg.azure import jobs
from pointseg.azure.batch import BatchSettings, check_endpoint
from pointseg.azure.batch_jobs import batch_input, download_scores, start_job
from pointseg.azure.workspace import check_auth, connect
from pointseg.cli.azure_job import workspace_of
from pointseg.cli.cancelling import offered_to_cancel
from pointseg.cli.checks import config_folder
from pointseg.cli.entry import Job
from pointseg.compute.spec import is_remote
from pointseg.errors import ConfigError, InvalidData, OutputError
from pointseg.files import check_writable
from pointseg.prediction import Item, find_items
from pointseg.prediction.inputs import PROBABILITIES, RECORD
from pointseg.serving.batch_score import FAILED
from pointseg.words import counted

__all__ = ["invoke_batch"]

log = logging.getLogger(__name__)

BATCH = "batch:"
# Keys that are the deployment's own settings, or that only a service over HTTP has.
NOT_HERE = (
    *("url", "key", "write", "probabilities", "on_error", "remission_scale"),
    *("labels", "timeout", "retries", "compression", "max_body"),
)


def invoke_batch(job: Job) -> None:
    """Start a job of the endpoint on `input`; with `wait`, or for `job`, bring its labels into `output`.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        DataError, OutputError: if the input or the folder cannot be used.
        AzureError: if Azure refuses something or cannot be reached.
        JobFailed: if the job was waited for and did not end well.
        InvalidData: if it could not use some of the files (exit code 2).
    """
    config = job.config
    endpoint = _check(config)
    output = Path(str(config.output)).expanduser() if config.output else None
    with tempfile.TemporaryDirectory(prefix="pointseg-batch-") as temporary:
        given = None if config.job else _given(config, Path(temporary))
        workspace = workspace_of(job)
        if output is not None:
            check_writable(output, "output")
        client = connect(workspace, config.azure.auth)
        if given is None:
            name = str(config.job)
        else:
            deployment = str(config.deployment) if config.deployment else None
            name = start_job(client, endpoint, batch_input(client, given), deployment).name
    again = f"python scripts/invoke.py endpoint={config.endpoint} job={name} output=DIR"
    if given is not None and not config.wait:
        log.info("It goes on without this command. To fetch its labels: %s", again)
        return
    with offered_to_cancel(client, name):
        jobs.follow(client, name)
    assert output is not None
    _fetch(client, name, output, config, again)


def _check(config: DictConfig) -> str:
    given = str(config.endpoint)
    if not given.startswith(BATCH):
        raise ConfigError(
            f"{given!r} names no endpoint",
            where="endpoint",
            remedy="Write endpoint=batch:NAME or endpoint=online:NAME; other services have url=URL.",
        )
    shipped = yaml.safe_load((config_folder() / "invoke.yaml").read_text(encoding="utf-8"))
    for key in NOT_HERE:
        if config[key] != shipped[key]:
            raise ConfigError(
                "a batch endpoint is not told this by its caller",
                where=key,
                remedy="Leave it out; what a deployment does is told by batch.KEY of scripts/deploy.py.",
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
            "labels come when the job has ended", where="output", remedy="Add wait=true, or leave it out."
        )
    check_auth(config.azure.auth)
    return check_endpoint("endpoint", given.removeprefix(BATCH))


def _given(config: DictConfig, folder: Path) -> str:
    """What the job reads: an address in Azure as it is; of this machine the clouds alone, in the layout of their results."""
    given = str(config.input)
    if is_remote(given):
        return given
    items = find_items(given, folder / "out", "label")
    size = sum(item.source.stat().st_size for item in items)
    log.info("To upload: %s, %.1f MB", counted(len(items), "file"), size / 1e6)
    return str(_staged(items, folder / "out", folder / "scans"))


def _staged(items: Sequence[Item], output: Path, folder: Path) -> Path:
    """Links to the clouds, where the deployment finds their places by: nothing else of the folder goes along."""
    for item in items:
        parts = item.target.relative_to(output).parts
        if len(parts) == 4 and (parts[0], parts[2]) == ("sequences", "predictions"):
            parts = (*parts[:2], "velodyne", parts[3])
        place = folder.joinpath(*parts[:-1], item.source.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(item.source.resolve())
    return folder


def _fetch(client: Any, name: str, output: Path, config: DictConfig, again: str) -> None:
    with tempfile.TemporaryDirectory(dir=output, prefix=".fetched-") as temporary:
        root = download_scores(client, name, Path(temporary))
        failed = sorted(path.read_text(encoding="utf-8").strip() for path in (root / FAILED).rglob("*.txt"))
        shutil.rmtree(root / FAILED, ignore_errors=True)
        _refuse_others(root, output, config, again)
        try:
            shutil.copytree(root, output, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise OutputError(f"the labels cannot be kept ({error})", where=f"output={output}") from error
        done = len(
            [path for path in root.rglob("*") if path.is_file() and path.name != RECORD and path.suffix != ".npy"]
        )
    for line in failed:
        log.error("error: %s", line)
    log.info("%s labelled", counted(done, "file"))
    log.info("  %s", output)
    if failed:
        raise InvalidData(
            f"{counted(len(failed), 'file')} of {done + len(failed):,} cannot be used",
            where=f"job {name}",
            remedy="See above; mend them and start another job.",
        )


def _is_result(path: Path) -> bool:
    return path.name not in (RECORD, BatchSettings.output_file) and not path.name.endswith(PROBABILITIES)


def _refuse_others(fetched: Path, output: Path, config: DictConfig, again: str) -> None:
    """A folder holds the labels of one model, as `pointseg.predict` has it."""
    if config.overwrite:
        return
    known = _record(output)
    taken = [path for path in fetched.rglob("*") if path.is_file() and (output / path.relative_to(fetched)).exists()]
    if (known is None and taken) or (known is not None and known != _record(fetched)):
        raise OutputError(
            "the folder holds results of another model or settings"
            if known
            else "there are files of these names already",
            where=f"output={output}",
            remedy=f"Fetch into another folder, or add overwrite=true: {again}",
        )


def _record(folder: Path) -> Any:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
