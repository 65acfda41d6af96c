"""Collected scans for tests: those of a folder, an hour for each sequence, in the layout of either sink."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pointseg.core.labels import LabelMap
from pointseg.data.folders import open_scans
from pointseg.quality.exploration_counts import sequence_of
from pointseg.quality.scan_record import make_record

BEGIN = datetime(2026, 11, 14, 6, 0, tzinfo=UTC)


def records_of(folder: Path, *, begin: datetime = BEGIN, factor: float = 1.0) -> list[dict[str, Any]]:
    """Args: factor: what remission is multiplied by."""
    source, label_map = open_scans(folder), LabelMap.load("semantickitti")
    sequences = sorted({sequence_of(name) for name in source.names})
    records = []
    for number, name in enumerate(source.names):
        points = source[number].points * np.array([1, 1, 1, factor], np.float32)
        time = begin + timedelta(hours=sequences.index(sequence_of(name)), seconds=number)
        ids = np.full(len(points), 10, np.uint32)
        known = {"time": time, "request_id": f"r{number}", "model": "street/3", "seconds": 0.08}
        record = make_record(points, ids, label_map, **known)
        assert record is not None
        records.append(record)
    return records


def write_lines(path: Path, contents: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((c if isinstance(c, str) else json.dumps(c)) + "\n" for c in contents), encoding="utf-8")
    return path


def event(*records: dict[str, Any], kind: str = "model_inputs") -> dict[str, Any]:
    """A line as Azure ML's data collector writes it."""
    return {
        "specversion": "1.0",
        "id": "0b8867",
        "source": "/subscriptions/s/onlineEndpoints/street/deployments/blue",
        "type": f"azureml.inference.{kind}",
        "datacontenttype": "application/json",
        "time": "2026-11-14T06:16:25Z",
        "data": list(records),
        "contentrange": "bytes 0-116/117",
        "correlationid": "r0",
        "xrequestid": "r0",
        "modelversion": "default",
        "collectdatatype": "pandas.core.frame.DataFrame",
        "agent": "azureml-ai-monitoring/1.0.0",
    }
