"""`python -m pointseg.serve` in the background: its process, and the file by which a folder knows it again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
from filelock import FileLock, Timeout

from pointseg.core.errors import ConfigError, OutputError, PointsegError, ServiceError
from pointseg.core.files import check_writable, remove_folder, write_json
from pointseg.core.package import FOLDER
from pointseg.core.redaction import redact_text
from pointseg.serving.client import Client

__all__ = [
    "Process",
    "ServiceRecord",
    "Services",
    "State",
    "is_running",
    "last_lines",
    "service_state",
    "start_service",
    "stop_service",
    "wait_until_serving",
]

BOOT = Path("/proc/sys/kernel/random/boot_id")
SERVING = re.compile(r"^Serving \S+ at (\S+) with .*$", re.MULTILINE)
LAST_LINES = 5
KILL_SECONDS = 10.0


class Process(NamedTuple):
    """A process that cannot be taken for a later one of the same number.

    Attributes:
        pid: its number, which the system gives again once it has ended.
        started: when it began, in ticks since the start of the system, and which start that was.
    """

    pid: int
    started: str


def _started(pid: int) -> str | None:
    """When a process began; None where there is none, or it has ended and nobody has asked how."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        with suppress(OSError, IndexError):
            # the 22nd field; its name, the second, may hold spaces and brackets
            ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
            return f"{BOOT.read_text(encoding='utf-8').strip()}:{ticks}"
        return f"{process.create_time():.2f}"
    except (psutil.Error, ValueError, OverflowError):
        return None


def is_running(process: Process) -> bool:
    """Whether it is this very process that runs under its number."""
    with suppress(OSError):
        os.waitpid(process.pid, os.WNOHANG)  # where it is a child of ours that has ended
    return _started(process.pid) == process.started


def start_service(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """A service in a session of its own, which the end of this command or of the terminal does not end.

    Args:
        words: of `python -m pointseg.serve`; no secrets, since others see a command line.
        log: takes what it says.
        environment: variables besides those of this process.

    Raises:
        OutputError: if the log cannot be written.
    """
    package = str(FOLDER.parent)  # this one, and not another that is installed
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        with open(log, "wb") as file:
            child = subprocess.Popen(
                [sys.executable, "-m", "pointseg.serve", *words],
                cwd=log.parent,
                env={**os.environ, **environment, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise OutputError(f"the service cannot be started ({error.strerror})", where=log) from error
    child.returncode = 0  # `is_running` asks for its end, and no warning shall say that it still runs
    return Process(child.pid, _started(child.pid) or "")


def wait_until_serving(process: Process, log: Path, seconds: float) -> str:
    """The address that it says it serves at.

    Raises:
        ServiceError: if it ends before, or takes too long; with the last lines of its log.
    """
    end_of_waiting = time.monotonic() + seconds
    while True:
        running = is_running(process)  # before the log is read: what it said last is in it then
        if match := SERVING.search(log.read_text(encoding="utf-8", errors="replace")):
            return match[1]
        if not running:
            raise ServiceError(f"the service ended at its start ({last_lines(log)})", remedy="Mend that and try again.")
        if time.monotonic() > end_of_waiting:
            text = f"the service did not begin to serve within {seconds:g} s ({last_lines(log)})"
            raise ServiceError(text, where="local.wait_seconds", remedy="Give it more time.")
        time.sleep(0.05)


def last_lines(log: Path) -> str:
    """How a log ends, in one line for an error."""
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        if kept := [line for line in lines if line][-LAST_LINES:]:
            return redact_text(" / ".join(kept))[-600:].rstrip(".")
    return "its log is empty"


def stop_service(process: Process, drain_seconds: float) -> str:
    """Tell it to stop and wait until it has ended: "stopped", or "killed" where it did not go in time, or "gone" where
    it had ended before.

    Args:
        drain_seconds: that it gives what is in flight.
    """
    if not is_running(process):
        return "gone"
    for number, seconds, outcome in (
        (signal.SIGTERM, drain_seconds + KILL_SECONDS, "stopped"),
        (signal.SIGKILL, KILL_SECONDS, "killed"),
    ):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        last = time.monotonic() + seconds
        while time.monotonic() < last:
            if not is_running(process):
                return outcome
            time.sleep(0.05)
    raise ServiceError("the process does not end", where=f"pid {process.pid}", remedy="Look at it with ps.")


State = Literal["running", "unhealthy", "dead"]
ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class ServiceRecord:
    """One service.

    Attributes:
        name: by which it is called.
        process: that serves.
        ready: whether it has passed its first test; else the command that made it was cut off.
        url: where.
        model: its sha256 and where it came from.
        settings: those of `python -m pointseg.serve`, and the version of the code.
        asks_key: whether callers need one. The key itself is kept nowhere.
        log: what it says.
        leaving: processes of it that shall end: an older one, or one for trying, of a command that was cut off.
    """

    name: str
    process: Process
    ready: bool
    url: str
    model: dict[str, str]
    settings: dict[str, Any]
    asks_key: bool
    log: str
    leaving: list[Process] = field(default_factory=list)

    def changed(self, **changes: Any) -> ServiceRecord:
        return replace(self, **changes)


class Services:
    """The folder of services, such as .pointseg/services.

    Example:
        >>> [record.name for record in Services(Path(".pointseg/services")).all()]
        ['local', 'street']
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[ServiceRecord]:
        """By name; a damaged file is an error.

        Raises:
            OutputError: for a file that does not hold a service.
        """
        return [record for path in sorted(self.folder.glob("*.json")) if (record := self.find(path.stem))]

    def find(self, name: str) -> ServiceRecord | None:
        """Raises OutputError if its file is damaged."""
        path = self._file(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["process"] = Process(*content["process"])
            content["leaving"] = [Process(*one) for one in content["leaving"]]
            return ServiceRecord(**content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged"
            remedy = "Remove it if no such service runs; its process is found by: ps -ef | grep pointseg.serve"
            raise OutputError(f"the file of the service cannot be read ({reason})", where=path, remedy=remedy) from None

    def write(self, record: ServiceRecord) -> None:
        """Raises OutputError."""
        write_json(self._file(record.name), asdict(record))

    def forget(self, name: str) -> None:
        """Remove the file, then what belongs to the service."""
        self._file(name).unlink(missing_ok=True)
        remove_folder(self.own_folder(name))

    def own_folder(self, name: str) -> Path:
        """For its model, its log and the token by which it is given another model."""
        return self.folder / name

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """While one command changes a service, no other one does.

        Raises:
            ConfigError: if another command is at it.
            OutputError: if the folder cannot be written.
        """
        check_writable(self.folder, "local.folder")
        lock = FileLock(self.folder / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError("another command is changing this service", where=name, remedy="Wait for it.") from None
        try:
            yield
        finally:
            lock.release()

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def service_state(record: ServiceRecord, key: str | None = None) -> tuple[State, str]:
    """How a service is, and why in a few words.

    Args:
        key: its own, where it is known; without it is only asked whether the service answers at all.
    """
    if not is_running(record.process):
        return "dead", f"process {record.process.pid} has ended"
    try:
        with Client(record.url, key, timeout=ANSWER_SECONDS, retries=0) as client:
            if not client.ready():
                return "unhealthy", "it does not answer, or stops"
            if key is None and record.asks_key:
                return "running", ""
            served = client.metadata()["model"].get("sha256")
    except ServiceError as error:
        return ("running", "key") if error.status == 401 else ("unhealthy", error.what)
    except PointsegError as error:
        return "unhealthy", error.what
    return ("running", "") if served == record.model["sha256"] else ("running", "model")
