"""The contract of the scoring service: what bytes mean, and which are refused with which status."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import zstandard
from conftest import scan_points

from pointseg.core.errors import DataError, OutOfMemory
from pointseg.core.labels import LabelMap
from pointseg.serving.refusal import Refusal, refusal_of
from pointseg.serving.wire import (
    JSON,
    OCTETS,
    CloudLabels,
    Limits,
    Options,
    decode,
    encode,
    read_options,
    refuse_large_answer,
)

KITTI = LabelMap.load("semantickitti")
MEGABYTE = 1 << 20


def decoded(body: bytes, kind: str = JSON, encoding: str | None = None, columns: int = 4, **limits: int) -> Any:
    return decode(body, kind, encoding, Options(columns=columns), Limits(**limits))


def refused(body: bytes, kind: str = JSON, encoding: str | None = None, columns: int = 4, **limits: int) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoded(body, kind, encoding, columns, **limits)
    return caught.value


# ---- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [3, 4])
def test_json_octets_and_compressed_octets_are_the_same_points(width: int) -> None:
    points = np.ascontiguousarray(scan_points(500)[:, :width])
    text = json.dumps({"data": points.tolist()}).encode()
    octets = points.astype("<f4").tobytes()
    bodies = [
        decoded(text),
        decoded(text, "Application/JSON; charset=utf-8"),
        decoded(gzip.compress(text), JSON, "gzip"),
        decoded(octets, OCTETS, columns=width),
        decoded(gzip.compress(octets), OCTETS, "GZIP", columns=width),
        decoded(zstandard.compress(octets), OCTETS, "zstd", columns=width),
        decoded(zstandard.ZstdCompressor(write_content_size=False).compress(octets), OCTETS, "zstd", columns=width),
    ]
    for body in bodies:
        assert body.dtype == np.float32
        assert np.array_equal(body, points)


def test_integers_are_coordinates_too() -> None:
    assert decoded(b'{"data": [[1, 2, 3], [4, 5.5, -6]]}').tolist() == [[1, 2, 3], [4, 5.5, -6]]


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "no JSON"),
        (b'{"data": [[1, 2, 3]', 400, "no JSON"),
        (b'{"data": [[1, 2, NaN]]}', 400, "no JSON"),
        (b"[" * 5000, 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (b"[[1, 2, 3]]", 422, "no data"),
        (b"null", 422, "no data"),
        (b'{"inputs": [[1, 2, 3]]}', 422, "no data"),
        (b'{"data": [[1, 2, 3]], "more": 1}', 422, "'more'"),
        (b'{"data": {"x": 1}}', 422, "no list"),
        (b'{"data": []}', 422, "no points"),
        (b'{"data": [[]]}', 422, "not 0"),
        (b'{"data": [1, 2, 3]}', 422, "point 0 is no list"),
        (b'{"data": [[1, 2], [3, 4]]}', 422, "not 2"),
        (b'{"data": [[1, 2, 3, 4, 5]]}', 422, "not 5"),
        (b'{"data": [[1, 2, 3], [1, 2, 3, 4]]}', 422, "point 1 has 4 numbers and point 0 has 3"),
        (b'{"data": [[1, 2, 3], [1, 2]]}', 422, "point 1 has 2"),
        (b'{"data": [[1, 2, "3"]]}', 422, "no number"),
        (b'{"data": [["1", "2", "3"]]}', 422, "no number"),
        (b'{"data": [[1, 2, null]]}', 422, "no number"),
        (b'{"data": [[1, 2, true]]}', 422, "no number"),
        (b'{"data": [[[1], [2], [3]]]}', 422, "no number"),
        (b'{"data": [[1, 2, 1e39]]}', 422, "beyond float32"),
        (b'{"data": [[1, 2, 3], [4, 5, 1e39]]}', 422, "point 1"),
    ],
)
def test_json_that_is_no_cloud(body: bytes, status: int, says: str) -> None:
    refusal = refused(body)
    assert refusal.status == status
    assert says in refusal.what


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_octets_that_are_not_finite(value: float) -> None:
    points = scan_points(50)
    points[7, 3] = value
    refusal = refused(points.tobytes(), OCTETS)
    assert (refusal.status, refusal.what[:7]) == (422, "point 7")


@pytest.mark.parametrize(("columns", "size"), [(4, 15), (4, 17), (3, 16), (4, 1)])
def test_octets_of_broken_rows(columns: int, size: int) -> None:
    assert refused(b"\0" * size, OCTETS, columns=columns).status == 400


def test_no_octets() -> None:
    assert refused(b"", OCTETS).status == 422


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json2", "multipart/form-data"])
def test_other_kinds_of_body(kind: str) -> None:
    refusal = refused(b"{}", kind)
    assert (refusal.status, refusal.where) == (415, "Content-Type")


def test_other_encodings() -> None:
    refusal = refused(b"{}", JSON, "br")
    assert (refusal.status, refusal.where) == (415, "Content-Encoding")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_damaged_compression(encoding: str) -> None:
    whole = {"gzip": gzip.compress, "zstd": zstandard.compress}[encoding](scan_points(500).tobytes())
    middle = len(whole) // 2
    broken = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for body in (b"", whole[:-1], whole[:20], whole + b"x", b"not compressed", broken[: len(broken) - 9]):
        refusal = refused(body, OCTETS, encoding)
        assert refusal.status == 400, body[:20]
        assert encoding in refusal.what


@pytest.mark.parametrize("kind", [JSON, OCTETS])
@pytest.mark.parametrize("says_size", [True, False])
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_stopped_while_it_expands(encoding: str, says_size: bool, kind: str) -> None:
    zeros = bytes(256 * MEGABYTE)
    if encoding == "gzip":
        bomb = gzip.compress(zeros, 1)
    else:
        bomb = zstandard.ZstdCompressor(write_content_size=says_size).compress(zeros)
    del zeros
    tracemalloc.start()
    refusal = refused(bomb, kind, encoding, expanded=4 * MEGABYTE, text=4 * MEGABYTE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refusal.status == 413
    assert peak < 32 * MEGABYTE


@pytest.mark.parametrize("first_says_size", [True, False])
@pytest.mark.parametrize("second_says_size", [True, False])
def test_a_second_zstd_frame_is_not_dropped(first_says_size: bool, second_says_size: bool) -> None:
    parts = np.array_split(scan_points(900), 2)
    body = b"".join(
        zstandard.ZstdCompressor(write_content_size=says).compress(np.ascontiguousarray(part).tobytes())
        for part, says in zip(parts, (first_says_size, second_says_size), strict=True)
    )
    refusal = refused(body, OCTETS, "zstd")
    assert refusal.status == 400


@pytest.mark.parametrize("cut", [1, 9, 500])
def test_a_cut_zstd_frame_without_a_size_is_refused(cut: int) -> None:
    whole = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(scan_points(900).tobytes())
    assert refused(whole[:-cut], OCTETS, "zstd").status == 400


@pytest.mark.parametrize(
    "data",
    [
        ["a" * MEGABYTE, *[""] * 5000],
        [["a" * MEGABYTE, 1, 2], *[["", 1, 2]] * 5000],
        [[1, 2, 3], *[[1, 2, "a" * MEGABYTE]] * 4, *[[1, 2, ""]] * 5000],
        [[[["a" * MEGABYTE]]], *[[""]] * 5000],
    ],
    ids=["texts", "first rows", "later rows", "nested"],
)
def test_texts_instead_of_numbers_take_no_memory(data: Any) -> None:
    """NumPy would make an array of (number of values) x (longest text): 20 GB here."""
    body = json.dumps({"data": data}).encode()
    tracemalloc.start()
    refusal = refused(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refusal.status == 422
    assert peak < 20 * len(body) + 8 * MEGABYTE  # which reading any JSON takes


def test_more_than_the_limits() -> None:
    octets = scan_points(100).tobytes()
    assert refused(octets, OCTETS, points=99).status == 413
    assert refused(octets, OCTETS, expanded=1599).status == 413
    assert refused(json.dumps({"data": scan_points(100).tolist()}).encode(), points=99).status == 413
    assert refused(json.dumps({"data": scan_points(100).tolist()}).encode(), text=1000).status == 413


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ({}, None, Options()),
        ({}, "*/*", Options()),
        ({}, "text/html, application/json;q=0.9", Options()),
        ({"probabilities": "True", "columns": "3"}, "application/octet-stream", Options(True, True, 3)),
        ({"probabilities": "false"}, "application/json, application/octet-stream", Options()),
        ({"probability": "true"}, None, 422),
        ({"probabilities": "yes"}, None, 422),
        ({"columns": "5"}, None, 422),
        ({}, "text/html", 406),
    ],
)
def test_options(query: dict[str, str], accept: str | None, expected: Options | int) -> None:
    if isinstance(expected, Options):
        assert read_options(query, accept) == expected
        return
    with pytest.raises(Refusal) as caught:
        read_options(query, accept)
    assert caught.value.status == expected


# ---- what is answered --------------------------------------------------------------------------------------------


def scored(**changes: Any) -> CloudLabels:
    ids = KITTI.to_raw(np.array([9, 1, 9, 9, 13], np.uint8))
    chances = np.linspace(0, 1, 5 * 19, dtype=np.float32).reshape(5, 19)
    model = {"name": "street", "version": "3"}
    return CloudLabels(
        **{
            "raw_ids": ids,
            "probabilities": chances,
            "notes": ("a note",),
            "label_map": KITTI,
            "model": model,
            **changes,
        }
    )


def test_answer_in_json() -> None:
    body, kind, headers = encode(scored(), Options(probabilities=True))
    answer = json.loads(body)
    assert kind == JSON
    assert answer["labels"] == [40, 10, 40, 40, 50]
    assert [(entry["id"], entry["name"], entry["points"]) for entry in answer["classes"]] == [
        (40, "road", 3),
        (10, "car", 1),
        (50, "building", 1),
    ]
    assert answer["classes"][0]["colour"] == "#ff00ff"
    assert (answer["points"], answer["notes"], answer["model"]) == (5, ["a note"], {"name": "street", "version": "3"})
    assert answer["probability_classes"] == KITTI.to_raw(np.arange(1, 20)).tolist()
    np.testing.assert_allclose(answer["probabilities"], scored().probabilities, rtol=1e-6)
    assert headers == {"X-Model": "street/3", "X-Notes": '["a note"]'}


def test_answer_in_octets() -> None:
    body, kind, headers = encode(scored(), Options(probabilities=True, octets=True))
    assert kind == OCTETS
    assert (headers["X-Points"], headers["X-Classes"]) == ("5", "19")
    assert np.array_equal(np.frombuffer(body[:20], "<u4"), scored().raw_ids)
    assert np.array_equal(np.frombuffer(body[20:], "<f4").reshape(5, 19), scored().probabilities)
    assert encode(scored(probabilities=None), Options(octets=True))[0] == body[:20]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (Options(), 4000),
        (Options(octets=True), 4000),
        (Options(probabilities=True, octets=True), 80_000),
        (Options(probabilities=True), 308_000),
    ],
)
def test_what_would_be_answered_at_too_great_length_is_refused(options: Options, size: int) -> None:
    random = np.random.default_rng(2)
    chances = random.dirichlet(np.ones(19), 1000).astype(np.float32) if options.probabilities else None
    body = encode(scored(raw_ids=np.resize(np.uint32([40, 259]), 1000), probabilities=chances), options)[0]
    assert 0.7 * size < len(body) < 1.2 * size  # JSON is long or short by its numbers
    refuse_large_answer(1000, 19, options, Limits(answer=size))
    with pytest.raises(Refusal, match=f"about {size:,} bytes") as caught:
        refuse_large_answer(1000, 19, options, Limits(answer=size - 1))
    assert caught.value.status == 413


def test_unlabelled_points_are_no_class_of_the_answer() -> None:
    answer = json.loads(encode(scored(raw_ids=np.array([0, 40], np.uint32), probabilities=None), Options())[0])
    assert [entry["id"] for entry in answer["classes"]] == [40]


def test_a_refusal_says_three_things() -> None:
    error = json.loads(Refusal(415, "text/csv is not read", where="Content-Type", remedy="Send JSON.").body("r1"))
    assert error == {
        "error": {"what": "text/csv is not read", "where": "Content-Type", "remedy": "Send JSON."},
        "request_id": "r1",
    }


def test_errors_about_points_name_no_file() -> None:
    refusal = refusal_of(DataError("no point is finite", where="/secret/upload.bin", remedy="Copy it again."))
    assert (refusal.status, refusal.where) == (422, None)
    assert refusal_of(OutOfMemory("too much")).status == 413
