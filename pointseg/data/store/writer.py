"""Packing a source of scans into a store: on all cores, resumable after a kill at any moment, never half a store.

Scans are grouped into shards in their order. Worker processes encode scans; this one appends them to the files of the
shard, which take their names when the shard is whole, followed by a note of it (`part-00000.npz`). A run that is started
again keeps the shards that have a note. `store.json` is written last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pointseg.data.checking import Finding, ScanCheck
from pointseg.data.instances import Instances
from pointseg.data.records import format_of
from pointseg.data.sources import Progress, ScanSource
from pointseg.data.store.layout import (
    FORMAT,
    HEADER,
    INDEX,
    INSTANCES,
    Header,
    Index,
    ShardFile,
    archive,
    unarchive,
)
from pointseg.data.store.packing import PackedScan
from pointseg.data.store.reader import PackedStore
from pointseg.data.store.shards import ShardWriter, index_rows, instance_rows
from pointseg.data.store.workers import Failure, Packer, Result, how_many, packed_in_order
from pointseg.errors import ConfigError, DataError, OutputError
from pointseg.features import FeatureSpec
from pointseg.files import whole_file, write_text
from pointseg.labels import LabelMap

__all__ = ["PackResult", "PackSettings", "pack"]

IN_PROGRESS = "packing.json"
DISK_RESERVE = 64 << 20


@dataclass(frozen=True)
class PackSettings:
    """What a store keeps.

    Args:
        record: "narrow" (8 bytes a point), "wide", or "auto": narrow if every value fits.
        features: whose surroundings are measured and kept, so that training need not look at whole scans; None for none.
        keep_raw: raw labels with instance ids.
        keep_order: the place of each point in its file, needed to write label files in the original order.
        shard_scans: scans in one shard.
        on_error: "stop": a bad file leaves no store; "skip": the good ones are packed.

    Raises:
        ConfigError: for values that are none of these.
    """

    record: str = "auto"
    features: FeatureSpec | None = field(default_factory=FeatureSpec)
    keep_raw: bool = False
    keep_order: bool = False
    shard_scans: int = 256
    on_error: str = "stop"

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("record", self.record, ("auto", "narrow", "wide")),
            ("on_error", self.on_error, ("stop", "skip")),
        ):
            if value not in allowed:
                raise ConfigError(f"there is no {value!r}", where=key, remedy=f"Use {', '.join(allowed)}.")
        if self.shard_scans < 1:
            raise ConfigError(f"{self.shard_scans} is less than 1", where="shard_scans")

    def describe(self) -> dict[str, Any]:
        """Plain values: what decides on the store's bytes."""
        surroundings = list(self.features.surroundings) if self.features else []
        return {
            "record": self.record,
            "surroundings": surroundings,
            "keep_raw": self.keep_raw,
            "keep_order": self.keep_order,
            "shard_scans": self.shard_scans,
        }


@dataclass(frozen=True)
class PackResult:
    """What came of packing.

    Attributes:
        store: the finished store; None if bad files stopped it.
        findings: what the checks found, in the order of the scans.
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
    progress: Progress | None = None,
) -> PackResult:
    """Write a packed store, or go on with one that was interrupted.

    Args:
        source: of the scans; must be picklable where processes are used.
        output: the store's folder.
        label_map: of the labels; it travels with the store.
        settings: what is kept.
        check: looks at every scan; what it finds wrong with one keeps it out.
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
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".packing.lock", timeout=0):
            try:
                return _Pack(source, output, label_map, settings, check, processes, progress).run()
            finally:  # only by who holds it
                (output / ".packing.lock").unlink(missing_ok=True)
    except Timeout as error:
        raise OutputError(
            "another process is packing into this folder", where=output, remedy="Wait for it, or name another folder."
        ) from error


