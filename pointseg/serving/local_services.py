"""Which services this folder has in the background: a file for each, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pointseg.client import Client
from pointseg.errors import ConfigError, OutputError, PointsegError, ServiceError
from pointseg.files import check_writable, remove_folder, write_json
from pointseg.serving.local_process import Process, alive

__all__ = ["Record", "Services", "State", "state_of"]

State = Literal["running", "unhealthy", "dead"]
ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Record:
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

    def but(self, **changes: Any) -> Record:
        return replace(self, **changes)


class Services:
    """The folder of services, such as .pointseg/services.

    Example:
        >>> [record.name for record in Services(Path(".pointseg/services")).all()]
        ['local', 'street']
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Record]:
        """By name; a damaged file is an error.

        Raises:
            OutputError: for a file that does not hold a service.
        """
        return [record for path in sorted(self.folder.glob("*.json")) if (record := self.find(path.stem))]

    def find(self, name: str) -> Record | None:
        """Raises OutputError if its file is damaged."""
        path = self._file(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["process"] = Process(*content["process"])
            content["leaving"] = [Process(*one) for one in content["leaving"]]
            return Record(**content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged"
            remedy = "Remove it if no such service runs; its process is found by: ps -ef | grep pointseg.serve"
            raise OutputError(f"the file of the service cannot be read ({reason})", where=path, remedy=remedy) from None

    def write(self, record: Record) -> None:
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


def state_of(record: Record, key: str | None = None) -> tuple[State, str]:
    """How a service is, and why in a few words.

    Args:
        key: its own, where it is known; without it is only asked whether the service answers at all.
    """
    if not alive(record.process):
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
