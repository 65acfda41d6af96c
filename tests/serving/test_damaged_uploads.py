"""Files of a form that no reader takes: each is the caller's, so it is answered 400 and never 500."""

from __future__ import annotations

import io

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import scan_points

from pointseg.serving import upload
from pointseg.serving.refusal import Refusal
from pointseg.serving.upload import read_upload
from pointseg.serving.wire import Limits

POINTS = scan_points(300, seed=1)


def refusal_of(name: str, content: bytes) -> Refusal:
    head = f'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    with pytest.raises(Refusal) as caught:
        read_upload(head.encode() + content + b"\r\n--XyZ--\r\n", "multipart/form-data; boundary=XyZ", Limits())
    return caught.value


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, POINTS)
    return file.getvalue()


@pytest.mark.parametrize("place", range(10, 80))
def test_a_npy_with_a_damaged_header(place: int) -> None:
    content = bytearray(npy())
    content[place] ^= 0xFF
    assert refusal_of("a.npy", bytes(content)).status == 400


def test_a_parquet_file_with_two_columns_of_one_name() -> None:
    columns = [pyarrow.array(column) for column in POINTS[:, [0, 0, 1, 2]].T]
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=["x", "x", "y", "z"]), file)
    assert refusal_of("a.parquet", file.getvalue()).status == 400


def test_what_a_reader_happens_to_trip_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def trips(*given: object, **more: object) -> None:
        raise ArithmeticError("in the depths")

    monkeypatch.setattr(upload, "read_cloud", trips)
    refusal = refusal_of("a.npy", npy())
    assert (refusal.status, "ArithmeticError" in str(refusal)) == (400, True)
