"""Numbers and lists as text for people."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["counted", "duration", "listed"]


def counted(number: int, noun: str) -> str:
    """1 -> "1 scan", 1200 -> "1,200 scans"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"


def listed(names: Sequence[str], most: int = 24) -> str:
    """The first few of many: "a, b, c and 9 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
