"""Choose the clouds that are worth labelling."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError, DataError, OutputError
from pointseg.core.files import check_writable, expanded, write_json, write_text
from pointseg.core.progress import Progress, silent
from pointseg.core.text import counted
from pointseg.data.formats import finite_points, read_cloud
from pointseg.data.semantickitti import read_poses
from pointseg.engine.prediction.inputs import find_clouds
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.devices import choose_compute
from pointseg.quality.frame_choice import Chosen, FrameFacts, choose_frames, describe_frame
from pointseg.workflows.labelling.labelled_files import check_remission_scale
from pointseg.workflows.model_location import fetched_checkpoint, required
from pointseg.workflows.settings.select import SelectConfig

__all__ = ["Selected", "select"]

log = logging.getLogger(__name__)

BLIND = ("uniform", "random")  # methods that need no model


@dataclass(frozen=True)
class Selected:
    """What was chosen.

    Attributes:
        files: the clouds, the most useful first.
        why: of each, in the same order.
        looked_at: how many were compared.
        failed: those that could not be read, with the reason.
    """

    files: list[Path]
    why: list[Chosen]
    looked_at: int
    failed: dict[Path, str]


def select(config: SelectConfig, *, progress: Progress = silent) -> Selected:
    """Choose `count` clouds of `input`, and write their paths into `output`.

    Args:
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if a key is missing or cannot be used.
        CheckpointError, DataError, OutputError: if the model, the input or the output cannot be used.

    Example:
        >>> select(SelectConfig(input="scans", output="next.txt", count=20)).files[0]
        PosixPath('scans/sequences/00/velodyne/000120.bin')
    """
    check_choices(config)
    source = required(config.input, "input", "Name a folder or a pattern: input=SCANS.")
    output = expanded(required(config.output, "output", "Name a file: output=FILE.txt."))
    if output.suffix != ".txt":
        raise ConfigError("the list is a text file", where=f"output={config.output}", remedy="Name it FILE.txt.")
    if config.count < 1 or not config.spacing >= 0:
        where = "count" if config.count < 1 else "spacing"
        raise ConfigError(f"{getattr(config, where)} cannot be used", where=where, remedy="Give more.")
    check_remission_scale(config.remission_scale)
    known = _read_list(config.known)
    place_of = find_clouds(source)
    check_writable(output.parent, "output")
    if config.copy is not None:
        check_writable(expanded(config.copy), "copy")
    files = _apart(list(place_of), config.spacing, known)
    looking = progress("looking at clouds")
    facts, failed = _facts(config, files, looking)
    files = [file for file in files if file not in failed]
    if not files:
        raise DataError("no cloud can be read", where=f"input={source}", remedy=next(iter(failed.values()), ""))
    labelled = [number for number, file in enumerate(files) if file.resolve() in known]
    why = choose_frames(facts, config.count, config.method, known=labelled, seed=config.seed)
    chosen = [files[one.index] for one in why]
    if config.copy is not None:
        _copy(chosen, place_of, expanded(config.copy))
    write_json(output.with_suffix(".json"), _reasons(config, chosen, why, len(files), failed))
    write_text(output, "".join(f"{file}\n" for file in chosen))
    log.info("Chose %s of %d, by %s", counted(len(chosen), "cloud"), len(files) - len(labelled), config.method)
    for file, reason in failed.items():
        log.warning("left out: %s: %s", file, reason)
    log.info("  %s\n  %s", output, output.with_suffix(".json"))
    return Selected(chosen, why, len(files), failed)


def _read_list(name: str | None) -> set[Path]:
    """The clouds of an earlier list."""
    if name is None:
        return set()
    path = expanded(name)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the list cannot be read ({type(error).__name__})", where=f"known={name}") from error
    return {Path(line.strip()).expanduser().resolve() for line in lines if line.strip()}


def _apart(files: list[Path], metres: float, known: set[Path]) -> list[Path]:
    """Of each drive with poses the first cloud, and each that is so many metres from the last one taken; all others."""
    taken: list[Path] = []
    last: dict[Path, NDArray[np.float64]] = {}
    poses: dict[Path, NDArray[np.float64] | None] = {}
    for file in files:
        drive = file.parent.parent
        if drive not in poses:
            poses[drive] = _positions(drive) if file.parent.name == "velodyne" else None
        track = poses[drive]
        if track is None or not metres or not file.stem.isdigit() or int(file.stem) >= len(track):
            taken.append(file)
            continue
        here = track[int(file.stem)]
        if file.resolve() in known or drive not in last or np.linalg.norm(here - last[drive]) >= metres:
            last[drive] = here
            taken.append(file)
    return taken


def _positions(drive: Path) -> NDArray[np.float64] | None:
    """(frames, 3) of the sensor in a drive in SemanticKITTI's layout; None without usable poses."""
    try:
        return read_poses(drive / "poses.txt", drive / "calib.txt")[:, :3, 3]
    except DataError:
        return None


