"""How a service of this machine comes up, and how another model or other settings take its place without a gap.

The new model is first tried in a process of its own on a free port; the old one serves meanwhile, and goes on if that
fails. Then another model alone goes into the running process (/admin/reload, which loses no request); for other settings
a new process takes the port beside the old one, which then finishes what it has.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import pointseg
from pointseg.azure.plan import Action, Step, carry_out
from pointseg.errors import ConfigError, OutputError, PointsegError, ServiceError
from pointseg.files import remove_folder
from pointseg.serving.local_process import Process, alive, end, last_lines, start, wait_until_serving
from pointseg.serving.local_services import Record, Services, state_of
from pointseg.serving.smoke import smoke_test
from pointseg.transport import Transport, refused

__all__ = ["Wanted", "bring_up"]

log = logging.getLogger(__name__)

COST = "it costs nothing but this machine's memory and cores, until it is stopped"
RELOAD_SECONDS = 300.0


@dataclass(frozen=True)
class Wanted:
    """What shall serve.

    Attributes:
        packed: a bundle.
        model: its sha256, and where it came "from".
        settings: of `python -m pointseg.serve`, by their names there.
        address: host and port; 0: a free one, or that which the service has.
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
        """What a service is compared by."""
        return {**self.settings, "host": self.address[0], "port": port, "version": pointseg.__version__}


def bring_up(services: Services, wanted: Wanted, *, plan: bool) -> Record | None:
    """Make it so, if it is not; the service as it is then, or None with `plan`.

    Raises:
        ConfigError: if the port is another's, or the service asks for a key and none is given.
        ServiceError: if the new one does not come up or fails its test; an old one goes on.
        OutputError: if a file cannot be written.
    """
    old = services.find(wanted.name)
    action, differences, do = _compare(services, wanted, old)
    notes = (COST,) if action == "create" else ()
    carry_out([Step("local service", wanted.name, action, differences, do, notes)], plan=plan)
    return None if plan else services.find(wanted.name)


def _compare(
    services: Services, wanted: Wanted, old: Record | None
) -> tuple[Action, tuple[str, ...], Callable[[], None] | None]:
    model = f"model {wanted.model['sha256'][:12]} of {wanted.model['from']}"
    up = _Up(services, wanted)
    if old is None:
        up.port = _free_port(*wanted.address)
        return "create", (model, f"at {up.url}"), up.first
    up.port = wanted.address[1] or int(old.settings["port"])
    if up.port != old.settings["port"]:
        _free_port(wanted.address[0], up.port)
    if old.asks_key and wanted.key is None:
        remedy = "Set POINTSEG_KEY to its key, or stop it (local.action=stop) to serve without one."
        raise ConfigError("the service asks for a key, and none is given", where=wanted.name, remedy=remedy)
    state, why = state_of(old, wanted.key)
    if state == "dead" or not old.ready:
        if state == "dead":
            up.port = _free_port(wanted.address[0], up.port)
        reason = f"it is dead: {why}" if state == "dead" else "the command that began it was cut off"
        return "replace", (f"{reason}; it is started again", model, f"at {up.url}"), partial(up.anew, old)
    settings = wanted.all_settings(up.port)
    differences = [
        f"{name}: {old.settings.get(name)} -> {value}"
        for name, value in settings.items()
        if old.settings.get(name) != value
    ]
    if why == "key" or old.asks_key != (wanted.key is not None):
        differences.append("key: another one")
    if state == "unhealthy":
        return "replace", (f"it is unhealthy: {why}", *differences, model), partial(up.beside, old)
    if differences:
        return "update", (*differences, model), partial(up.beside, old)
    if old.model["sha256"] != wanted.model["sha256"] or why == "model":
        change = f"model: {old.model['sha256'][:12]} -> {wanted.model['sha256'][:12]} of {wanted.model['from']}"
        return "update", (change,), partial(up.exchange, old)
    if old.leaving:
        return "update", ("processes that a command left when it was cut off are ended",), partial(up.tidy, old)
    return "keep", (), None


