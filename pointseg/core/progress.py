"""How a task talks to the caller: callbacks for its progress, and for a yes-or-no question to the person who started it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Ask", "Progress", "Update", "nobody", "silent"]

Update = Callable[[int, int], None]  # (done, in all)
Progress = Callable[[str], Update]  # makes the callback for a named piece of work
Ask = Callable[[str], bool]


def silent(what: str) -> Update:
    """No progress is shown.

    Example:
        >>> silent("scoring")(3, 10)
    """
    return lambda done, total: None


def nobody(question: str) -> bool:
    """If nobody can be asked, the answer is no.

    Example:
        >>> nobody("Cancel the job as well?")
        False
    """
    return False
