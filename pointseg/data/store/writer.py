"""Packs a source of scans into a store: on all cores, resumable after a kill at any moment, never half a store.

Scans are grouped into shards in their order. Worker processes encode scans; this one appends them to the files of the
shard, which take their names when the shard is complete, followed by a note of it (`part-00000.npz`). A run that is
started again keeps the shards that have a note. `store.json` is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from pointseg.core.errors import DataError, OutputError
from pointseg.core.files import free_space, whole_file, write_text
from pointseg.core.labels import LabelMap
from pointseg.core.processes import in_processes, is_worker, usable_cores
from pointseg.core.progress import Update
from pointseg.data.checks.findings import Finding
from pointseg.data.checks.scan_check import ScanCheck
from pointseg.data.instances import Instances
from pointseg.data.records import format_of
from pointseg.data.sources import ScanSource
from pointseg.data.store.layout import (
    HEADER,
    INDEX,
    INSTANCES,
    PACKING,
    STORE_FORMAT,
    Header,
    Index,
    ShardFile,
    archive,
    arrays_of,
)
from pointseg.data.store.packing import Packer, PackOutcome, PackSettings
from pointseg.data.store.reader import PackedStore
from pointseg.data.store.shards import ShardNote, ShardWriter

__all__ = ["PackResult", "pack"]

DISK_RESERVE = 64 << 20
WORTH_PROCESSES = 24  # scans; for fewer, starting processes takes longer than it saves


@dataclass(frozen=True)
class PackResult:
    """The result of packing.

    Attributes:
        store: the finished store; None if bad files stopped it.
        findings: of the checks, in the order of the scans.
        resumed: scans that an earlier run had packed.
    """

    store: PackedStore | None
    findings: list[Finding]
    resumed: int


class _TooNarrow(Exception):
    """A scan does not fit the narrow record."""


def pack(
    source: ScanSource,
    output: str | Path,
    label_map: LabelMap,
    settings: PackSettings | None = None,
    *,
    check: ScanCheck | None = None,
    processes: int | None = None,
    progress: Update | None = None,
) -> PackResult:
    """Write a packed store, or go on with one that was interrupted.

    Args:
        source: of the scans; must be picklable if processes are used.
        output: the store's folder.
        label_map: of the labels; it travels with the store.
        settings: what is kept.
        check: checks every scan; a scan with an error is not packed.
        processes: None takes all cores if that is worth it. The store does not depend on it.
        progress: called with (scans done, scans in all).

    Raises:
        OutputError: if the folder holds another store or unfinished work with other settings, is in use, or the disk is
            too small.
        DataError: if no scan is good, or a scan does not fit record=narrow.

    Example:
        >>> pack(SemanticKITTIScans("semantickitti", ["00"]), "packed", LabelMap.load("semantickitti")).store.header.scans
        4541
    """
    settings, output = settings or PackSettings(), Path(output).expanduser()
    check = check or ScanCheck(label_map)
    if len(source) == 0:
        raise DataError("there is no scan to pack", where="input")
    if processes is None:
        processes = 1 if len(source) < WORTH_PROCESSES or is_worker() else usable_cores()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".packing.lock", timeout=0):
            try:
                return _Packing(source, output, label_map, settings, check, max(1, processes), progress).run()
            finally:  # only by the process that holds it
                (output / ".packing.lock").unlink(missing_ok=True)
    except Timeout as error:
        raise OutputError(
            "another process is packing into this folder", where=output, remedy="Wait for it, or name another folder."
        ) from error


class _Packing:
    """One run of `pack`."""

    def __init__(
        self,
        source: ScanSource,
        output: Path,
        label_map: LabelMap,
        settings: PackSettings,
        check: ScanCheck,
        processes: int,
        progress: Update | None,
    ) -> None:
        self.source, self.output, self.label_map, self.settings = source, output, label_map, settings
        self.check, self.processes, self.progress = check, processes, progress
        self.extra: tuple[str, ...] = tuple(getattr(source, "extra", ()))
        self.fingerprint = self._fingerprint()
        self.findings: list[Finding] = []
        self.resumed = self.done = 0

    def run(self) -> PackResult:
        """Pack what is not packed yet."""
        if (self.output / HEADER).is_file():
            store = PackedStore(self.output)
            if store.header.settings.get("fingerprint") != self.fingerprint:
                raise OutputError(
                    "the folder holds a store of other data or settings",
                    where=self.output,
                    remedy="Name another folder, or remove this one first.",
                )
            self._tidy()
            return PackResult(store, [], len(store.index))
        record = self._unfinished_record() or self._begin(self.settings.record)
        self._check_disk(record)
        try:
            complete = self._pack_shards(record)
        except _TooNarrow as error:
            if self.settings.record == "narrow":
                raise DataError(f"a scan does not fit the narrow record: {error}", remedy="Set record=wide.") from error
            self._tidy()  # every shard takes the other format
            record = self._begin("wide")
            self.findings, self.resumed, self.done = [], 0, 0
            complete = self._pack_shards(record)
        if not complete:
            return PackResult(None, self.findings, self.resumed)
        self._finish(record)
        return PackResult(PackedStore(self.output), self.findings, self.resumed)

    # ---- before the work ----------------------------------------------------------------------------------------

    def _fingerprint(self) -> str:
        """Of everything that decides on the store's bytes, as far as it is known before reading. Not of on_error: shards
        without a bad scan are the same either way."""
        known = {
            "format": STORE_FORMAT,
            "names": list(self.source.names),
            "points": self.source.expected_points,
            "source": getattr(self.source, "settings", {}),
            "labels": self.label_map.hash,
            "settings": self.settings.describe(),
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _unfinished_record(self) -> str | None:
        """The record format of the interrupted run that this one continues; None if there is none."""
        path = self.output / PACKING
        if not path.is_file():
            return None
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            earlier = {}
        if earlier.get("fingerprint") != self.fingerprint:
            raise OutputError(
                "the folder holds unfinished packing of other data or settings",
                where=self.output,
                remedy="Finish it with the same command, name another folder, or remove this one first.",
            )
        return str(earlier["record"])

    def _begin(self, record: str) -> str:
        """Note the record format of this run."""
        if record == "auto":
            record = "wide" if self.extra else "narrow"
        write_text(self.output / PACKING, json.dumps({"fingerprint": self.fingerprint, "record": record}) + "\n")
        return record

    def _check_disk(self, record: str) -> None:
        form = format_of(record, self.extra)
        each = form.dtype.itemsize * max(1, int(np.prod(form.columns)))
        each += 2 * len(self.settings.surroundings) + 4 * (self.settings.keep_raw + self.settings.keep_order)
        need = self.source.expected_points * each + DISK_RESERVE
        written = sum(path.stat().st_size for path in self.output.glob("*.bin"))
        free = free_space(self.output)
        if free is not None and need > free + written:
            raise OutputError(
                f"the store needs about {need / 1e9:.2f} GB and the disk has {(free + written) / 1e9:.2f}",
                where=self.output,
                remedy="Free some space, name another folder, or leave out surroundings.",
            )

    # ---- the work -----------------------------------------------------------------------------------------------

    def _shards(self) -> list[range]:
        """The scans of each shard."""
        size = self.settings.shard_scans
        return [range(first, min(first + size, len(self.source))) for first in range(0, len(self.source), size)]

    def _pack_shards(self, record: str) -> bool:
        """Pack every shard that has no note; whether all are complete."""
        shards = self._shards()
        pending = [number for number, scans in enumerate(shards) if not self._is_packed(number, len(scans))]
        scans = [scan for number in pending for scan in shards[number]]
        self.done = self.resumed = len(self.source) - len(scans)
        self._report(0)
        packer = Packer(self.source, self.label_map, format_of(record, self.extra), self.check, self.settings)
        outcomes = in_processes(packer, scans, self.processes)
        complete = True
        try:
            for number in pending:
                complete &= self._pack_shard(number, (next(outcomes) for _ in shards[number]))
        except BrokenProcessPool as error:
            raise DataError(
                "a packing process was ended from outside",
                where="prepare",
                remedy="If memory was short, set processes=1; the same command goes on where it stopped.",
            ) from error
        finally:
            outcomes.close()
        return complete

    def _is_packed(self, number: int, scans: int) -> bool:
        """Whether a shard is packed; one that lacks bad scans counts only if they may be skipped."""
        try:
            note = ShardNote.read(self.output, number)
            if len(note.index) < scans and self.settings.on_error == "stop":
                return False
            return all((self.output / file.name).stat().st_size == file.bytes for file in note.files.values())
        except (OSError, DataError, KeyError, TypeError, ValueError):
            return False

    def _pack_shard(self, number: int, outcomes: Iterator[PackOutcome]) -> bool:
        """Write the files of one shard and its note; whether no scan of it was bad, or bad ones are skipped."""
        failed = False
        with ShardWriter(self.output, number, self.label_map.num_classes + 1) as writer:
            for outcome in outcomes:
                self.findings += outcome.findings
                self._report(1)
                if outcome.misfit:
                    raise _TooNarrow(outcome.misfit)
                if outcome.packed is None:
                    failed = failed or self.settings.on_error == "stop"
                elif not failed:
                    writer.append(outcome.packed)
            if failed:
                writer.discard()
        if not failed:
            writer.note.write(self.output, number)
        return not failed

    def _report(self, scans: int) -> None:
        self.done += scans
        if self.progress:
            self.progress(self.done, len(self.source))

    # ---- the end ------------------------------------------------------------------------------------------------

    def _finish(self, record: str) -> None:
        notes = [ShardNote.read(self.output, number) for number in range(len(self._shards()))]
        index = Index.joined([note.index for note in notes])
        if not len(index):
            raise DataError(
                "no scan could be packed",
                where="input",
                remedy="See the findings above, and mend or replace the files.",
            )
        firsts = np.cumsum([0, *(len(note.index) for note in notes)])
        objects = [note.instances for note in notes]
        instances = Instances.joined(
            [replace(o, scan=o.scan + first) for o, first in zip(objects, firsts, strict=False)]
        )
        header = Header(
            record=record,
            extra=self.extra,
            surroundings=self.settings.surroundings,
            label_map=self.label_map.to_dict(),
            label_map_hash=self.label_map.hash,
            scans=len(index),
            points=int(index.points.sum()),
            settings={"fingerprint": self.fingerprint, "source": getattr(self.source, "settings", {})},
            index=self._write(INDEX, archive(arrays_of(index))),
            instances=self._write(INSTANCES, archive(arrays_of(instances))),
            shards=tuple(note.files for note in notes),
        )
        write_text(self.output / HEADER, header.to_json())
        self._tidy()

    def _write(self, name: str, content: bytes) -> ShardFile:
        with whole_file(self.output / name) as temporary:
            temporary.write_bytes(content)
        return ShardFile(name, len(content), hashlib.sha256(content).hexdigest())

    def _tidy(self) -> None:
        """Remove what only unfinished work needs; of an unfinished store, everything."""
        unfinished = not (self.output / HEADER).is_file()
        for pattern in ("part-*.npz", ".*.tmp", PACKING, *(["*-[0-9]*.bin"] if unfinished else [])):
            for path in self.output.glob(pattern):
                path.unlink(missing_ok=True)