class _Pack:
    """One run of `pack`."""

    def __init__(
        self,
        source: ScanSource,
        output: Path,
        label_map: LabelMap,
        settings: PackSettings,
        check: ScanCheck,
        processes: int | None,
        progress: Progress | None,
    ) -> None:
        self.source, self.output, self.label_map, self.settings = source, output, label_map, settings
        self.check, self.progress = check, progress
        self.processes = how_many(processes, len(source))
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
        record = self._begin()
        self._check_disk(record)
        try:
            complete = self._shards(record)
        except _TooNarrow as error:
            if self.settings.record == "narrow":
                raise DataError(f"a scan does not fit the narrow record: {error}", remedy="Set record=wide.") from error
            self._start_over("wide")
            complete = self._shards("wide")
        if not complete:
            return PackResult(None, self.findings, self.resumed)
        self._finish()
        return PackResult(PackedStore(self.output), self.findings, self.resumed)

    # ---- what there is already ----------------------------------------------------------------------------------

    def _fingerprint(self) -> str:
        """Of everything that decides on the store's bytes, as far as it is known before reading. Not of on_error: shards
        without a bad scan are the same either way."""
        known = {
            "format": FORMAT,
            "names": list(self.source.names),
            "points": self.source.expected_points,
            "source": getattr(self.source, "settings", {}),
            "labels": self.label_map.hash,
            "settings": self.settings.describe(),
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _begin(self) -> str:
        """The record format of this run: that of the interrupted one, if there is one."""
        path = self.output / IN_PROGRESS
        if path.is_file():
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
        return self._note("narrow" if self.settings.record == "auto" and not self._extra else self.settings.record)

    def _note(self, record: str) -> str:
        record = "wide" if record == "auto" else record
        write_text(self.output / IN_PROGRESS, json.dumps({"fingerprint": self.fingerprint, "record": record}) + "\n")
        return record

    def _start_over(self, record: str) -> None:
        """Every shard takes the other format: what is packed already goes."""
        self._tidy()
        self._note(record)
        self.findings, self.resumed, self.done = [], 0, 0

    @property
    def _extra(self) -> tuple[str, ...]:
        return tuple(getattr(self.source, "extra", ()))

    def _check_disk(self, record: str) -> None:
        form = format_of(record, self._extra)
        each = form.dtype.itemsize * max(1, int(np.prod(form.columns)))
        each += 2 * len(self.settings.features.surroundings) if self.settings.features else 0
        each += 4 * (self.settings.keep_raw + self.settings.keep_order)
        need = self.source.expected_points * each + DISK_RESERVE
        there = sum(path.stat().st_size for path in self.output.glob("*.bin"))
        free = shutil.disk_usage(self.output).free + there
        if need > free:
            raise OutputError(
                f"the store needs about {need / 1e9:.2f} GB and the disk has {free / 1e9:.2f}",
                where=self.output,
                remedy="Free some space, name another folder, or leave out surroundings.",
            )

    # ---- the work -----------------------------------------------------------------------------------------------

    def _shards(self, record: str) -> bool:
        """Pack every shard that has no note; whether all are there."""
        form = format_of(record, self._extra)
        size = self.settings.shard_scans
        shards = [range(first, min(first + size, len(self.source))) for first in range(0, len(self.source), size)]
        pending = {}
        for number, scans in enumerate(shards):
            if self._is_done(number, len(scans)):
                self.resumed += len(scans)
            else:
                pending[number] = scans
        self.done = self.resumed
        self._report(0)
        packer = Packer(
            self.source,
            self.label_map,
            form,
            self.check,
            self.settings.features,
            self.settings.keep_raw,
            self.settings.keep_order,
        )
        results = packed_in_order(packer, [scan for scans in pending.values() for scan in scans], self.processes)
        good = True
        try:
            for number, scans in pending.items():
                good &= self._shard(number, (next(results) for _ in scans))
        finally:
            results.close()
        return good

    def _is_done(self, number: int, scans: int) -> bool:
        """Whether a shard is packed; one that an earlier run left bad scans out of counts only where that is allowed."""
        try:
            note = self._read_note(number)
            if len(note["points"]) < scans and self.settings.on_error == "stop":
                return False
            sizes = {file["name"]: file["bytes"] for file in json.loads(str(note["files"])).values()}
            return all((self.output / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, DataError, KeyError, ValueError):
            return False

    def _read_note(self, number: int) -> dict[str, NDArray[Any]]:
        path = self.output / f"part-{number:05d}.npz"
        return unarchive(path.read_bytes(), path)

    def _shard(self, number: int, results: Iterator[Result]) -> bool:
        """Write the files of one shard and its note; whether no scan of it was bad, or bad ones are skipped."""
        rows: list[PackedScan] = []
        failed = False
        with ShardWriter(self.output, number) as writer:
            for result, findings in results:
                self.findings += findings
                self._report(1)
                if isinstance(result, Failure):
                    if result.misfit:
                        raise _TooNarrow(result.misfit)
                    failed = True
                elif not failed or self.settings.on_error == "skip":
                    writer.append(result.arrays)
                    rows.append(replace(result, arrays={}))
            if failed and self.settings.on_error == "stop":
                writer.discard()
                return False
        files = {kind: asdict(file) for kind, file in writer.files.items()}
        note = archive(
            {
                **index_rows(rows, number, self.label_map.num_classes + 1),
                **instance_rows(rows),
                "files": np.array(json.dumps(files)),
            }
        )
        with whole_file(self.output / f"part-{number:05d}.npz") as temporary:
            temporary.write_bytes(note)
        return True

    def _report(self, scans: int) -> None:
        self.done += scans
        if self.progress:
            self.progress(self.done, len(self.source))

    # ---- the end ------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        count = -(-len(self.source) // self.settings.shard_scans)
        index, instances, shards, scans = [], [], [], 0
        for number in range(count):
            note = self._read_note(number)
            shards.append({k: ShardFile(**f) for k, f in json.loads(str(note.pop("files"))).items()})
            objects = {name: note.pop(f"instances_{name}") for name in ("scan", "label", "size", "rows")}
            instances.append(Instances(**{**objects, "scan": objects["scan"] + scans}))
            index.append(Index(**note))
            scans += len(index[-1])
        joined, joined_instances = Index.joined(index), Instances.joined(instances)
        if not len(joined):
            raise DataError(
                "no scan could be packed",
                where="input",
                remedy="See the findings above, and mend or replace the files.",
            )
        header = Header(
            record=json.loads((self.output / IN_PROGRESS).read_text(encoding="utf-8"))["record"],
            extra=self._extra,
            surroundings=self.settings.features.surroundings if self.settings.features else (),
            label_map=self.label_map.to_dict(),
            label_map_hash=self.label_map.hash,
            scans=len(joined),
            points=int(joined.points.sum()),
            settings={"fingerprint": self.fingerprint, "source": getattr(self.source, "settings", {})},
            index=self._write(INDEX, archive({k: getattr(joined, k) for k in Index.__annotations__})),
            instances=self._write(
                INSTANCES, archive({k: getattr(joined_instances, k) for k in Instances.__annotations__})
            ),
            shards=tuple(shards),
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
        patterns = ["part-*.npz", ".*.tmp", IN_PROGRESS] + (["*-[0-9]*.bin"] if unfinished else [])
        for pattern in patterns:
            for path in self.output.glob(pattern):
                path.unlink(missing_ok=True)
