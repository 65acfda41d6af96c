"""Files that a model or a service labels: checks before, log lines and errors after."""

from __future__ import annotations

import logging
from pathlib import Path

from pointseg.core.errors import ConfigError, InvalidData
from pointseg.core.ranks import ranks_of_environment
from pointseg.core.text import counted, duration
from pointseg.data.checks.findings import finding_lines
from pointseg.engine.prediction import Predicted

__all__ = ["check_remission_scale", "log_interruption", "log_predicted", "refuse_failed"]

log = logging.getLogger(__name__)


def check_remission_scale(scale: float | None) -> None:
    """Raises ConfigError for what intensity cannot be divided by: anything but a positive number.

    Example:
        >>> check_remission_scale(255)
    """
    fits = isinstance(scale, int | float) and not isinstance(scale, bool) and scale > 0
    if scale is not None and not fits:
        raise ConfigError(f"{scale!r} is not a positive number", where="remission_scale", remedy="Such as 255.")


def log_interruption(*, overwrite: bool) -> None:
    """Log that the same command continues where this one was stopped."""
    log.info("The same command continues where this one stopped%s.", ", without overwrite=true" if overwrite else "")


def log_predicted(predicted: Predicted, output: Path | None, seconds: float) -> None:
    """Log the result of a prediction: notes, failures, counts, and where the labels are."""
    for note, file, files in predicted.notes.values():
        level = logging.WARNING if note.doubt else logging.INFO
        others = f" and {counted(files - 1, 'other file')}" if files > 1 else ""
        log.log(level, "%s%s: %s.%s", file, others, note.text, f" {note.remedy}" if note.remedy else "")
    for line in finding_lines(predicted.failed, limit=len(predicted.failed)):
        log.error("%s", line)
    done, ranks = len(predicted.done), ranks_of_environment()
    log.info(
        "Labelled %s with %s in %s%s%s",
        counted(done, "file"),
        counted(predicted.points, "point"),
        duration(seconds),
        f", {predicted.points / seconds:,.0f} points/s" if done else "",
        f", as process {ranks.rank + 1} of {ranks.world}" if ranks.world > 1 else "",
    )
    if predicted.skipped:
        log.info("  %s finished before", counted(predicted.skipped, "file"))
    if predicted.elsewhere:
        log.info("  %s finished by another process in the meantime", counted(predicted.elsewhere, "file"))
    if output is not None:
        log.info("  %s", output)


def refuse_failed(predicted: Predicted, files: int, given: str) -> None:
    """Fail if files could not be labelled.

    Args:
        files: how many there were.
        given: the value of `input`.

    Raises:
        InvalidData: with their number (exit code 2).
    """
    if predicted.failed:
        raise InvalidData(
            f"{counted(len(predicted.failed), 'file')} of {files:,} cannot be used",
            where=f"input={given}",
            remedy="See above; repair them and give the same command again.",
        )
