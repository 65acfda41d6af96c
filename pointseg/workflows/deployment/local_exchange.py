"""How a local service starts, and how another model or other settings replace it without a gap.

The new model is first tested in its own process on a free port, while the old one keeps serving. Then a new model alone is
loaded into the running process (/admin/reload, which loses no request); for other settings, a new process takes the port
beside the old one, which then finishes its requests.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

from pointseg.azure.steps import Action, Step, carry_out
from pointseg.core.errors import ConfigError, OutputError, PointsegError, ServiceError
from pointseg.core.files import remove_folder
from pointseg.core.package import VERSION
from pointseg.serving.local_service import (
    Process,
    ServiceRecord,
    Services,
    is_running,
    last_lines,
    service_state,
    start_service,
    stop_service,
    wait_until_serving,
)
from pointseg.serving.smoke import smoke_test
from pointseg.serving.transport import Transport, refused
from pointseg.workflows.service.service_settings import bound_socket

__all__ = ["WantedService", "bring_up"]

log = logging.getLogger(__name__)

COST = "it costs nothing but this machine's memory and cores, until it is stopped"
RELOAD_SECONDS = 300.0


@dataclass(frozen=True)
class WantedService:
    """The service as it should be.

    Attributes:
        packed: a bundle.
        model: its sha256, and where it came "from".
        settings: of `python -m pointseg.serve`, by their names there.
        address: host and port; 0: a free one, or the present one.
        key: that callers give.
        wait_seconds: for the start, and for the test.
    """

    name: str
    packed: Path
    model: dict[str, str]
    settings: dict[str, Any]
    address: tuple[str, int]
    key: str | None = field(repr=False)
    wait_seconds: float

    def all_settings(self, port: int) -> dict[str, Any]:
        """The settings that a service is compared by."""
        return {**self.settings, "host": self.address[0], "port": port, "version": VERSION}


def bring_up(services: Services, wanted: WantedService, *, plan: bool) -> tuple[Step, ServiceRecord | None]:
    """Start or change the service if needed: the step, and the service as it is then, or None with `plan`.

    Raises:
        ConfigError: if the port is taken, or the service asks for a key and none is given.
        ServiceError: if the new one does not start or fails its test; an old one keeps serving.
        OutputError: if a file cannot be written.
    """
    old = services.find(wanted.name)
    action, differences, do = _compare(services, wanted, old)
    notes = (COST,) if action == "create" else ()
    step = Step("local service", wanted.name, action, differences, do, notes)
    carry_out([step], plan=plan)
    return step, None if plan else services.find(wanted.name)


def _compare(
    services: Services, wanted: WantedService, old: ServiceRecord | None
) -> tuple[Action, tuple[str, ...], Callable[[], None] | None]:
    model = f"model {wanted.model['sha256'][:12]} of {wanted.model['from']}"
    exchange = _Exchange(services, wanted)
    if old is None:
        exchange.port = _free_port(*wanted.address)
        return "create", (model, f"at {exchange.url}"), exchange.start
    exchange.port = wanted.address[1] or int(old.settings["port"])
    if exchange.port != old.settings["port"]:
        _free_port(wanted.address[0], exchange.port)
    if old.asks_key and wanted.key is None:
        remedy = "Set POINTSEG_KEY to its key, or stop it (local.action=stop) to serve without one."
        raise ConfigError("the service asks for a key, and none is given", where=wanted.name, remedy=remedy)
    state, why = service_state(old, wanted.key)
    if state == "dead" or not old.ready:
        if state == "dead":
            exchange.port = _free_port(wanted.address[0], exchange.port)
        reason = f"it is dead: {why}" if state == "dead" else "the command that started it was interrupted"
        return (
            "replace",
            (f"{reason}; it is started again", model, f"at {exchange.url}"),
            partial(exchange.start_again, old),
        )
    settings = wanted.all_settings(exchange.port)
    differences = [
        f"{name}: {old.settings.get(name)} -> {value}"
        for name, value in settings.items()
        if old.settings.get(name) != value
    ]
    if why == "key" or old.asks_key != (wanted.key is not None):
        differences.append("key: another one")
    if state == "unhealthy":
        return "replace", (f"it is unhealthy: {why}", *differences, model), partial(exchange.exchange_process, old)
    if differences:
        return "update", (*differences, model), partial(exchange.exchange_process, old)
    if old.model["sha256"] != wanted.model["sha256"] or why == "model":
        change = f"model: {old.model['sha256'][:12]} -> {wanted.model['sha256'][:12]} of {wanted.model['from']}"
        return "update", (change,), partial(exchange.exchange_model, old)
    if old.leaving:
        change = "processes left by an interrupted command are ended"
        return "update", (change,), partial(exchange.end_leftovers, old)
    return "keep", (), None


class _Exchange:
    """The ways to start or change a service; each leaves a complete record, and no process without one."""

    def __init__(self, services: Services, wanted: WantedService) -> None:
        self.services, self.wanted, self.port = services, wanted, 0
        self.folder = services.own_folder(wanted.name)

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.wanted.address[0], self.wanted.address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Start a service where there is none."""
        self._copy_model()
        try:
            record = self._started(self._log())
            self._test(self.url, record.log)
        except BaseException:
            self._undo()
            raise
        self.services.write(record.changed(ready=True))

    def start_again(self, old: ServiceRecord) -> None:
        """Start one in place of one that is dead or never became ready."""
        _end_all(old, [old.process, *old.leaving])
        self.services.forget(old.name)
        self.start()

    def exchange_model(self, old: ServiceRecord) -> None:
        """Load another model into the running process."""
        model = self._copy_model()
        self._test_beside(old)
        try:
            token = (self.folder / "admin.token").read_text(encoding="utf-8").strip()
        except OSError:  # somebody removed it
            self.exchange_process(old)
            return
        try:
            _reload(old.url, token, model)
        except PointsegError:
            remove_folder(model)
            raise
        self.services.write(old.changed(model=self.wanted.model))
        self._tidy_models(model)

    def exchange_process(self, old: ServiceRecord) -> None:
        """Start a new process on the port, then end the old one."""
        self._copy_model()
        self._test_beside(old)
        record = self._started(self._log(), old)
        self.services.write(record.changed(ready=True))
        outcomes = _end_all(record, record.leaving)
        self._test(self.url, record.log)
        self.services.write(record.changed(ready=True, leaving=[]))
        self._tidy_models(self._model())
        if "killed" in outcomes:
            log.warning("The old process did not end in time, and was killed.")

    def end_leftovers(self, old: ServiceRecord) -> None:
        _end_all(old, old.leaving)
        self.services.write(old.changed(leaving=[]))

    def _model(self) -> Path:
        return self.folder / f"model-{self.wanted.model['sha256'][:12]}"

    def _log(self) -> Path:
        return self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.log"

    def _copy_model(self) -> Path:
        """Copy the model to serve: the run folder may disappear."""
        model = self._model()
        try:
            if not model.is_dir():
                copytree(self.wanted.packed, model)
            token = self.folder / "admin.token"
            if not token.exists():
                token.touch(0o600)
                token.write_text(secrets.token_hex(32), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot be written ({error.strerror})", where=self.folder) from error
        return model

    def _arguments(self, host: str, port: int, model: Path) -> list[str]:
        settings = {name: "null" if value is None else value for name, value in self.wanted.settings.items()}
        given = [f"{name}={value}" for name, value in settings.items()]
        return [f"checkpoint={model}", f"host={host}", f"port={port}", "tracking.uri=off", *given]

    def _environment(self) -> dict[str, str]:
        """The key is passed in the environment, which only this user can read."""
        return {"POINTSEG_API_KEY": self.wanted.key or "", "POINTSEG_KEY": "", "POINTSEG_ADMIN_TOKEN": ""}

    def _started(self, file: Path, old: ServiceRecord | None = None) -> ServiceRecord:
        """Start the process that will stay; it is in the record of the service from its first moment."""
        wanted = self.wanted
        arguments = self._arguments(wanted.address[0], self.port, self._model())
        arguments += ["reuse_port=true", f"admin_file={self.folder / 'admin.token'}"]
        process = start_service(arguments, file, self._environment())
        settings, asks_key = wanted.all_settings(self.port), wanted.key is not None
        record = ServiceRecord(wanted.name, process, False, self.url, wanted.model, settings, asks_key, str(file))
        try:
            if old is None:
                self.services.write(record)
            else:
                record = record.changed(leaving=[old.process, *old.leaving])
                self.services.write(old.changed(leaving=[*old.leaving, process]))
            wait_until_serving(process, file, wanted.wait_seconds)
        except BaseException:
            stop_service(process, 0.0)
            if old is not None:
                self.services.write(old)
                file.unlink(missing_ok=True)
            raise
        return record

    def _test_beside(self, old: ServiceRecord) -> None:
        """Test the new model and settings in another process, on a free port."""
        file = self.folder / "trying.log"
        process = start_service(self._arguments("127.0.0.1", 0, self._model()), file, self._environment())
        try:
            self.services.write(old.changed(leaving=[*old.leaving, process]))
            address = wait_until_serving(process, file, self.wanted.wait_seconds)
            self._test(address, str(file))
        except BaseException as error:
            if self.wanted.model["sha256"] != old.model["sha256"]:
                remove_folder(self._model())
            if isinstance(error, PointsegError):
                text = f"{error.what}; {old.name} serves as before"
                raise ServiceError(text, where=error.where, remedy=error.remedy) from error
            raise
        finally:
            stop_service(process, 0.0)
            self.services.write(old)
            file.unlink(missing_ok=True)

    def _test(self, url: str, file: str) -> None:
        wanted = self.wanted
        try:
            passed = smoke_test(url, wanted.key, sha256=wanted.model["sha256"], timeout=wanted.wait_seconds)
        except ServiceError as error:
            text = f"the test with a scan failed: {error.what} (its log ends: {last_lines(Path(file))})"
            raise ServiceError(text, where=error.where, remedy=error.remedy) from error
        log.info("Tested with a scan: %s", passed)

    def _undo(self) -> None:
        """End what was started, and forget it."""
        if (record := self.services.find(self.wanted.name)) is not None:
            stop_service(record.process, 0.0)
        self.services.forget(self.wanted.name)

    def _tidy_models(self, kept: Path) -> None:
        for folder in self.folder.glob("model-*"):
            if folder != kept:
                with suppress(OutputError):
                    remove_folder(folder)


def _end_all(record: ServiceRecord, processes: list[Process]) -> list[str]:
    drain = float(record.settings.get("drain_seconds", 30.0))
    return [stop_service(process, drain) for process in processes if is_running(process)]


def _reload(url: str, token: str, model: Path) -> None:
    transport = Transport(token, RELOAD_SECONDS, 0, {})
    try:
        body = json.dumps({"checkpoint": str(model)}).encode()
        reply = transport.send(
            "POST", f"{url}/admin/reload", body=body, headers={"Content-Type": "application/json"}, limit=1 << 20
        )
    finally:
        transport.close()
    if reply.status != 200:
        raise refused(reply, f"{url}/admin/reload")


def _free_port(host: str, port: int) -> int:
    """This port, or a free one for 0; raises ConfigError if it is taken, or the address is not this machine's."""
    with bound_socket(host, port, section="local.") as listener:
        return int(listener.getsockname()[1])
