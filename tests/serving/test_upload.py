"""Files in forms that would take many times their size: refused by their heads, before a reader takes memory for them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from pypcd4 import Encoding
from pypcd4 import PointCloud as Pcd

from pointseg.data.formats import KINDS, PointCloud, require_packages
from pointseg.serving.refusal import Refusal
from pointseg.serving.upload import read_upload
from pointseg.serving.wire import Limits

MEGABYTE = 1 << 20
PCD = b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 9\n"
BLOCK = b"\xff\0\0\0\xff\xff\xff\x0f" + bytes(255)  # "255 bytes, of 256 MiB"


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """The packages that read, whose own memory is not counted."""
    require_packages(KINDS)


def read(name: str, content: bytes, **limits: int) -> PointCloud:
    head = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return read_upload(head + content + b"\r\n--X--\r\n", "multipart/form-data; boundary=X", Limits(**limits))


def test_the_columns_that_the_model_needs_are_read() -> None:
    body = (
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        b"x,y,z,intensity,Ring\n1,2,3,0.5,7\n4,5,6,0.25,8\n\r\n--X--\r\n"
    )
    cloud = read_upload(body, "multipart/form-data; boundary=X", Limits(), ("ring",))
    assert cloud.with_columns(["ring"]).tolist() == [[1, 2, 3, 0.5, 7], [4, 5, 6, 0.25, 8]]
    with pytest.raises(Refusal, match="no column ambient"):
        read_upload(body, "multipart/form-data; boundary=X", Limits(), ("ambient",))


def refused(name: str, content: bytes, **limits: int) -> Refusal:
    """The refusal, which takes little more memory than the body."""
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            read(name, content, **limits)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(content) + 8 * MEGABYTE
    finally:
        tracemalloc.stop()
    assert len(caught.value.what) < 1000
    return caught.value


@pytest.mark.parametrize(
    "line",
    [
        "DATA binary_compressed",
        " DATA binary_compressed",
        "DATA  binary_compressed x",
        "DATA binaryscompressed",
        "data binary_compressed",
        "DATA_ binary",
        "OTHER line",
    ],
)
def test_a_compressed_pcd_is_known_however_it_says_so(line: str) -> None:
    refusal = refused("a.pcd", PCD + line.encode() + b"\n" + BLOCK)
    assert (refusal.status, "268,435,455 bytes when expanded" in refusal.what) == (413, True)


def test_a_pcd_that_begins_with_many_comments_is_refused() -> None:
    for length in range(65536 - 30, 65536 + 30):  # wherever the bound cuts it
        comment = b"#" * (length - len(PCD) - 1) + b"\n"
        refusal = refused("a.pcd", PCD + comment + b"DATA binary_compressed\n" + BLOCK)
        assert refusal.status in (400, 413)
    assert (refusal.status, "head" in refusal.what) == (400, True)


def test_a_pcd_of_billions_of_columns_or_points_is_refused() -> None:
    text = PCD + b"DATA ascii\n1 2 3\n"
    assert "3,000,000,002 columns" in refused("a.pcd", text.replace(b"COUNT 1 1 1", b"COUNT 1 1 3000000000")).what
    assert refused("a.pcd", text.replace(b"POINTS 9", b"POINTS 3000000000")).status == 413


@pytest.mark.parametrize("encoding", list(Encoding)[:3])
def test_a_pcd_within_the_limits_is_read(encoding: Encoding, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("pcd") / "a.pcd"
    points = np.ones((300, 3), np.float32)
    Pcd.from_xyz_points(points).save(path, encoding)
    assert np.array_equal(read("a.pcd", path.read_bytes(), expanded=300 * 12).points, points)
    assert refused("a.pcd", path.read_bytes(), expanded=300 * 12 - 1).status == 413


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_ply_whose_head_does_not_end_is_refused(line_end: str) -> None:
    lines = ["ply", "format ascii 1.0", *["element a 0"] * 100_000, "end_header", ""]
    refusal = refused("a.ply", line_end.join(lines).encode())
    assert (refusal.status, "end_header" in refusal.what) == (400, True)


def ply(*elements: str, encoding: str = "binary_little_endian") -> bytes:
    return "\n".join(["ply", f"format {encoding} 1.0", *elements, "end_header", ""]).encode()


@pytest.mark.parametrize("encoding", ["ascii", "binary_big_endian"])
@pytest.mark.parametrize("properties", [["property list uchar int v"], ["property float x"], []])
def test_a_ply_that_promises_more_than_it_holds_is_refused(encoding: str, properties: list[str]) -> None:
    head = ply("element a -4000000000", "element vertex 4000000000", *properties, encoding=encoding)
    refusal = refused("a.ply", head + bytes(100))
    assert (refusal.status, "cannot hold the 4,000,000,000 values" in refusal.what) == (400, True)


def test_a_ply_of_many_lists_is_refused() -> None:
    refusal = refused(
        "a.ply", ply("element face 100000", "property list uchar int v") + bytes(100_000), expanded=MEGABYTE
    )
    assert (refusal.status, "12,800,000 bytes when expanded" in refusal.what) == (413, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x,y,z" + ",a" * 500_000 + "\n1,2,3\n", "head"),
        ('x,y,z,"a\n' + ",b" * 500_000 + '"\n1,2,3\n', "quote"),
        (",".join(f"column {number}" for number in range(5000)) + "\n1,2,3\n", "column 9 and 4,990 more"),
        ("n" * 60_000 + "\n1\n", f"among {'n' * 40}"),
    ],
)
def test_a_csv_of_many_names_is_refused_in_few_words(content: str, said: str) -> None:
    refusal = refused("a.csv", content.encode())
    assert (refusal.status, said in refusal.what) == (400, True)


def test_names_of_a_csv_may_be_quoted() -> None:
    cloud = read("a.csv", b'"x","y","z","a, ""b"""\n1,2,3,"4\n5"\n')
    assert cloud.points.tolist() == [[1, 2, 3]]
