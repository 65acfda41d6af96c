"""Findings: what is wrong or unusual about a file, as data that can be listed, counted and written to a report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pointseg.core.errors import PointsegError
from pointseg.core.text import counted

__all__ = ["LEVELS", "Finding", "finding_lines", "finding_of", "shown"]

LEVELS = ("error", "warning", "note")


def shown(path: object) -> str:
    """A path as text that can be printed and written anywhere: control characters and bytes that are not UTF-8 escaped.

    Example:
        >>> shown(b"0000\\xff\\n.bin")
        '0000\\\\xff\\\\n.bin'
    """
    raw = os.fsencode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path).encode()
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or unusual.

    Attributes:
        level: "error" (the file cannot be used), "warning" or "note".
        kind: a short name, the same for the same kind of fault.
        file: the file or folder it is about.
        what: what is wrong.
        remedy: what to do.
        or_file: the other file of a pair that does not match, if that one may be at fault instead.
    """

    level: str
    kind: str
    file: str
    what: str
    remedy: str = ""
    or_file: str = ""

    def __post_init__(self) -> None:
        for key in ("file", "what", "or_file"):
            object.__setattr__(self, key, shown(getattr(self, key)))

    @property
    def is_error(self) -> bool:
        return self.level == "error"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.level}: {self.what}: {self.file}." + (f" {self.remedy}" if self.remedy else "")


def finding_of(error: PointsegError, where: object = None) -> Finding:
    """An error as a finding; `where` is the file, if the error names none."""
    place = where if error.where is None else error.where
    return Finding("error", _kind(error), shown(place), error.what, error.remedy)


def finding_lines(findings: Iterable[Finding], limit: int = 20) -> list[str]:
    """Lines for a terminal, errors first: at most `limit`, then how many more there are.

    Example:
        >>> finding_lines([Finding("error", "empty file", "000000.bin", "the point file is empty", "Copy it again.")])
        ['error: the point file is empty: 000000.bin. Copy it again.']
    """
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    lines = [str(finding) for finding in ordered[:limit]]
    left = [finding.level for finding in ordered[limit:]]
    if left:
        counts = [counted(left.count(level), level) for level in LEVELS if level in left]
        lines.append(f"and {', '.join(counts)} more")
    return lines


KINDS = {  # kind -> what the message of such an error contains
    "missing file": ("missing",),
    "not a file": ("folder where a file",),
    "empty file": ("empty",),
    "cut off": ("multiple",),
    "not finite": ("nan", "infinite"),
    "label count": ("labels for",),
}


def _kind(error: PointsegError) -> str:
    message = error.what.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in message for part in parts)), "unreadable")