class _Up:
    """The ways to bring a service up; each leaves a whole file, and no process that is in none."""

    def __init__(self, services: Services, wanted: Wanted) -> None:
        self.services, self.wanted, self.port = services, wanted, 0
        self.folder = services.own_folder(wanted.name)

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.wanted.address[0], self.wanted.address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def first(self) -> None:
        """A service where none is."""
        self._prepare()
        try:
            record = self._started(self._log())
            self._test(self.url, record.log)
        except BaseException:
            self._undo()
            raise
        self.services.write(record.but(ready=True))

    def anew(self, old: Record) -> None:
        """In place of one that is dead, or never was ready."""
        _end_all(old, [old.process, *old.leaving])
        self.services.forget(old.name)
        self.first()

    def exchange(self, old: Record) -> None:
        """Another model into the running process."""
        model = self._prepare()
        with self._tried(old):
            pass
        try:
            token = (self.folder / "admin.token").read_text(encoding="utf-8").strip()
        except OSError:  # somebody removed it
            self.beside(old)
            return
        try:
            _reload(old.url, token, model)
        except PointsegError:
            remove_folder(model)
            raise
        self.services.write(old.but(model=self.wanted.model))
        self._tidy_models(model)

    def beside(self, old: Record) -> None:
        """A new process on the port, then the old one ends."""
        self._prepare()
        with self._tried(old):
            pass
        record = self._started(self._log(), old)
        self.services.write(record.but(ready=True))
        outcomes = _end_all(record, record.leaving)
        self._test(self.url, record.log)
        self.services.write(record.but(ready=True, leaving=[]))
        self._tidy_models(self._model())
        if "killed" in outcomes:
            log.warning("The process before did not end in time, and was killed.")

    def tidy(self, old: Record) -> None:
        _end_all(old, old.leaving)
        self.services.write(old.but(leaving=[]))

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _model(self) -> Path:
        return self.folder / f"model-{self.wanted.model['sha256'][:12]}"

    def _log(self) -> Path:
        return self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.log"

    def _prepare(self) -> Path:
        """The copy of the model that is served: whatever becomes of the run folder."""
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

    def _words(self, host: str, port: int, model: Path) -> list[str]:
        settings = {name: "null" if value is None else value for name, value in self.wanted.settings.items()}
        words = [f"{name}={value}" for name, value in settings.items()]
        return [f"checkpoint={model}", f"host={host}", f"port={port}", "tracking.uri=off", *words]

    def _environment(self) -> dict[str, str]:
        """The key goes by the environment, which only this user can read."""
        return {"POINTSEG_API_KEY": self.wanted.key or "", "POINTSEG_KEY": "", "POINTSEG_ADMIN_TOKEN": ""}

    def _started(self, file: Path, old: Record | None = None) -> Record:
        """The process that shall stay, from its first moment in the file of the service."""
        wanted = self.wanted
        words = self._words(wanted.address[0], self.port, self._model())
        words += ["reuse_port=true", f"admin_file={self.folder / 'admin.token'}"]
        process = start(words, file, self._environment())
        settings, asks_key = wanted.all_settings(self.port), wanted.key is not None
        record = Record(wanted.name, process, False, self.url, wanted.model, settings, asks_key, str(file))
        try:
            if old is None:
                self.services.write(record)
            else:
                record = record.but(leaving=[old.process, *old.leaving])
                self.services.write(old.but(leaving=[*old.leaving, process]))
            wait_until_serving(process, file, wanted.wait_seconds)
        except BaseException:
            end(process, 0.0)
            if old is not None:
                self.services.write(old)
                file.unlink(missing_ok=True)
            raise
        return record

    @contextmanager
    def _tried(self, old: Record) -> Iterator[None]:
        """The new model and settings have been tried on a free port."""
        file = self.folder / "trying.log"
        process = start(self._words("127.0.0.1", 0, self._model()), file, self._environment())
        try:
            self.services.write(old.but(leaving=[*old.leaving, process]))
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
            end(process, 0.0)
            self.services.write(old)
            file.unlink(missing_ok=True)
        yield

    def _test(self, url: str, file: str) -> None:
        wanted = self.wanted
        try:
            passed = smoke_test(url, wanted.key, sha256=wanted.model["sha256"], timeout=wanted.wait_seconds)
        except ServiceError as error:
            text = f"the test with a scan failed: {error.what} (its log ends: {last_lines(Path(file))})"
            raise ServiceError(text, where=error.where, remedy=error.remedy) from error
        log.info("Tried with a scan: %s", passed)

    def _undo(self) -> None:
        """As if it had not been begun."""
        if (record := self.services.find(self.wanted.name)) is not None:
            end(record.process, 0.0)
        self.services.forget(self.wanted.name)

    def _tidy_models(self, kept: Path) -> None:
        for folder in self.folder.glob("model-*"):
            if folder != kept:
                with suppress(OutputError):
                    remove_folder(folder)


def _end_all(record: Record, processes: list[Process]) -> list[str]:
    drain = float(record.settings.get("drain_seconds", 30.0))
    return [end(process, drain) for process in processes if alive(process)]


def _reload(url: str, token: str, model: Path) -> None:
    import json

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
    """This port, or a free one for 0, if nobody listens there.

    Raises:
        ConfigError: if somebody does, or the address is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            tried.listen(1)
            return int(tried.getsockname()[1])
    except OSError as error:
        text = f"{host}:{port} cannot be listened on ({error.strerror or error})"
        remedy = "Choose another local.port; 0 takes a free one."
        raise ConfigError(text, where="local.host, local.port", remedy=remedy) from None
