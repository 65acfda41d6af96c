"""`scripts/deploy.py target=local`: `python -m pointseg.serve` in the background, its status and its end."""

from __future__ import annotations

import logging
import re
import shlex
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg import bundle
from pointseg.cli.deployed_model import local_model
from pointseg.cli.entry import Job
from pointseg.cli.local_exchange import Wanted, bring_up
from pointseg.cli.values import plain
from pointseg.errors import ConfigError
from pointseg.prediction.output import model_identity
from pointseg.serving.local_process import alive, end
from pointseg.serving.local_services import Record, Services, state_of
from pointseg.serving.security import check_exposure, read_key
from pointseg.words import counted

__all__ = ["check_local", "deploy_local"]

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
ACTIONS = ("start", "status", "stop")
OWN = ("action", "host", "port", "key_file", "wait_seconds", "folder")  # of the section, and not settings to compare


def check_local(config: DictConfig) -> None:
    """As `pointseg.cli.deploying` has it."""
    if config.local.action not in ACTIONS:
        remedy = f"Use {', '.join(ACTIONS)}."
        raise ConfigError(f"there is no {config.local.action!r}", where="local.action", remedy=remedy)
    if config.local.action == "start":
        _name(config.endpoint or "local")
        check_exposure(str(config.local.host), _key(config))
        _check_numbers(config)


def deploy_local(job: Job) -> dict[str, Any]:
    """As `pointseg.cli.deploying` has it.

    Raises:
        ConfigError, CheckpointError, TrackingError, DeviceError: before anything is started.
        ServiceError: if the new service does not come up or fails its test; an older one goes on then.
        OutputError: if the folder of services cannot be written.
    """
    config = job.config
    services = Services((job.start_dir / Path(str(config.local.folder)).expanduser()).resolve())
    if config.local.action == "start":
        return _start(job, services)
    (_status if config.local.action == "status" else _stop)(job, services)
    return {}


# ---- start -----------------------------------------------------------------------------------------------------------


def _start(job: Job, services: Services) -> dict[str, Any]:
    config = job.config
    name = _name(config.endpoint or "local")
    key = _key(config)
    trained = local_model(config, job)
    settings = {name: value for name, value in plain(config.local).items() if name not in OWN}
    model = {"sha256": model_identity(trained), "from": str(config.checkpoint)}
    alone = nullcontext() if config.plan else services.changing(name)
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary, alone:
        packed = bundle.save_bundle(Path(temporary) / "bundle", trained)
        address = (str(config.local.host), int(config.local.port))
        wanted = Wanted(name, packed, model, settings, address, key, float(config.local.wait_seconds))
        record = bring_up(services, wanted, plan=config.plan)
    if record is None:
        return {}
    _say(record, job)
    return {"endpoint": record.name, "url": record.url, "model": record.model}


def _name(name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        remedy = "Up to 32 lower-case letters, digits and -, no - at its ends."
        raise ConfigError(f"{name!r} is no name of a service", where="endpoint", remedy=remedy)
    return name


def _key(config: DictConfig) -> str | None:
    """What callers shall give: of a file, or the environment; never of the command line."""
    return read_key(str(config.local.key_file) if config.local.key_file else None, "local.key_file")


def _check_numbers(config: DictConfig) -> None:
    local = config.local
    if not 0 <= local.port <= 65535 or local.port != int(local.port):
        raise ConfigError(
            f"there is no port {local.port}", where="local.port", remedy="Give 1 to 65535, or 0 for a free one."
        )
    for name in ("time_limit", "drain_seconds", "wait_seconds"):
        if not local[name] > 0:
            raise ConfigError(f"{local[name]} seconds are no time", where=f"local.{name}", remedy="Give more than 0.")


def _say(record: Record, job: Job) -> None:
    folder = job.config.local.folder
    words = ["python", "scripts/deploy.py", "target=local", f"endpoint={record.name}"]
    words += [] if folder == ".pointseg/services" else [f"local.folder={folder}"]
    key = " (its key in POINTSEG_KEY)" if record.asks_key else ""
    log.info("%s", record.url)
    log.info("Ask it%s: python scripts/invoke.py url=%s input=SCANS output=DIR", key, record.url)
    log.info("Look at it: %s local.action=status; its log: %s", shlex.join(words), record.log)
    log.info("Stop it: %s local.action=stop", shlex.join(words))


# ---- status and stop -------------------------------------------------------------------------------------------------


def _named(config: DictConfig, services: Services) -> list[Record]:
    if config.endpoint is None:
        return services.all()
    record = services.find(_name(config.endpoint))
    if record is None:
        known = ", ".join(one.name for one in services.all()) or "none"
        remedy = f"Known here ({services.folder}): {known}."
        raise ConfigError("there is no such service", where=f"endpoint={config.endpoint}", remedy=remedy)
    return [record]


def _status(job: Job, services: Services) -> None:
    records = _named(job.config, services)
    if not records:
        log.info("No service was started from here (%s).", services.folder)
    rows = [("name", "state", "url", "pid", "model", "")]
    for record in records:
        state, why = state_of(record)
        why = "" if state == "running" else why
        model = f"{record.model['sha256'][:12]} of {record.model['from']}"
        rows.append((record.name, state, record.url, str(record.process.pid), model, why))
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    for row in rows if records else ():
        log.info("%s", "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _stop(job: Job, services: Services) -> None:
    records = _named(job.config, services)
    if len(records) > 1:
        remedy = f"Name one of {', '.join(record.name for record in records)}."
        raise ConfigError(f"there are {counted(len(records), 'service')}", where="endpoint", remedy=remedy)
    if not records:
        log.info("Nothing to stop: no service was started from here (%s).", services.folder)
        return
    name = records[0].name
    with services.changing(name):
        record = services.find(name)
        if record is None:
            log.info("Nothing to stop: %s is gone meanwhile.", name)
            return
        if job.config.plan:
            log.info("Nothing was changed: plan=true. It would stop %s, process %d.", name, record.process.pid)
            return
        running = [one for one in (record.process, *record.leaving) if alive(one)]
        drain = float(record.settings.get("drain_seconds", 30.0))
        log.info("Stopping %s: what is in flight has %g s ...", name, drain)
        outcomes = [end(one, drain) for one in running]
        services.forget(name)
    said = {"killed": "killed: it did not end in time", "stopped": "stopped"}
    log.info("%s: %s", name, said.get(outcomes[0], "it had ended before") if outcomes else "it had ended before")
