"""Runs a function in several processes of this machine, with its results in order, or once in a fresh one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from pointseg.core.errors import PointsegError

__all__ = ["WorkFailed", "in_fresh_process", "in_processes", "is_worker", "usable_cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT = 4  # items for each process that are in work or wait to be taken: bounds memory


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_worker() -> bool:
    """Whether another process has started this one to share work; more processes would compete with its siblings."""
    return multiprocessing.parent_process() is not None


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int, *, finish_here: bool = False
) -> Generator[Result]:
    """Results in the order of the items; a few are in flight, so that memory stays bounded.

    Args:
        work: must be picklable; it is sent to each process once. It runs in this process if `processes` is 1.
        finish_here: if a process is killed, or none can be started, do the rest in this process.

    Raises:
        BrokenProcessPool: if that happens without `finish_here`.

    Example:
        >>> list(in_processes(abs, [-1, 2, -3], processes=2))
        [1, 2, 3]
    """
    done = 0
    if processes > 1 and len(items) > 1:
        try:
            with closing(_in_pool(work, items, processes)) as results:
                for result in results:
                    yield result
                    done += 1
        except BrokenProcessPool:
            if not finish_here:
                raise
    yield from map(work, items[done:])


def _in_pool(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Generator[Result]:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)  # a fork would copy locks that other threads hold
    if method == "forkserver":
        context.set_forkserver_preload([type(work).__module__])  # the workers share the time that imports take
    pool = ProcessPoolExecutor(min(processes, len(items)), context, initializer=_start_worker, initargs=(work,))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_run, item))
            if len(waiting) >= IN_FLIGHT * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any], Any] | None = None  # of a worker process


def _start_worker(work: Callable[[Any], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the main process, which ends this one
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    _work = work


def _run(item: Any) -> Any:
    assert _work is not None
    return _work(item)


# ---- one piece of work in a process of its own -------------------------------------------------------------------


class WorkFailed(RuntimeError):
    """Work in a process of its own ended without a result; the text says why."""


def in_fresh_process(work: Callable[..., Result], *arguments: Any) -> Result:
    """The result of `work(*arguments)` in a new process, which has nothing of this one's memory and ends afterwards.

    Args:
        work: a function of a module, picklable as its arguments and its result are.

    Raises:
        WorkFailed: if it raises an error, or the process is killed.

    Example:
        >>> in_fresh_process(abs, -3)
        3
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, arguments), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is seen
    try:
        succeeded, answer = mine.recv()
    except EOFError:
        process.join()
        raise WorkFailed(f"its process was killed (exit code {process.exitcode}); memory may have run out") from None
    finally:
        mine.close()
        process.terminate()
        process.join()
    if not succeeded:
        raise WorkFailed(answer)
    return answer  # type: ignore[no-any-return]


def _answer(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the main process, which ends this one
    try:
        answer = True, work(*arguments)
    except PointsegError as error:
        answer = False, str(error)
    except Exception as error:
        answer = False, f"{type(error).__name__}: {error}"
    pipe.send(answer)
