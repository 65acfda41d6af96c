"""Runs a job as processes of this machine, which are told their places as those of a cluster are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pointseg.core.errors import ConfigError, InvalidData, JobFailed, OutputError, PeerLost
from pointseg.core.processes import usable_cores
from pointseg.jobs.spec import JobSpec

__all__ = ["LocalProcesses", "run_locally"]

LOOK = 0.1  # seconds between looks at the processes
PATIENCE = (
    10.0  # seconds that the others get to end by themselves when one has failed, and again after they were asked to
)
LAST_WORDS = 12  # lines of a failed process that are shown
STOPPED = 130  # the exit code of what was asked to stop


@dataclass
class LocalProcesses:
    """Processes of this machine that work together as those of a cluster do: `compute=local_ddp`.

    Args:
        nodes: machines, played by groups of processes.
        processes: on each.
        threads: of each process; None: the cores shared evenly.

    Example:
        >>> LocalProcesses(processes=2).run(JobSpec("pointseg.train", ("+experiment=quick",), processes=2), Path("run"))
        0
    """

    nodes: int = 1
    processes: int = 2
    threads: int | None = None

    def run(self, job: JobSpec, folder: Path) -> int:
        """Run a job to its end; a process that has found bad files is no failure of the others. See `run_locally`."""
        return run_locally(job, folder / "ranks", threads=self.threads, partial=InvalidData.exit_code)


@dataclass
class _Process:
    """One process of the job; the words of all but the first go to a file."""

    rank: int
    running: subprocess.Popen[bytes]
    log: Path | None

    @property
    def code(self) -> int | None:
        return self.running.poll()

    def last_words(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_WORDS:]
        return "".join(f"\n  {line}" for line in lines)


def run_locally(
    spec: JobSpec, logs: Path, *, threads: int | None = None, python: str = sys.executable, partial: int | None = None
) -> int:
    """Run a job to its end, and give its exit code, that of the first process.

    What the first process says goes where this one's words go; the others write to `logs`/rank-1.log and so on. If one fails,
    the others, which would wait for it, are stopped within half a minute. Ctrl-C and SIGTERM reach all of them; their end is
    waited for.

    Args:
        spec: what to run.
        logs: a folder for the words of the other processes.
        threads: of each process; None: the cores shared evenly, unless OMP_NUM_THREADS is set.
        python: the interpreter.
        partial: an exit code that is no failure of the job: the others go on to their end, then what such a process has
            said is said here, and this is the job's code.

    Raises:
        JobFailed: if another process than the first one failed by itself, naming it with its last words.
        OutputError: if the logs cannot be written.
        ConfigError: for more threads than make sense, of which torch would die.

    Example:
        >>> run_locally(JobSpec("pointseg.train", ("+experiment=quick",), processes=2), Path("logs"))
        0
    """
    most = 4 * (os.cpu_count() or 1)
    if threads is not None and not 1 <= threads <= most:
        raise ConfigError(
            f"{threads} threads cannot be used here", where="compute.threads", remedy=f"Give 1 to {most}."
        )
    processes: list[_Process] = []
    with TemporaryDirectory(prefix="pointseg-job-") as folder, _signals(processes) as asked:
        spec.write_config(Path(folder), private=True)  # it may hold a password
        command = [python, "-m", spec.module, *replace(spec, arguments=spec.placed()).words(folder)]
        try:
            for rank, variables in enumerate(_places(spec, threads)):
                processes.append(_start(command, rank, variables, logs))
            code = _until_end(processes, partial, asked)
            return code or _partly(processes, partial)
        finally:
            _stop(processes)


def _places(spec: JobSpec, threads: int | None) -> Iterator[dict[str, str]]:
    """The environment of each process."""
    cores = usable_cores()
    default = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // spec.world)))
    common = {
        **spec.variables,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(spec.world),
        "LOCAL_WORLD_SIZE": str(spec.processes),
        "OMP_NUM_THREADS": default if threads is None else str(threads),
    }
    for rank in range(spec.world):
        node, local_rank = divmod(rank, spec.processes)
        yield {**common, "RANK": str(rank), "LOCAL_RANK": str(local_rank), "NODE_RANK": str(node)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(command: Sequence[str], rank: int, variables: dict[str, str], logs: Path) -> _Process:
    log = None if rank == 0 else logs / f"rank-{rank}.log"
    environment = {**os.environ, **variables}
    # a group of its own: Ctrl-C reaches it once, by this process, and not from the terminal as well
    settings: dict[str, Any] = {"env": environment, "start_new_session": True, "stdin": subprocess.DEVNULL}
    if log is None:
        return _Process(rank, subprocess.Popen(command, **settings), None)
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as file:
            return _Process(rank, subprocess.Popen(command, stdout=file, stderr=file, **settings), log)
    except OSError as error:
        raise OutputError(f"the words of process {rank} cannot be written ({error.strerror})", where=log) from error


def _partly(processes: Sequence[_Process], partial: int | None) -> int:
    """The code of a job some of whose processes have done only a part; the words of those that nobody has heard."""
    parts = [process for process in processes if process.code and process.code == partial]
    for process in parts:
        if process.log is not None:
            print(f"Process {process.rank} (its words are in {process.log}):", file=sys.stderr)
            print(process.log.read_text(encoding="utf-8", errors="replace").rstrip(), file=sys.stderr)
    return partial or 0 if parts else 0


def _until_end(processes: Sequence[_Process], partial: int | None, asked: Sequence[int]) -> int:
    """Wait for all; when one has failed, for the others only so long.

    Those that were asked to stop end in their own time, one sooner than another; asked twice, they get little.
    """
    failed: _Process | None = None
    limit = float("inf")
    while any(process.code is None for process in processes) and time.monotonic() < limit:
        time.sleep(LOOK)
        if len(asked) == 1:
            limit = float("inf")
        elif limit == float("inf") and (asked or (failed := _first_to_fail(processes, partial))):
            limit = time.monotonic() + PATIENCE
    failed = _first_to_fail(processes, partial)  # the cause may end after those that fail for want of it
    if failed is None:
        return 0
    if asked:
        return STOPPED
    code = failed.code or 0
    if code > 0 and processes[0].code == code:
        return code  # the first process has said why itself
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    others = len(processes) - 1
    raise JobFailed(
        f"process {failed.rank} of the job ended by {how}, and the {others} other{'s were' if others > 1 else ' was'} stopped"
        f"{failed.last_words()}",
        where=failed.log,
    )


def _first_to_fail(processes: Sequence[_Process], partial: int | None) -> _Process | None:
    """Of several that failed since the last look, the likeliest cause: one that was killed, or at least did not fail for want
    of another."""

    def order(process: _Process) -> int:
        code = process.code or 0
        return 0 if code < 0 else 2 if code == PeerLost.exit_code else 1

    return min((process for process in processes if process.code not in (None, 0, partial)), key=order, default=None)


def _stop(processes: Sequence[_Process]) -> None:
    """Ask what still runs to end, and end it if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = [process for process in processes if process.code is None]
        for process in left:
            process.running.send_signal(number)
        end = time.monotonic() + PATIENCE
        while any(process.code is None for process in left) and time.monotonic() < end:
            time.sleep(LOOK)


@contextmanager
def _signals(processes: list[_Process]) -> Iterator[list[int]]:
    """Hand Ctrl-C and SIGTERM on, so that the processes end in order and this one after them; gives what has come."""
    asked: list[int] = []

    def hand_on(number: int, frame: Any) -> None:
        asked.append(number)
        for process in processes:
            if process.code is None:
                process.running.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