def _facts(
    config: SelectConfig, files: Sequence[Path], looking: Callable[[int, int], None] | None
) -> tuple[list[FrameFacts], dict[Path, str]]:
    """What the model says of each cloud that can be read, and the others with the reason."""
    blind = config.method in BLIND
    predictor = None
    if not blind:
        checkpoint = required(config.checkpoint, "checkpoint", "Name it: checkpoint=RUN_FOLDER.")
        path = fetched_checkpoint(checkpoint, config.tracking, Path.cwd())
        compute = choose_compute(config.accelerator)
        predictor = Predictor.load(path, compute.device, models=config.models)
        log.info("Looking at %s with %s, on %s", counted(len(files), "cloud"), path, compute.reason)
    facts: list[FrameFacts] = []
    failed: dict[Path, str] = {}
    for number, file in enumerate(files):
        try:
            facts.append(_none() if predictor is None else _facts_of(predictor, file, config))
        except DataError as error:
            failed[file] = error.what
        if looking is not None:
            looking(number + 1, len(files))
    return facts, failed


def _none() -> FrameFacts:
    return FrameFacts(np.zeros(1), 0.0, np.ones(1))


def _facts_of(predictor: Predictor, file: Path, config: SelectConfig) -> FrameFacts:
    cloud = read_cloud(file, remission_scale=config.remission_scale, extra=predictor.extra, columns=config.columns)
    points, _ = finite_points(cloud, predictor.extra)
    views = [points]
    if config.mirror:
        views.append(points * np.where(np.arange(points.shape[1]) == 1, -1, 1).astype(np.float32))
    answers = [predictor.predict(view, probabilities=True).probabilities for view in views]
    return describe_frame(points, np.mean([answer for answer in answers if answer is not None], axis=0))


def _copy(chosen: Sequence[Path], place_of: dict[Path, Path], folder: Path) -> None:
    """Copies in folders as those of the input; sequences keep the layout of SemanticKITTI."""
    for file in chosen:
        place = place_of[file]  # of a sequence: sequences/SS/predictions/FRAME.bin, where its labels would go
        in_sequence = file.parent.name == "velodyne" and place.parent.name == "predictions"
        target = folder / (place.parent.parent / "velodyne" / file.name if in_sequence else place)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        except OSError as error:
            raise OutputError(f"the cloud cannot be copied ({error.strerror})", where=target) from error


def _reasons(
    config: SelectConfig, chosen: Sequence[Path], why: Sequence[Chosen], looked_at: int, failed: dict[Path, str]
) -> dict[str, object]:
    blind = config.method in BLIND
    return {
        "method": config.method,
        "checkpoint": None if blind else config.checkpoint,
        "looked_at": looked_at,
        "chosen": [
            {"file": str(file)}
            if blind
            else {
                "file": str(file),
                "uncertainty": round(one.uncertainty, 4),
                "rarity": round(one.rarity, 4),
                "distance": None if np.isinf(one.distance) else round(one.distance, 4),
            }
            for file, one in zip(chosen, why, strict=True)
        ],
        "failed": {str(file): reason for file, reason in failed.items()},
    }
