"""What is there, what is wanted, what will be done: said as a table, then done in order.

Nothing of Azure is imported here: what a step does is its own affair.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pointseg.azure.errors import AzureError
from pointseg.errors import PointsegError
from pointseg.words import counted

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
        action: "keep" where it is as it is wanted: nothing is done then.
        differences: what changes, each a few words, such as "max_nodes: 2 -> 4".
        do: does it, and comes back when it is done; None with "keep".
        notes: what is worth knowing before it is done, such as that it costs.
        undo: takes back what it did, also by halves, where it or a later step fails; gives words that say what was taken
            back. None: what was done stays. Steps may share one, which is called once.
        settles: once it is done, nothing before it is taken back.

    Raises:
        ValueError: if there is nothing to call for something that is to be done.
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
            raise ValueError(f"{self.kind} {self.name}: nothing does the step {self.action}")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def carry_out(steps: Sequence[Step], *, plan: bool, agreed: Callable[[int], bool] = lambda number: True) -> None:
    """Say all steps in a table, then do them in order; with `plan`, only say them.

    Args:
        steps: in the order in which they are done; each relies on those before it.
        plan: change nothing.
        agreed: asked, once the table is said, whether so many steps shall be done.

    Raises:
        AzureError: if a step fails: what failed and why, what was done before it, what of that was taken back, and what
            was not done. After Ctrl-C the same is logged.

    Example:
        >>> carry_out([Step("compute cluster", "gpu-cluster", "update", ("max_nodes: 2 -> 4",), grow)], plan=False)
    """
    _say(steps)
    waiting = [step for step in steps if step.action != "keep"]
    if plan:
        log.info("Nothing was changed: plan=true. %s to do.", counted(len(waiting), "step"))
        return
    if not waiting:
        log.info("Nothing to do: all is as it is wanted.")
        return
    if not agreed(len(waiting)):
        log.info("Nothing was changed.")
        return
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
            log.warning("Stopped while at: %s. %s.", step, _account(done, step, waiting[number + 1 :]))
            raise
        done.append(step)
        log.info("%d/%d %s: %s", number + 1, len(waiting), DONE[step.action], step)


def _say(steps: Sequence[Step]) -> None:
    """One line a step, then a line each for what changes and what is worth knowing."""
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
    """What was done before a failure, what is taken back of it, here, and what was not done; the step that failed is
    told by itself."""
    settled = max((number + 1 for number, step in enumerate(done) if step.settles), default=0)
    taken_back = [step for step in [failed, *reversed(done[settled:])] if step.undo is not None]
    undone = _undo(taken_back)
    made = ", ".join(f"{step} ({DONE[step.action]})" for step in done) or "nothing"
    words = f"{undone}. " if undone else ""
    return f"{words}Done before it: {made}; not done: {', '.join(map(str, left)) or 'nothing else'}"


def _undo(steps: Sequence[Step]) -> str:
    """Take steps back in this order, and say how; the first that cannot be ends it, since the others rely on it."""
    said: list[str] = []
    seen: list[object] = []
    if steps:
        log.warning("Taking back what was done ...")
    for number, step in enumerate(steps):
        assert step.undo is not None
        if any(step.undo is one for one in seen):
            continue
        seen.append(step.undo)
        try:
            words = step.undo()
        except (PointsegError, KeyboardInterrupt) as error:
            why = error.what if isinstance(error, PointsegError) else "stopped"
            left = list(dict.fromkeys(str(one) for one in steps[number:]))
            said.append(f"NOT taken back: {', '.join(left)} ({why}); look at it in the studio")
            break
        said.append(words)
        log.warning("Taken back: %s", words)
    return f"Taken back: {'; '.join(said)}" if said else ""
