"""Records of scans: the same statistics as from the scans, both layouts, and lines that cannot be used."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collected_helpers import BEGIN, event, records_of, write_lines
from verbs import kitti_folder

from pointseg.core.errors import DataError
from pointseg.core.labels import LabelMap
from pointseg.data.folders import open_scans
from pointseg.quality.collected_scans import CollectedScans, is_collected, measure_collected
from pointseg.quality.input_statistics import InputStatistics, measure
from pointseg.quality.scan_record import RECORD_MARK, make_record, parse_record


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kitti_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def records(kitti: Path) -> list[dict[str, Any]]:
    return records_of(kitti)


def assert_same(found: InputStatistics, expected: InputStatistics) -> None:
    """To the last bit."""
    assert (found.scans, found.sequences) == (expected.scans, expected.sequences)
    assert found.quantities.keys() == expected.quantities.keys()
    for name, quantity in expected.quantities.items():
        np.testing.assert_array_equal(found.quantities[name].vectors, quantity.vectors, err_msg=name)
        assert found.quantities[name].spread == quantity.spread


def test_the_statistics_are_exactly_those_of_the_scans(kitti: Path, records: list[Any], tmp_path: Path) -> None:
    write_lines(tmp_path / "2026/11/14/06/a.jsonl", records)
    assert_same(measure_collected(CollectedScans(tmp_path)), measure(open_scans(kitti)))


def test_events_of_azure_hold_the_same(records: list[Any], tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "plain/a.jsonl", records)
    folder = tmp_path / "azure/modelDataCollector/street/blue/model_inputs/2026/11/14"
    write_lines(folder / "06/one.jsonl", [event(*records[:2])])
    write_lines(folder / "07/two.jsonl", [event(record) for record in records[2:]])
    assert is_collected(tmp_path / "azure")
    assert_same(measure_collected(CollectedScans(tmp_path / "azure")), measure_collected(CollectedScans(plain)))


def test_a_record_is_small_and_holds_no_point() -> None:
    points = np.random.default_rng(0).normal(0, 12, (50_000, 4)).astype(np.float32)
    ids, label_map = np.full(len(points), 40, np.uint32), LabelMap.load("semantickitti")
    record = make_record(points, ids, label_map, time=BEGIN, request_id="a", model="m/1", seconds=0.1)
    assert record is not None
    assert len(json.dumps(record)) < 3000
    assert record["classes"] == {"road": 50_000}
    numbers = {value for counts in record["counts"].values() for value in counts}
    assert all(isinstance(value, int) for value in numbers)
    assert parse_record(json.loads(json.dumps(record))).time == BEGIN


def test_an_empty_scan_has_no_record() -> None:
    points = np.full((3, 4), np.nan, np.float32)
    nothing = {"time": BEGIN, "request_id": "a", "model": "m/1", "seconds": 0.1}
    assert make_record(points, np.zeros(3, np.uint32), LabelMap.load("semantickitti"), **nothing) is None


def damaged(record: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**record, **values}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oh", "not JSON"),
        ("[1, 2]", "not a record of a scan"),
        ({"data": [[1, 2, 3]]}, "not a record of a scan"),
        ({"type": "azureml.inference.request", "data": {"data": []}}, "an event of the kind azureml.inference.request"),
        ({RECORD_MARK: 2}, "version 2"),
        (lambda r: damaged(r, time="yesterday"), "damaged"),
        (lambda r: damaged(r, time="2026-11-14T06:00:00"), "without a zone"),
        (lambda r: damaged(r, counts={**r["counts"], "azimuth": [1]}), "36 bins"),
        (lambda r: damaged(r, counts={**r["counts"], "azimuth": [1] * 36}), "do not add up"),
        (lambda r: damaged(r, counts={**r["counts"], "range": [-1] * 41}), "not a count"),
        (lambda r: damaged(r, counts={"range": r["counts"]["range"]}), "a quantity is missing"),
        (lambda r: {key: value for key, value in r.items() if key != "model"}, "damaged"),
    ],
)
def test_lines_that_cannot_be_used_are_named(line: Any, reason: str, records: list[Any], tmp_path: Path) -> None:
    bad = line(records[0]) if callable(line) else line
    path = write_lines(tmp_path / "a.jsonl", [records[0], bad, *records[1:]])
    found = CollectedScans(tmp_path)
    assert len(found) == len(records)
    assert [(one.path, one.number) for one in found.bad] == [(path, 2)]
    assert reason in str(found.bad[0])


def test_a_line_that_is_being_written_is_not_damaged(records: list[Any], tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", records)
    path.write_bytes(path.read_bytes() + json.dumps(records[0]).encode()[:700])
    found = CollectedScans(tmp_path)
    assert (len(found), found.bad, found.unfinished) == (len(records), [], [path])


def test_only_the_time_that_is_asked_for(records: list[Any], tmp_path: Path) -> None:
    for number, record in enumerate(records):
        hour = datetime.fromisoformat(record["time"])
        write_lines(tmp_path / f"{hour:%Y/%m/%d/%H}/{number}.jsonl", [record])
    hours = [BEGIN + timedelta(hours=number) for number in range(3)]
    assert {name[:13] for name in CollectedScans(tmp_path, since=hours[1]).names} == {"2026-11-14T07", "2026-11-14T08"}
    assert {name[:13] for name in CollectedScans(tmp_path, until=hours[1]).names} == {"2026-11-14T06"}
    with pytest.raises(DataError, match="no scan was collected in this time"):
        CollectedScans(tmp_path, since=datetime(2027, 1, 1, tzinfo=UTC))


def test_a_folder_is_judged_by_what_stands_in_it(kitti: Path, records: list[Any], tmp_path: Path) -> None:
    write_lines(tmp_path / "good/noted", ["", "{broken", records[0]])
    write_lines(tmp_path / "other/a.jsonl", [{"event": "request"}])
    assert is_collected(tmp_path / "good")
    assert is_collected(tmp_path / "good/noted")
    assert not is_collected(tmp_path / "other")
    assert not is_collected(kitti)
    assert not is_collected(tmp_path / "nowhere")


def test_predicted_classes_of_the_same_label_map(records: list[Any], tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [*records, damaged(records[0], label_map="another")])
    label_map = LabelMap.load("semantickitti")
    shares = measure_collected(CollectedScans(tmp_path), label_map=label_map).quantities["predicted classes"].mean
    assert dict(zip(label_map.class_names, shares, strict=True))["car"] == 1
