"""Files that a model or a service labels: what is refused about them, and what is said at the end."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from pointseg.data.checking import finding_lines
from pointseg.errors import ConfigError, InvalidData
from pointseg.prediction import Predicted, Share
from pointseg.prediction.files import ON_ERROR
from pointseg.words import counted, duration

__all__ = ["check_files", "refuse_failed", "say_predicted", "without_overwrite"]

log = logging.getLogger(__name__)


def check_files(config: DictConfig) -> None:
    """Refuse what is wrong about the files to read, before work begins.

    Raises:
        ConfigError: naming the key.
    """
    if not config.input:
        raise ConfigError("no input is given", where="input", remedy="Name a file, a folder or a pattern: input=SCANS.")
    if config.on_error not in ON_ERROR:
        raise ConfigError(f"there is no {config.on_error!r}", where="on_error", remedy=f"Use {' or '.join(ON_ERROR)}.")
    scale = config.remission_scale
    if scale is not None and not (isinstance(scale, int | float) and not isinstance(scale, bool) and scale > 0):
        raise ConfigError(f"{scale!r} divides nothing", where="remission_scale", remedy="Give a number, such as 255.")


def without_overwrite(config: DictConfig) -> str:
    """How the command to go on differs from the one that was stopped."""
    return ", without overwrite=true" if config.overwrite else ""


def refuse_failed(found: Predicted, files: int, config: DictConfig) -> None:
    """End with exit code 2 if files failed.

    Raises:
        InvalidData: saying how many of them.
    """
    if found.failed:
        raise InvalidData(
            f"{counted(len(found.failed), 'file')} of {files:,} cannot be used",
            where=f"input={config.input}",
            remedy="See above; mend and give the same command again.",
        )


def say_predicted(found: Predicted, output: Path | None, seconds: float) -> None:
    """What a prediction of files came to: notes, failures, counts, and where the results are."""
    for note, file, files in found.notes.values():
        level = logging.WARNING if note.doubt else logging.INFO
        others = f" and {counted(files - 1, 'other file')}" if files > 1 else ""
        log.log(level, "%s%s: %s.%s", file, others, note.text, f" {note.remedy}" if note.remedy else "")
    for line in finding_lines(found.failed, limit=len(found.failed)):
        log.error("%s", line)
    done, share = len(found.done), Share.of_environment()
    log.info(
        "Labelled %s with %s in %s%s%s",
        counted(done, "file"),
        counted(found.points, "point"),
        duration(seconds),
        f", {found.points / seconds:,.0f} points/s" if done else "",
        f", as process {share.rank + 1} of {share.world}" if share.world > 1 else "",
    )
    if found.skipped:
        log.info("  %s finished before", counted(found.skipped, "file"))
    if found.elsewhere:
        log.info("  %s finished by another process meanwhile", counted(found.elsewhere, "file"))
    if output is not None:
        log.info("  %s", output)
