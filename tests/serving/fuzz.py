"""Requests that no service shall answer with labels, seeded."""

from __future__ import annotations

import gzip
import io
import struct
from functools import cache
from typing import NamedTuple

import numpy as np
import zstandard
from service import KEY, OCTETS

JSON = "application/json"
FORM = "multipart/form-data; boundary=XyZ"


class Sent(NamedTuple):
    """A request: what is asked, and whether the key is right."""

    path: str
    body: bytes
    headers: dict[str, str]


def bad_request(number: int) -> Sent:
    """The request of this number; its kind goes round."""
    random = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    path, body, headers = kind(random)
    return Sent(path, body, {"Authorization": f"Bearer {KEY}", **headers})


def _rows(random: np.random.Generator, width: int = 4) -> bytes:
    rows = random.normal(0, 20, (int(random.integers(1, 60)), width)).round(3).tolist()
    return ('{"data": ' + repr(rows) + "}").encode()


def _cut_json(random: np.random.Generator) -> Sent:
    body = _rows(random)
    return Sent("/score", body[: random.integers(1, len(body))], {"Content-Type": JSON})


def _wide_json(random: np.random.Generator) -> Sent:
    return Sent("/score", _rows(random, int(random.choice([1, 2, 5, 9]))), {"Content-Type": JSON})


def _odd_json(random: np.random.Generator) -> Sent:
    odd = [
        b'{"data": [[1,2,NaN]]}',
        b'{"data": [[1,2,Infinity]]}',
        b'{"data": [[1,2,1e39]]}',
        b'{"data": [[1,2,1' + b"0" * 400 + b"]]}",
        b'{"data": [["1","2","3"]]}',
        b'{"data": [[true,false,true]]}',
        b'{"data": [[1,2,3],[1,2]]}',
        b'{"data": [[[1,2,3]]]}',
        b'{"data": {"0": [1,2,3]}}',
        b'{"data": null}',
        b'{"inputs": [[1,2,3]]}',
        b'{"data": [[1,2,3]], "data2": 1}',
        b"[" * 100_000,
        b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"\xff\xfe{}",
        b"null",
        b"",
    ]
    return Sent("/score", odd[random.integers(len(odd))], {"Content-Type": JSON})


def _cut_octets(random: np.random.Generator) -> Sent:
    return Sent(
        "/score",
        random.bytes(int(random.integers(1, 4000)) * 16 + int(random.integers(1, 16))),
        {"Content-Type": OCTETS},
    )


def _endless_octets(random: np.random.Generator) -> Sent:
    points = random.normal(0, 20, (int(random.integers(1, 500)), 4)).astype("<f4")
    points[random.integers(len(points)), random.integers(4)] = random.choice([np.nan, np.inf, -np.inf])
    return Sent("/score", points.tobytes(), {"Content-Type": OCTETS})


def _too_many(random: np.random.Generator) -> Sent:
    return Sent("/score?columns=3", bytes(12 * 100_001), {"Content-Type": OCTETS})


def _cut_packed(random: np.random.Generator) -> Sent:
    name = str(random.choice(["gzip", "zstd"]))
    body = (gzip.compress if name == "gzip" else zstandard.ZstdCompressor().compress)(random.bytes(1600))
    return Sent("/score", body[: random.integers(1, len(body) - 8)], {"Content-Type": OCTETS, "Content-Encoding": name})


def _not_packed(random: np.random.Generator) -> Sent:
    name = str(random.choice(["gzip", "zstd", "br", "deflate", "gzip, gzip"]))
    return Sent("/score", random.bytes(160), {"Content-Type": OCTETS, "Content-Encoding": name})


@cache
def _bombs() -> list[tuple[str, bytes]]:
    zeros = bytes(200_000_000)
    unsized = zstandard.ZstdCompressor().compressobj()
    return [
        ("gzip", gzip.compress(zeros)),
        ("zstd", zstandard.ZstdCompressor().compress(zeros)),
        ("zstd", unsized.compress(zeros) + unsized.flush()),
    ]


def _bomb(random: np.random.Generator) -> Sent:
    name, body = _bombs()[random.integers(3)]
    kind = str(random.choice([JSON, OCTETS]))
    return Sent("/score", body, {"Content-Type": kind, "Content-Encoding": name})


def _garbage_form(random: np.random.Generator) -> Sent:
    whole = form("a.npy", random.bytes(200))
    body = bytearray(whole)
    for _ in range(int(random.integers(1, 6))):
        body[random.integers(len(body))] = random.integers(256)
    return Sent("/score", bytes(body[: random.integers(1, len(body))]), {"Content-Type": FORM})


def form(name: str, content: bytes) -> bytes:
    head = f'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--XyZ--\r\n"


@cache
def _npy(count: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((count, 4), np.float32))
    return file.getvalue()


@cache
def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, points=np.zeros((1_000_000, 4), np.float32))
    return file.getvalue()


def _bad_file(random: np.random.Generator) -> Sent:
    garbage = random.bytes(int(random.integers(1, 500)))
    las = b"LASF" + garbage.ljust(400, b"\0")
    files = [
        (
            "a.npy",
            b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1000000000000, 4), }".ljust(128),
        ),
        ("a.npy", _npy(100)[:-3]),
        ("a.npz", _npz()),
        ("a.npz", b"PK\x03\x04" + garbage),
        ("a.las", las),
        ("a.laz", las[:104] + struct.pack("<BHI", 3 | 128, 65535, 2**31) + las[111:]),
        (
            "a.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999999\nproperty float x\nend_header\n"
            + garbage,
        ),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nend_header\n1\n"),
        (
            "a.pcd",
            b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 99999\nHEIGHT 99999\nPOINTS 99999\nDATA binary\n",
        ),
        ("a.csv", b"x,y\n" + garbage),
        ("a.csv", b"x,y,z\n1,2,three\n"),
        ("a.parquet", b"PAR1" + garbage + b"PAR1"),
        ("../../etc/passwd", b"1"),
        ("a.exe", garbage),
        ("", b"1"),
    ]
    name, content = files[random.integers(len(files))]
    return Sent("/score", form(name, content), {"Content-Type": FORM})


def _no_key(random: np.random.Generator) -> Sent:
    key = str(random.choice(["", "Bearer", "Bearer x", f"Basic {KEY}", f"Bearer {KEY[:-1]}", "Bearer " + "k" * 5000]))
    return Sent("/score", bytes(16), {"Content-Type": OCTETS, "Authorization": key})


def _odd_head(random: np.random.Generator) -> Sent:
    path = str(
        random.choice(
            ["/score?columns=5", "/score?x=1", "/score?probabilities=maybe", "/nowhere", "/score/", "//score"]
        )
    )
    return Sent(path, bytes(16), {"Content-Type": str(random.choice([OCTETS, "text/html", "", "a/b;c"]))})


def _odd_answer(random: np.random.Generator) -> Sent:
    return Sent(
        "/score", bytes(16), {"Content-Type": OCTETS, "Accept": str(random.choice(["text/html", "image/png, audio/*"]))}
    )


KINDS = (
    _cut_json,
    _wide_json,
    _odd_json,
    _cut_octets,
    _endless_octets,
    _cut_packed,
    _not_packed,
    _garbage_form,
    _bad_file,
    _no_key,
    _odd_head,
    _odd_answer,
    _cut_json,
    _cut_octets,
    _garbage_form,
    _bad_file,
    _too_many,
    _bomb,
)
