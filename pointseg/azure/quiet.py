"""The SDK's uploads without its colours, which it prints whether or not anybody looks."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

__all__ = ["quiet_unless_seen"]


@contextmanager
def quiet_unless_seen() -> Iterator[None]:
    """Within the block nothing is written to standard error, unless that is a terminal."""
    if sys.stderr.isatty():
        yield
        return
    with redirect_stderr(io.StringIO()):
        yield
