"""`python -m pointseg.serve` as a process in the background: started, waited for, known again, and told to stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

import pointseg
from pointseg.errors import OutputError, ServiceError
from pointseg.redact import redact_text

__all__ = ["Process", "alive", "end", "last_lines", "start", "wait_until_serving"]

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


def alive(process: Process) -> bool:
    """Whether it is this very process that runs under its number."""
    with suppress(OSError):
        os.waitpid(process.pid, os.WNOHANG)  # where it is a child of ours that has ended
    return _started(process.pid) == process.started


def start(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """A service in a session of its own, which the end of this command or of the terminal does not end.

    Args:
        words: of `python -m pointseg.serve`; no secrets, since others see a command line.
        log: takes what it says.
        environment: variables besides those of this process.

    Raises:
        OutputError: if the log cannot be written.
    """
    package = str(Path(pointseg.__file__).resolve().parents[1])  # this one, and not another that is installed
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
    child.returncode = 0  # `alive` asks for its end, and no warning shall say that it still runs
    return Process(child.pid, _started(child.pid) or "")


def wait_until_serving(process: Process, log: Path, seconds: float) -> str:
    """The address that it says it serves at.

    Raises:
        ServiceError: if it ends before, or takes too long; with the last lines of its log.
    """
    end_of_waiting = time.monotonic() + seconds
    while True:
        running = alive(process)  # before the log is read: what it said last is in it then
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


def end(process: Process, drain_seconds: float) -> str:
    """Tell it to stop and wait until it has ended: "stopped", or "killed" where it did not go in time, or "gone" where
    it had ended before.

    Args:
        drain_seconds: that it gives what is in flight.
    """
    if not alive(process):
        return "gone"
    for number, seconds, outcome in (
        (signal.SIGTERM, drain_seconds + KILL_SECONDS, "stopped"),
        (signal.SIGKILL, KILL_SECONDS, "killed"),
    ):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        last = time.monotonic() + seconds
        while time.monotonic() < last:
            if not alive(process):
                return outcome
            time.sleep(0.05)
    raise ServiceError("the process does not end", where=f"pid {process.pid}", remedy="Look at it with ps.")
