"""Encoding scans in processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from pointseg.data.checking import Finding, ScanCheck
from pointseg.data.records import DoesNotFit, RecordFormat
from pointseg.data.sources import ScanSource
from pointseg.data.store.packing import PackedScan, pack_scan
from pointseg.errors import DataError
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap

__all__ = ["Failure", "Packer", "Result", "how_many", "packed_in_order"]

WORTH_PROCESSES = 24  # scans; below this, starting processes takes longer than it saves
IN_FLIGHT = 4  # scans for each process that are read or wait to be written: bounds memory


@dataclass(frozen=True)
class Failure:
    """A scan that cannot be packed."""

    name: str
    findings: list[Finding]
    misfit: str | None = None


Result = tuple["PackedScan | Failure", list[Finding]]


@dataclass(frozen=True)
class Packer:
    """What a worker process knows."""

    source: ScanSource
    label_map: LabelMap
    form: RecordFormat
    check: ScanCheck
    features: FeatureSpec | None
    keep_raw: bool
    keep_order: bool

    def __call__(self, number: int) -> Result:
        name = self.source.names[number]
        scan, findings = self.check.read(self.source, number)
        if scan is None or any(finding.is_error for finding in findings):
            return Failure(name, findings), findings
        try:
            packed = pack_scan(
                scan,
                name,
                self.label_map,
                self.form,
                self.features,
                keep_raw=self.keep_raw,
                keep_order=self.keep_order,
            )
        except DoesNotFit as error:
            return Failure(name, findings, f"{error} ({scan.path})"), findings
        return packed, findings


def how_many(wanted: int | None, scans: int) -> int:
    """Processes for so many scans: as wanted, else all cores if that is worth it."""
    if wanted is not None:
        return max(1, wanted)
    if scans < WORTH_PROCESSES or multiprocessing.parent_process() is not None:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


_packer: Packer | None = None  # of a worker process


def _start_worker(packer: Packer) -> None:
    global _packer
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the main process, which ends this one
    torch.set_num_threads(1)
    _packer = packer


def _pack_one(number: int) -> Result:
    assert _packer is not None
    return _packer(number)


def packed_in_order(packer: Packer, numbers: Sequence[int], processes: int) -> Generator[Result]:
    """Results in the order of `numbers`; a bounded number of scans in flight."""
    if processes == 1 or len(numbers) < 2:
        yield from map(packer, numbers)
        return
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])  # the workers share what importing takes
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker, initargs=(packer,))
    waiting: deque[Future[Any]] = deque()
    try:
        left = iter(numbers)
        for number in left:
            waiting.append(pool.submit(_pack_one, number))
            if len(waiting) >= IN_FLIGHT * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a packing process was ended from outside",
            where="prepare",
            remedy="If memory was short, set processes=1; the same command goes on where it stopped.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
