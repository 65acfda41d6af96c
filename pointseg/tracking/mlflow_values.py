"""Names, texts, numbers and files in the forms and sizes that every MLflow store accepts."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pointseg.core.redaction import redact, redact_text

__all__ = ["chunks", "flatten", "numbers", "safe_name", "ui_hint", "without_secrets"]

_T = TypeVar("_T")
_LONGEST_VALUE, _LONGEST_NAME = 6000, 250
_TEXT = frozenset({".cfg", ".env", ".ini", ".json", ".log", ".md", ".toml", ".txt", ".yaml", ".yml"})
_LARGEST_TEXT = 2_000_000  # bytes


def safe_name(name: str) -> str:
    """A name that MLflow accepts for a metric, parameter or tag: letters, digits, spaces and `_ - . / :`.

    Example:
        >>> safe_name("IoU (car)")
        'IoU _car_'
    """
    name = re.sub(r"[^/\w.\- :]", "_", name)
    return posixpath.normpath(name.replace("..", "_")).lstrip("/")[:_LONGEST_NAME] or "_"


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as texts without secrets; names are joined by dots, and lists are JSON.

    Example:
        >>> flatten({"model": {"depth": 3, "widths": [8, 16]}, "api_key": "x"})
        {'model.depth': '3', 'model.widths': '[8, 16]', 'api_key': '***'}
    """
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), item)
        else:
            as_json = isinstance(value, (list, tuple, Mapping))
            text = json.dumps(value, default=str) if as_json else redact_text(str(value))
            flat[safe_name(prefix)] = text[:_LONGEST_VALUE]

    if params:
        walk("", redact(params))
    return flat


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are numbers (Python, NumPy, or tensors of one element), under names that MLflow accepts.

    Example:
        >>> numbers({"loss": 1, "note": "none"})
        {'loss': 1.0}
    """
    result: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            result[safe_name(str(name))] = float(value)
        except (TypeError, ValueError, RuntimeError):  # a text, None, or a tensor with many elements
            continue
    return result


def chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """The items in groups of at most `size`, since MLflow limits the size of a request."""
    return (items[i : i + size] for i in range(0, len(items), size))


@contextmanager
def without_secrets(path: Path) -> Iterator[Path]:
    """The file or folder itself, or a copy of the same name if secrets had to be removed from small text files.

    Raises:
        OSError: if it cannot be read.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    dirty: dict[Path, str] = {}
    for file in files:
        if file.suffix.lower() in _TEXT and file.stat().st_size <= _LARGEST_TEXT:
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
            if (clean := redact_text(text)) != text:
                dirty[file] = clean
    if not dirty:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="pointseg-artifact-") as folder:
        copy = Path(folder) / path.name
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, copy)
        for file, clean in dirty.items():
            (copy / file.relative_to(path)).write_text(clean, encoding="utf-8", errors="surrogateescape")
        yield copy


def ui_hint(uri: str, database: Path | None, experiment_id: str, run_id: str) -> str:
    """A line that tells how to view the run."""
    if database is not None:
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1"
    if uri.startswith(("http:", "https:")):
        return redact_text(f"{uri}/#/experiments/{experiment_id}/runs/{run_id}")
    if uri.startswith("azureml:"):
        return f"Open the run {run_id} in Azure ML studio, https://ml.azure.com"
    return redact_text(f"Open the run {run_id} in {uri}")
