"""The entry script of Azure ML's batch deployments and parallel jobs: folders of clouds -> files of labels.

Azure calls `init()` once in each of its processes and `run(FILES)` for each mini-batch. What is written are the files, byte
for byte, that `python -m pointseg.predict` writes with the same model: a scan of a data set in SemanticKITTI's layout goes to
sequences/SS/predictions/FRAME.label, another file where it lies within the input.

`run` gives a line for each file that has its labels. One that cannot be used is missing among them, which is how Azure
counts failures (error_threshold, mini_batch_error_threshold); what is wrong with it is said in the log and in
failed/NAME.txt of the output.

Where the output goes: AZUREML_BI_OUTPUT_PATH, as batch endpoints set it, or `--output DIR` among the words of a parallel job,
as `--bundle DIR` in place of AZUREML_MODEL_DIR. Settings: `--input DIR` (POINTSEG_INPUT), the folder that places are relative
to, where neither Azure's own words nor its names of mounted folders tell it; POINTSEG_WRITE, POINTSEG_PROBABILITIES,
POINTSEG_STRICT and POINTSEG_REMISSION_SCALE, as those keys of pointseg.predict; WORKER_COUNT, the processes that share the
machine's cores.
Needs environments/batch.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from pointseg.core.errors import ConfigError, PointsegError
from pointseg.core.files import check_writable, write_text
from pointseg.core.ranks import Ranks
from pointseg.core.redaction import install_log_redaction, redact_text
from pointseg.data.checks.findings import shown
from pointseg.data.formats import KINDS, require_packages
from pointseg.data.formats.cloud_files import PROBABILITIES_SUFFIX
from pointseg.engine.prediction.files import predict_files
from pointseg.engine.prediction.inputs import LABEL_TARGETS, Item, target_of
from pointseg.engine.predictor import Predictor
from pointseg.serving.azure_model import find_bundle, number_setting, switch_setting, threads_of_worker

__all__ = ["FAILED_FOLDER", "init", "place_of", "run"]

log = logging.getLogger("pointseg.batch")

FAILED_FOLDER = "failed"  # folder of the output: what was wrong with files, a text each
MOUNTED = "INPUT_"  # Azure mounts the input called NAME as .../INPUT_NAME
BESIDE = re.compile(r"(?:^|/)sequences/[^/]+/")
OF_INPUTS = ("AZURE_ML_INPUT", "AZUREML_DATAREFERENCE")  # variables that name such folders, as the driver's
OF_INPUT, OF_ENDPOINT = "--input_asset_", "--batch_endpoint_enabled"  # words do, of a batch endpoint
SEQUENCE = re.compile(r"(?:^|/)sequences/([^/]+)/velodyne/([^/]+\.bin)$|(?:^|/)(\d\d)/velodyne/([^/]+\.bin)$")


@dataclass(frozen=True)
class _Batch:
    """What a process has, once it has begun."""

    predictor: Predictor
    output: Path
    bases: tuple[Path, ...]
    locks: Path
    write: str
    probabilities: bool
    remission_scale: float | None


_batch: _Batch | None = None


def init() -> None:
    """Load the model, once in each process.

    Raises:
        CheckpointError: if AZUREML_MODEL_DIR holds no bundle, or two, or a damaged one.
        ConfigError: if a setting is wrong, or no output folder is named.
        OutputError: if that folder cannot be written.
    """
    global _batch
    install_log_redaction()
    try:
        _batch = _begin(sys.argv[1:])
    except PointsegError as error:
        log.error("error: %s", error)  # in one line, before the driver's stack trace
        raise


def _begin(words: list[str]) -> _Batch:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for name in ("--output", "--input", "--bundle", OF_ENDPOINT):
        parser.add_argument(name)
    given, others = parser.parse_known_args(words)  # the driver's own words stand beside ours
    named = None if given.batch_endpoint_enabled else given.output
    place = named or os.environ.get("AZUREML_BI_OUTPUT_PATH", "")
    if not place:
        raise ConfigError(
            "no output folder is named", where="AZUREML_BI_OUTPUT_PATH", remedy="Set it, or give --output DIR."
        )
    output = Path(place)
    check_writable(output, "AZUREML_BI_OUTPUT_PATH")
    base = given.input or os.environ.get("POINTSEG_INPUT")
    bases = [base] if base else [*_after(others, OF_INPUT), *map(_folder_of, os.environ.items())]
    torch.set_num_threads(threads_of_worker(torch.get_num_threads()))
    model = find_bundle(given.bundle or os.environ.get("AZUREML_MODEL_DIR", ""))
    predictor = Predictor.load(
        model, "cuda" if torch.cuda.is_available() else "cpu", strict=switch_setting("POINTSEG_STRICT")
    )
    write = os.environ.get("POINTSEG_WRITE") or "auto"
    if write not in LABEL_TARGETS:
        raise ConfigError(f"there is no {write!r}", where="POINTSEG_WRITE", remedy=f"Use {', '.join(LABEL_TARGETS)}.")
    scale = number_setting("POINTSEG_REMISSION_SCALE", 0, may_be_zero=True)
    log.info("Loaded %s; %d threads; labels go to %s", model, torch.get_num_threads(), output)
    return _Batch(
        predictor,
        output,
        tuple(Path(folder) for folder in bases if folder),
        # the output is mounted, and such a disk may not lock files; Azure gives each file to one machine
        Path(tempfile.gettempdir()) / f"pointseg-{hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]}",
        write,
        switch_setting("POINTSEG_PROBABILITIES"),
        scale or None,
    )


def run(mini_batch: list[str]) -> list[str]:
    """Label the files of a mini-batch.

    Args:
        mini_batch: their paths.

    Returns:
        A line for each that has its labels, now or from an earlier attempt: `SOURCE -> PLACE`, the place within the output;
        and one for each that is no point cloud.

    Raises:
        OutputError: if the output cannot be written, or holds the labels of another model.

    Example:
        >>> run(["/mnt/input/sequences/08/velodyne/000000.bin"])
        ['/mnt/input/sequences/08/velodyne/000000.bin -> sequences/08/predictions/000000.label']
    """
    if _batch is None:
        raise ConfigError("init() was not called", where="run")
    items, failed, ignored = [], {}, []
    for name in mini_batch:
        source = Path(name)
        if _is_other(source):
            ignored.append(f"{name}: not a point cloud, and left out")
            continue
        try:
            items.append(_item(source, _batch))
        except PointsegError as error:  # no room for labels, or a package that is missing here
            failed[source] = str(error)
    if items:
        found = predict_files(
            _batch.predictor,
            items,
            _batch.output,
            probabilities=_batch.probabilities,
            remission_scale=_batch.remission_scale,
            ranks=Ranks(),  # Azure has shared the files out; RANK, where it is set, is another's
            locks=_batch.locks,
        )
        for note, file, files in found.notes.values():
            log.warning("%s (%d of this mini-batch): %s", file, files, note.text)
        for finding in found.failed:
            failed[_source_of(finding.file, items)] = str(finding).removeprefix("error: ")
    for source, text in failed.items():
        _report(source, redact_text(text))
    done = [item for item in items if item.source not in failed]
    for item in done:
        _note_of(item.source).unlink(missing_ok=True)  # of an earlier attempt
    return [f"{item.source} -> {item.target.relative_to(_batch.output)}" for item in done] + ignored


def _is_other(source: Path) -> bool:
    """Whether a file is none that `pointseg.predict` would take up: of another kind, hidden, or beside a sequence's scans."""
    name, place = source.name, source.as_posix()
    known = source.suffix.lower() in KINDS and not name.startswith(".") and not name.endswith(PROBABILITIES_SUFFIX)
    return not known or (BESIDE.search(place) is not None and SEQUENCE.search(place) is None)


