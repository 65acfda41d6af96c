"""Steps of a plan: listed as a table, carried out in order, and taken back where one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pointseg.azure.errors import AzureError
from pointseg.core.errors import PointsegError
from pointseg.core.text import counted

__all__ = ["Action", "Step", "carry_out"]

log = logging.getLogger(__name__)

Action = Literal["create", "update", "keep", "replace", "delete", "archive", "check"]
DONE = {
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "delete": "deleted",
    "archive": "archived",
    "check": "passed",
}


@dataclass(frozen=True)
class Step:
    """One thing in Azure, and what will be done about it.

    Attributes:
        kind: of thing, such as "compute cluster".
        name: of the thing.
        action: "keep" where it already is as it should be: nothing is done then.
        differences: what changes, a few words each, such as "max_nodes: 2 -> 4".
        do: does it, and returns when it is done; None with "keep".
        notes: what to know before it is done, such as its cost.
        undo: takes back what the step did, even in part, where it or a later step fails; returns a phrase that says what
            was taken back. None: what was done stays. Steps may share one, which is called once.
        settles: once this step is done, nothing before it is taken back.

    Raises:
        ValueError: if `do` is missing for an action other than "keep".
    """

    kind: str
    name: str
    action: Action
    differences: tuple[str, ...] = ()
    do: Callable[[], object] | None = None
    notes: tuple[str, ...] = ()
    undo: Callable[[], str] | None = None
    settles: bool = False

    def __post_init__(self) -> None:
        if self.action != "keep" and self.do is None:
            raise ValueError(f"{self.kind} {self.name}: nothing carries out {self.action}")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def carry_out(steps: Sequence[Step], *, plan: bool, agreed: Callable[[int], bool] = lambda number: True) -> bool:
    """Log all steps as a table, then carry them out in order; with `plan`, only log them.

    Args:
        steps: each relies on those before it.
        plan: change nothing.
        agreed: asked after the table, with the number of steps to do, whether to go ahead.

    Returns:
        Whether everything is as it should be now: False with `plan`, or if `agreed` says no.

    Raises:
        AzureError: if a step fails: what failed and why, what was done before it, what of that was taken back, and what
            was not done. After Ctrl-C the same is logged.

    Example:
        >>> carry_out([Step("compute cluster", "gpu-cluster", "update", ("max_nodes: 2 -> 4",), grow)], plan=False)
    """
    _log_table(steps)
    waiting = [step for step in steps if step.action != "keep"]
    if plan:
        log.info("Nothing was changed: plan=true. %s to do.", counted(len(waiting), "step"))
        return False
    if not waiting:
        log.info("Nothing to do: everything is as it should be.")
        return True
    if not agreed(len(waiting)):
        log.info("Nothing was changed.")
        return False
    done: list[Step] = []
    for number, step in enumerate(waiting):
        log.info("%d/%d %s: %s ...", number + 1, len(waiting), step.action, step)
        try:
            assert step.do is not None
            step.do()
        except PointsegError as error:
            account = _account(done, step, waiting[number + 1 :])
            raise AzureError(
                f"{step} failed: {error.what}. {account}", where=error.where, remedy=error.remedy
            ) from error
        except BaseException:  # Ctrl-C, or a fault of ours
            log.warning("Stopped during: %s. %s.", step, _account(done, step, waiting[number + 1 :]))
            raise
        done.append(step)
        log.info("%d/%d %s: %s", number + 1, len(waiting), DONE[step.action], step)
    return True


def _log_table(steps: Sequence[Step]) -> None:
    """One line for each step, then one for each difference and each note."""
    widths = [max((len(text) for text in column), default=0) for column in zip(*map(_row, steps), strict=True)]
    for step in steps:
        log.info("%s", "  ".join(text.ljust(width) for text, width in zip(_row(step), widths, strict=True)).rstrip())
        for line in step.differences:
            log.info("    %s", line)
        for line in step.notes:
            log.info("    note: %s", line)


def _row(step: Step) -> tuple[str, str, str]:
    return step.action, step.kind, step.name


def _account(done: Sequence[Step], failed: Step, left: Sequence[Step]) -> str:
    """Take back what must not stay after a failure; what was taken back, what was done, and what was not."""
    settled = max((number + 1 for number, step in enumerate(done) if step.settles), default=0)
    undone = _undo([step for step in [failed, *reversed(done[settled:])] if step.undo is not None])
    made = ", ".join(f"{step} ({DONE[step.action]})" for step in done) or "nothing"
    prefix = f"Taken back: {'; '.join(undone)}. " if undone else ""
    return f"{prefix}Done before it: {made}; not done: {', '.join(map(str, left)) or 'nothing else'}"


def _undo(steps: Sequence[Step]) -> list[str]:
    """Take steps back in this order; a phrase for each. The first failure ends it, since the others rely on it."""
    phrases: list[str] = []
    called: list[object] = []
    if steps:
        log.warning("Taking back what was done ...")
    for number, step in enumerate(steps):
        assert step.undo is not None
        if step.undo in called:
            continue
        called.append(step.undo)
        try:
            phrases.append(step.undo())
        except (PointsegError, KeyboardInterrupt) as error:
            why = error.what if isinstance(error, PointsegError) else "stopped"
            left = ", ".join(dict.fromkeys(map(str, steps[number:])))
            return [*phrases, f"NOT taken back: {left} ({why}); look at it in the studio"]
        log.warning("Taken back: %s", phrases[-1])
    return phrases
