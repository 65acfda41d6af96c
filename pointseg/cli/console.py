"""The terminal: progress bars, questions to whoever sits there, and where messages go while no run logs them."""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from pointseg.core.package import shipped_folder

__all__ = ["log_to_console", "log_to_file", "progress_bar", "says_yes"]


def progress_bar(what: str) -> Callable[[int, int], None]:
    """A callback (done, in all) that draws a bar on a terminal and is silent elsewhere."""
    bar: tqdm[Any] | None = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=what, unit="scan", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return update


def says_yes(question: str) -> bool:
    """Whether the question is answered with y or yes; nobody at a terminal means no."""
    return _answer(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")


def _answer(prompt: str) -> str:
    try:
        return input(prompt) if sys.stdin.isatty() else ""
    except (EOFError, KeyboardInterrupt):
        return ""


def log_to_console() -> None:
    """Messages go where those of a run go, but to no file: what Hydra does for a run, for a command that starts several."""
    logging.config.dictConfig(_logging("console"))


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Messages go to a file as well, as those of a run do."""
    handler = logging.FileHandler(path, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_logging("pointseg")["formatters"]["dated"]["format"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _logging(option: str) -> dict[str, Any]:
    path = shipped_folder("configs") / "hydra" / "job_logging" / f"{option}.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