def _item(source: Path, batch: _Batch) -> Item:
    require_packages({source.suffix})
    place = place_of(source, batch.bases)
    target = target_of(place, batch.write)
    for suffix in KINDS:
        other = source.with_suffix(suffix)
        if other != source and target_of(place.with_suffix(suffix), batch.write) == target and other.exists():
            raise ConfigError(
                f"{source.name} and {other.name} would both become {target.name}",
                where=source,
                remedy="Keep kinds in folders of their own.",
            )
    return Item(source, batch.output / target)


def place_of(source: Path, bases: Sequence[Path] = ()) -> Path:
    """Where a file's result lies within the output, with the file's own name.

    By SemanticKITTI's layout; else relative to the folder among `bases` that it lies in, or that Azure has mounted the input
    as; a file of which neither is known goes to a folder that stands for its own, so that files of one name do not meet.

    Example:
        >>> place_of(Path("/mnt/x/INPUT_scans/dataset/sequences/08/velodyne/000000.bin"))
        PosixPath('sequences/08/predictions/000000.bin')
        >>> place_of(Path("/mnt/x/INPUT_scans/town/street.pcd"))
        PosixPath('town/street.pcd')
    """
    layout = SEQUENCE.search(source.as_posix())
    if layout:
        return Path("sequences", layout[1] or layout[3], "predictions", layout[2] or layout[4])
    mounted = [parent for parent in source.parents if parent.name.startswith(MOUNTED)]
    for folder in (*bases, *mounted):
        if source.is_relative_to(folder) and source != folder:
            return source.relative_to(folder)
    return Path("elsewhere", hashlib.sha256(source.parent.as_posix().encode()).hexdigest()[:8], source.name)


def _after(words: Sequence[str], start: str) -> list[str]:
    """The values of options whose names begin so."""
    return [value for name, value in pairwise(words) if name.startswith(start) and value.startswith("/")]


def _folder_of(variable: tuple[str, str]) -> str | None:
    name, value = variable
    return value if name.startswith(OF_INPUTS) and value.startswith("/") else None


def _source_of(named: str, items: list[Item]) -> Path:
    """The file that a finding is about, which may name a part of it as well."""
    return max((item.source for item in items if shown(item.source) in named), key=lambda source: len(str(source)))


def _note_of(source: Path) -> Path:
    assert _batch is not None
    place = place_of(source, _batch.bases)
    return _batch.output / FAILED_FOLDER / place.with_name(f"{place.name}.txt")


def _report(source: Path, text: str) -> None:
    """Say what is wrong with a file, in the log and beside the results."""
    log.error("%s", text)
    write_text(_note_of(source), f"{text}\n")
