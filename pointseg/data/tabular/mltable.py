"""The MLTable file, by which Azure Machine Learning reads a folder of tables: written, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pointseg.core.errors import DataError

__all__ = ["MLTABLE", "TEXT_COLUMNS", "check_mltable", "mltable_text"]

MLTABLE = "MLTable"
SCHEMA = "https://azuremlschemas.azureedge.net/latest/MLTable.schema.json"
TEXT_COLUMNS = ("class", "sequence", "frame")


def mltable_text(suffix: str, columns: Sequence[str]) -> str:
    """The file that reads tables of points (CLI v2 MLTable YAML schema).

    Args:
        suffix: of the tables, ".parquet" or ".csv".
        columns: their names.
    """
    content = {
        "$schema": SCHEMA,
        "type": "mltable",
        "paths": [{"pattern": f"./*{suffix}"}],
        "transformations": _read_csv(columns)
        if suffix == ".csv"
        else [{"read_parquet": {"include_path_column": False}}],
    }
    return yaml.safe_dump(content, sort_keys=False)


def _read_csv(columns: Sequence[str]) -> list[dict[str, Any]]:
    # types are named: inferred from the first rows, sequence "08" would be a number
    integers = [name for name in ("label", "instance") if name in columns]
    reals = [name for name in columns if name not in (*integers, *TEXT_COLUMNS)]
    read = {
        "delimiter": ",",
        "encoding": "utf8",
        "header": "all_files_same_headers",
        "empty_as_string": False,
        "infer_column_types": False,
        "support_multi_line": False,
        "include_path_column": False,
    }
    types = [
        {"columns": reals, "column_type": "float"},
        *([{"columns": integers, "column_type": "int"}] if integers else []),
    ]
    return [{"read_delimited": read}, {"convert_column_types": types}]


def check_mltable(folder: Path) -> None:
    """Check that the folder's MLTable file reads files of this folder.

    Raises:
        DataError: if it does not.
    """
    path = folder / MLTABLE
    remedy = "Remove it, and a correct one is written."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"the file cannot be read ({type(error).__name__})", where=path, remedy=remedy) from error
    paths = content.get("paths") if isinstance(content, dict) else None
    if not isinstance(paths, list) or not paths or not all(isinstance(entry, dict) for entry in paths):
        raise DataError("the file has no paths", where=path, remedy=remedy)
    steps = content.get("transformations") or []
    if not any(isinstance(step, dict) and any(str(key).startswith("read_") for key in step) for step in steps):
        raise DataError("the file does not say how to read the tables", where=path, remedy=remedy)
    for entry in paths:
        _check_entry(entry, folder, path)


def _check_entry(entry: dict[str, Any], folder: Path, path: Path) -> None:
    kind, value = next(iter(entry.items()), ("", ""))
    if kind not in ("file", "folder", "pattern") or not isinstance(value, str) or len(entry) != 1:
        raise DataError(f"{entry} is not a path", where=path, remedy="Give file, folder or pattern.")
    if "://" in value:
        return
    if value.startswith("/") or ".." in Path(value).parts:
        raise DataError(
            "a path leads out of the folder, and only the folder is uploaded",
            where=f"{path}: {value}",
            remedy="Write it relative to the folder.",
        )
    present = any(folder.glob(value.removeprefix("./"))) if kind == "pattern" else (folder / value).exists()
    if not present:
        raise DataError("there is no such file", where=f"{path}: {value}", remedy="Correct the path.")
