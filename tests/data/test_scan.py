"""Reading one scan: what is returned can be used, what cannot be used is refused with its path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pointseg.core.errors import DataError
from pointseg.data.scan import Scan, read_labels, read_points

POINTS = np.arange(20, dtype="<f4").reshape(5, 4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "000000.bin"
    POINTS.tofile(path)
    return path


def test_points_come_back(file: Path) -> None:
    assert np.array_equal(read_points(file), POINTS)


def test_points_are_native_float32(file: Path) -> None:
    assert read_points(file).dtype == np.float32


def test_labels_keep_the_top_bit(tmp_path: Path) -> None:
    path = tmp_path / "000000.label"
    labels = np.array([0xFFFF0028, 10], "<u4")
    labels.tofile(path)
    assert read_labels(path, 2).tolist() == [0xFFFF0028, 10]


def test_cut_off_points_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"77 bytes is not a multiple of the 16 .*000000\.bin"):
        read_points(file)


def test_cut_off_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "000000.label"
    path.write_bytes(b"12345")
    with pytest.raises(DataError, match="not a multiple of the 4"):
        read_labels(path)


def test_empty_file_is_refused(file: Path) -> None:
    file.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read_points(file)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        read_points(tmp_path / "absent.bin")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder where a file should be"):
        read_points(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused(file: Path, value: float) -> None:
    points = POINTS.copy()
    points[3, 2] = value
    points.tofile(file)
    with pytest.raises(DataError, match="1 of 5 points are NaN or infinite, the first is number 3"):
        read_points(file)


def test_opposite_infinities_are_found(file: Path) -> None:
    points = POINTS.copy()
    points[1, 0], points[2, 0] = np.inf, -np.inf
    points.tofile(file)
    with pytest.raises(DataError, match="2 of 5"):
        read_points(file)


def test_large_finite_values_are_read(file: Path) -> None:
    points = np.full((5, 4), 3e38, "<f4")
    points.tofile(file)
    assert np.array_equal(read_points(file), points)


def test_label_count_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "000000.label"
    np.zeros(4, "<u4").tofile(path)
    with pytest.raises(DataError, match="4 labels for 5 points"):
        read_labels(path, 5)


def test_labels_are_required_where_they_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"no labels: here\.bin"):
        _ = Scan(POINTS, None, "here.bin").required_labels
