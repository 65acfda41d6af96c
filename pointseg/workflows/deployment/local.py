"""`target=local`: `python -m pointseg.serve` in the background, its status and its end."""

from __future__ import annotations

import logging
import re
import shlex
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from pointseg.core.errors import ConfigError
from pointseg.core.text import counted
from pointseg.engine import bundle
from pointseg.engine.prediction.output import model_identity
from pointseg.serving.local_service import ServiceRecord, Services, is_running, service_state, stop_service
from pointseg.serving.settings import check_exposure, read_key
from pointseg.workflows.deployment.local_exchange import WantedService, bring_up
from pointseg.workflows.deployment.model import local_model
from pointseg.workflows.deployment.result import Deployed, ServiceStatus
from pointseg.workflows.service.service_settings import check_port
from pointseg.workflows.settings.deploy import DeployConfig, LocalConfig

__all__ = ["check_local", "deploy_local"]

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
# keys of the section that a running service is not compared by
NOT_COMPARED = ("action", "host", "port", "key_file", "wait_seconds", "folder")


def check_local(config: DeployConfig) -> None:
    """Check the settings; raises ConfigError naming the key."""
    if config.local.action == "start":
        _name(config)
        check_exposure(config.local.host, _key(config))
        check_port(config.local.port, "local.port")
        _check_times(config.local)


def deploy_local(config: DeployConfig, folder: Path | None) -> Deployed:
    """See `workflows.deploy`. If the new service does not start, or fails its test, the old one keeps serving."""
    services = Services(Path(config.local.folder).expanduser().resolve())
    if config.local.action == "status":
        return _status(config, services)
    return _start(config, services) if config.local.action == "start" else _stop(config, services)


# ---- start -----------------------------------------------------------------------------------------------------------


def _start(config: DeployConfig, services: Services) -> Deployed:
    name, key, local = _name(config), _key(config), config.local
    trained = local_model(config)
    settings = {key: value for key, value in asdict(local).items() if key not in NOT_COMPARED}
    model = {"sha256": model_identity(trained), "from": str(config.checkpoint)}
    lock = nullcontext() if config.plan else services.changing(name)
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary, lock:
        packed = bundle.save_bundle(Path(temporary) / "bundle", trained)
        wanted = WantedService(name, packed, model, settings, (local.host, local.port), key, local.wait_seconds)
        step, record = bring_up(services, wanted, plan=config.plan)
    if record is not None:
        _log_commands(record, local.folder)
    url = record.url if record else None
    return Deployed("local", name, (step,), config.plan, url, model=model["sha256"])


def _name(config: DeployConfig) -> str:
    name = config.endpoint or "local"
    if not NAME.fullmatch(name):
        remedy = "Use up to 32 lower-case letters, digits and -, no - at the ends."
        raise ConfigError(f"{name!r} is not a valid service name", where="endpoint", remedy=remedy)
    return name


def _key(config: DeployConfig) -> str | None:
    """The key for callers, from a file or the environment, never from the command line."""
    return read_key(config.local.key_file or None, "local.key_file")


def _check_times(local: LocalConfig) -> None:
    for name in ("time_limit", "drain_seconds", "wait_seconds"):
        if not getattr(local, name) > 0:
            text = f"{getattr(local, name):g} seconds are not enough"
            raise ConfigError(text, where=f"local.{name}", remedy="Give more than 0.")


def _log_commands(record: ServiceRecord, folder: str) -> None:
    command = ["python", "scripts/deploy.py", "target=local", f"endpoint={record.name}"]
    command += [] if folder == LocalConfig().folder else [f"local.folder={folder}"]
    key = " (its key in POINTSEG_KEY)" if record.asks_key else ""
    log.info("%s", record.url)
    log.info("Ask it%s: python scripts/invoke.py url=%s input=SCANS output=DIR", key, record.url)
    log.info("Look at it: %s local.action=status; its log: %s", shlex.join(command), record.log)
    log.info("Stop it: %s local.action=stop", shlex.join(command))


# ---- status and stop -------------------------------------------------------------------------------------------------


def _named(config: DeployConfig, services: Services) -> list[ServiceRecord]:
    if config.endpoint is None:
        return services.all()
    record = services.find(_name(config))
    if record is None:
        known = ", ".join(one.name for one in services.all()) or "none"
        remedy = f"Known here ({services.folder}): {known}."
        raise ConfigError("there is no such service", where=f"endpoint={config.endpoint}", remedy=remedy)
    return [record]


def _status(config: DeployConfig, services: Services) -> Deployed:
    states = []
    for record in _named(config, services):
        state, why = service_state(record)
        why = "" if state == "running" else why
        states.append(ServiceStatus(record.name, state, why, record.url, record.process.pid, record.model))
    if not states:
        log.info("No service was started from here (%s).", services.folder)
        return Deployed("local", config.endpoint)
    rows = [("name", "state", "url", "pid", "model", "")]
    for one in states:
        model = f"{one.model['sha256'][:12]} of {one.model['from']}"
        rows.append((one.name, one.state, one.url, str(one.pid), model, one.why))
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    for row in rows:
        log.info("%s", "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return Deployed("local", config.endpoint, services=tuple(states))


def _stop(config: DeployConfig, services: Services) -> Deployed:
    records = _named(config, services)
    if len(records) > 1:
        remedy = f"Name one of {', '.join(record.name for record in records)}."
        raise ConfigError(f"there are {counted(len(records), 'service')}", where="endpoint", remedy=remedy)
    if not records:
        log.info("Nothing to stop: no service was started from here (%s).", services.folder)
        return Deployed("local", config.endpoint, planned=config.plan)
    name = records[0].name
    with services.changing(name):
        record = services.find(name)
        if record is None:
            log.info("Nothing to stop: %s has gone in the meantime.", name)
        elif config.plan:
            log.info("Nothing was changed: plan=true. It would stop %s, process %d.", name, record.process.pid)
        else:
            _end(record, services)
    return Deployed("local", name, planned=config.plan)


def _end(record: ServiceRecord, services: Services) -> None:
    running = [one for one in (record.process, *record.leaving) if is_running(one)]
    drain = float(record.settings.get("drain_seconds", 30.0))
    log.info("Stopping %s: requests in flight have %g s ...", record.name, drain)
    outcomes = [stop_service(one, drain) for one in running]
    services.forget(record.name)
    endings = {"killed": "killed: it did not end in time", "stopped": "stopped"}
    log.info("%s: %s", record.name, endings.get(outcomes[0] if outcomes else "", "it had ended before"))
