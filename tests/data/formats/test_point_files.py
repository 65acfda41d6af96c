"""Files of every kind: points and order as they were written, labels in the kind's own way, nothing else changed."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pandas
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement
from point_files import KINDS, OWN, Points, columns_of, structured, write_bin, write_csv, write_parquet, write_ply
from pypcd4 import Encoding
from pypcd4 import PointCloud as Pcd

from pointseg.core.errors import ConfigError, DataError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.data.formats import count_points, read_cloud, write_labels

RAW = np.array([10, 40, 50, 70, 0], np.uint32)


def some_points(count: int = 300, seed: int = 3) -> Points:
    random = np.random.default_rng(seed)
    points = random.uniform([-50, -50, -2, 0], [50, 50, 4, 1], (count, 4)).astype(np.float32)
    points[0, 3] = 1.0  # so that 16 bits are seen to be 16
    return points


def some_labels(count: int, seed: int = 4) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).choice(RAW, count)


def assert_same_points(found: NDArray[np.float32], written: Points, name: str) -> None:
    if name[:3] in ("las", "laz"):  # integers of 0.1 mm, and intensity in 16 bits
        assert np.allclose(found[:, :3], written[:, :3], rtol=0, atol=6e-5)
        assert np.allclose(found[:, 3], written[:, 3], rtol=0, atol=1 / 65535)
    elif name == "pcd ascii":  # its library writes ten decimals
        assert np.allclose(found, written, rtol=0, atol=1e-9)
    else:
        assert np.array_equal(found, written)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("count", [300, 1])
def test_points_come_as_they_were_written_in_order(name: str, count: int, tmp_path: Path) -> None:
    suffix, write = KINDS[name]
    points = some_points(count)
    write(tmp_path / f"cloud{suffix}", points)
    cloud = read_cloud(tmp_path / f"cloud{suffix}")
    assert cloud.points.dtype == np.float32
    assert not cloud.origin.any()
    assert_same_points(cloud.points, points, name)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    points=arrays(np.float32, st.tuples(st.integers(1, 40), st.just(4)), elements=st.floats(0, 1, width=32)),
    name=st.sampled_from(list(KINDS)),
)
def test_any_small_cloud_round_trips(points: Points, name: str, tmp_path: Path) -> None:
    points[:, :3] = 200 * points[:, :3] - 100
    points[0, 3] = 1.0
    suffix, write = KINDS[name]
    path = tmp_path / f"any{suffix}"
    write(path, points)
    assert_same_points(read_cloud(path).points, points, name)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("count", [300, 1])
def test_labels_go_into_a_copy_of_the_file(name: str, count: int, tmp_path: Path, kitti_map: LabelMap) -> None:
    suffix, write = KINDS[name]
    source, target = tmp_path / f"cloud{suffix}", tmp_path / "out" / f"cloud{suffix}"
    write(source, some_points(count))
    before, labels = source.read_bytes(), some_labels(count)
    write_labels(source, target, labels, kitti_map)
    old, new = columns_of(source), columns_of(target)
    key = "semantic" if suffix in (".las", ".laz") else "label"
    assert np.array_equal(new[key], labels)
    for column, values in old.items():
        if column != "classification":
            assert np.array_equal(new[column], values), column
    assert source.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert np.array_equal(read_cloud(target).points, read_cloud(source).points)


@pytest.mark.parametrize("name", ["bin", "laz 1.4", "csv"])
def test_label_files_hold_raw_ids_of_32_bits(name: str, tmp_path: Path, kitti_map: LabelMap) -> None:
    suffix, write = KINDS[name]
    write(tmp_path / f"cloud{suffix}", some_points())
    labels = some_labels(300)
    write_labels(tmp_path / f"cloud{suffix}", tmp_path / "cloud.label", labels, kitti_map)
    assert np.array_equal(np.fromfile(tmp_path / "cloud.label", "<u4"), labels)


@pytest.mark.parametrize("name", ["bin", "npy", "las 1.4", "laz 1.2", "parquet"])
def test_points_are_counted_without_reading(name: str, tmp_path: Path) -> None:
    suffix, write = KINDS[name]
    write(tmp_path / f"cloud{suffix}", some_points(77))
    assert count_points(tmp_path / f"cloud{suffix}") == 77


# ---- what is in the files beside points ------------------------------------------------------------------------------


def test_ply_keeps_elements_encoding_and_comments(tmp_path: Path, kitti_map: LabelMap) -> None:
    for text, order in ((True, "="), (False, "<"), (False, ">")):
        write_ply(tmp_path / "a.ply", some_points(5), text, order)
        write_labels(tmp_path / "a.ply", tmp_path / "b.ply", some_labels(5), kitti_map)
        whole = PlyData.read(str(tmp_path / "b.ply"))
        assert (whole.text, whole.byte_order, whole.comments) == (text, order, ["made by a test"])
        assert whole["face"].data["vertex_indices"][0].tolist() == [0, 0, 0]


def test_ply_gets_the_colour_of_the_class(tmp_path: Path, kitti_map: LabelMap) -> None:
    write_ply(tmp_path / "a.ply", some_points(5))
    write_labels(tmp_path / "a.ply", tmp_path / "b.ply", RAW, kitti_map)
    data = PlyData.read(str(tmp_path / "b.ply"))["vertex"].data
    for row, raw in zip(data, RAW.tolist(), strict=True):
        assert tuple(row[["red", "green", "blue"]].tolist()) == kitti_map.labels[raw][1]


@pytest.mark.parametrize("encoding", list(Encoding)[:3])
def test_pcd_gets_the_colour_in_its_bits(encoding: Encoding, tmp_path: Path, kitti_map: LabelMap) -> None:
    points, labels = some_points(300), np.resize(RAW, 300)  # a few points do not compress, and are written as they are
    points[5:] = 1.0
    KINDS["pcd binary"][1](tmp_path / "a.pcd", points)
    Pcd.from_path(tmp_path / "a.pcd").save(tmp_path / "a.pcd", encoding)
    write_labels(tmp_path / "a.pcd", tmp_path / "b.pcd", labels, kitti_map)
    found = Pcd.from_path(tmp_path / "b.pcd")
    assert found.metadata.data == encoding
    bits = found.pc_data["rgb"].view(np.uint32)
    for value, raw in zip(bits.tolist(), labels.tolist(), strict=True):
        assert (value >> 16, value >> 8 & 255, value & 255) == kitti_map.labels[raw][1]


def test_an_organised_pcd_stays_organised(tmp_path: Path, kitti_map: LabelMap) -> None:
    text = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _\nSIZE 4 4 4 1\nTYPE F F F U\nCOUNT 1 1 1 4\nWIDTH 2\nHEIGHT 2\n"
        "VIEWPOINT 1 2 3 1 0 0 0\nPOINTS 4\nDATA ascii\n"
        "1 2 3 0 0 0 0\nnan nan nan 0 0 0 0\n4 5 6 0 0 0 0\n7 8 9 1 2 3 4\n"
    )
    (tmp_path / "a.pcd").write_text(text)
    cloud = read_cloud(tmp_path / "a.pcd")
    assert cloud.points.shape == (4, 3)
    assert cloud.finite.tolist() == [True, False, True, True]
    write_labels(tmp_path / "a.pcd", tmp_path / "b.pcd", some_labels(4), kitti_map)
    header = Pcd.from_path(tmp_path / "b.pcd").metadata
    assert (header.width, header.height, header.viewpoint[:3]) == (2, 2, (1.0, 2.0, 3.0))


def test_tables_get_the_class_by_name(tmp_path: Path, kitti_map: LabelMap) -> None:
    for write, suffix in ((write_csv, ".csv"), (write_parquet, ".parquet")):
        write(tmp_path / f"a{suffix}", some_points(5))
        write_labels(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", RAW, kitti_map)
        found = columns_of(tmp_path / f"b{suffix}")["class"].tolist()
        assert found == ["car", "road", "building", "vegetation", "unlabeled"]


def test_csv_keeps_every_digit_and_text(tmp_path: Path, kitti_map: LabelMap) -> None:
    text = 'x;y;z;Reflectance;note\n1.50;2.0000000001;-0;0.10;"a;b"\n3e0;NA;5;0.2;\n'
    (tmp_path / "a.csv").write_text(text, encoding="utf-8-sig")
    assert read_cloud(tmp_path / "a.csv").points[0].tolist() == [1.5, 2.0, 0.0, np.float32(0.1)]
    write_labels(tmp_path / "a.csv", tmp_path / "b.csv", RAW[:2], kitti_map)
    lines = (tmp_path / "b.csv").read_text().splitlines()
    assert lines[0] == "x;y;z;Reflectance;note;label;class"
    assert lines[1:] == ['1.50;2.0000000001;-0;0.10;"a;b";10;car', "3e0;NA;5;0.2;;40;road"]


def test_labels_of_an_earlier_prediction_are_replaced(tmp_path: Path, kitti_map: LabelMap) -> None:
    for name in OWN:
        suffix, write = KINDS[name]
        write(tmp_path / f"a{suffix}", some_points(5))
        write_labels(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", RAW, kitti_map)
        write_labels(tmp_path / f"b{suffix}", tmp_path / f"c{suffix}", RAW[::-1], kitti_map)
        found = columns_of(tmp_path / f"c{suffix}")
        assert np.array_equal(found["semantic" if suffix in (".las", ".laz") else "label"], RAW[::-1]), name


# ---- units and frames ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "divided"), [(1.0, 1), (255.0, 255), (200.0, 255), (65535.0, 65535), (4095.0, 65535)]
)
def test_intensity_is_scaled_knowingly(largest: float, divided: int, tmp_path: Path) -> None:
    points = some_points()
    points[:, 3] *= largest
    write_ply(tmp_path / "a.ply", points)
    cloud = read_cloud(tmp_path / "a.ply")
    assert np.allclose(cloud.points[:, 3], points[:, 3] / divided)
    assert [note.kind for note in cloud.notes] == ([] if divided == 1 else ["intensity"])
    assert all(note.doubt and str(divided) in note.text for note in cloud.notes)


def test_a_scale_that_is_given_is_not_doubted(tmp_path: Path) -> None:
    points = some_points()
    points[:, 3] *= 4095
    write_ply(tmp_path / "a.ply", points)
    cloud = read_cloud(tmp_path / "a.ply", remission_scale=4095)
    assert np.allclose(cloud.points[:, 3], points[:, 3] / 4095)
    assert cloud.notes == ()


def test_intensity_in_no_known_unit_is_refused(tmp_path: Path) -> None:
    points = some_points()
    points[:, 3] *= 1e6
    write_ply(tmp_path / "a.ply", points)
    with pytest.raises(DataError, match=r"a\.ply.*remission_scale=VALUE"):
        read_cloud(tmp_path / "a.ply")


def test_bare_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    points = some_points()
    points[:, 3] *= 255
    write_bin(tmp_path / "a.bin", points)
    assert np.array_equal(read_cloud(tmp_path / "a.bin").points, points)
    assert np.allclose(read_cloud(tmp_path / "a.bin", remission_scale=255).points[:, 3], points[:, 3] / 255)


def test_zeros_alone_are_no_intensity(tmp_path: Path) -> None:
    points = some_points()
    points[:, 3] = 0
    KINDS["laz 1.4"][1](tmp_path / "a.laz", points)
    cloud = read_cloud(tmp_path / "a.laz")
    assert cloud.points.shape == (300, 3)
    assert [note.kind for note in cloud.notes] == ["no intensity"]


def test_a_maps_coordinates_keep_millimetres(tmp_path: Path) -> None:
    points = some_points().astype(np.float64)
    there = np.column_stack([points[:, :3] + [456_789.123, 5_432_109.877, 311.5], points[:, 3]])
    pandas.DataFrame(there, columns=["X", "Y", "Z", "Intensity"]).to_csv(tmp_path / "a.csv", index=False)
    np.save(tmp_path / "a.npy", there)
    for name in ("a.csv", "a.npy"):
        cloud = read_cloud(tmp_path / name)
        assert np.abs(cloud.points[:, :3] + cloud.origin - there[:, :3]).max() < 1e-5
        assert np.abs(cloud.points[:, :2]).max() < 60
        assert [note.kind for note in cloud.notes] == ["origin"]
        assert cloud.notes[0].doubt


def test_the_sensor_is_put_above_the_ground_in_the_middle(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    points = random.uniform([-50, -50, -1.75, 0], [50, 50, -1.65, 1], (5000, 4))
    points[:800, 2] = random.uniform(0, 20, 800)  # walls and trees
    points[800, :3] = [3.0, 4.0, -40.0]  # a reflection from below the ground
    there = points + np.array([456_789.0, 5_432_100.0, 311.0, 0.0])
    np.save(tmp_path / "a.npy", there)
    pandas.DataFrame(there, columns=["x", "y", "z", "intensity"]).to_parquet(tmp_path / "a.parquet")
    header = laspy.LasHeader(point_format=1, version="1.2")
    header.scales, header.offsets = np.full(3, 0.001), np.array([456_000.0, 5_432_000.0, 0.0])
    las = laspy.LasData(header)
    las.x, las.y, las.z = there[:, :3].T
    las.intensity = np.round(there[:, 3] * 65535).astype(np.uint16)
    las.write(str(tmp_path / "a.las"))
    for name in ("a.npy", "a.parquet", "a.las"):
        cloud = read_cloud(tmp_path / name, remission_scale=None if name != "a.las" else 65535)
        assert np.abs(cloud.origin - [456_789, 5_432_100, 311]).max() < 3
        assert abs(cloud.origin[2] - 311) < 0.11
        assert np.abs(cloud.points[:, :3] + cloud.origin - there[:, :3]).max() < 0.001
        assert [note.kind for note in cloud.notes] == ["origin"]


# ---- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_cloud_is_named(name: str, tmp_path: Path) -> None:
    suffix, write = KINDS[name]
    path = tmp_path / f"empty{suffix}"
    write(path, some_points(1)[:0]) if name != "bin" and not name.startswith("ply") else None
    if name.startswith("ply"):
        PlyData([PlyElement.describe(structured(some_points(1)[:0]), "vertex")], text="ascii" in name).write(str(path))
    if name == "bin":
        path.touch()
    with pytest.raises(DataError, match=rf"has no points.*empty\{suffix}"):
        read_cloud(path)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.97])
def test_a_cut_file_is_an_error_that_names_it(name: str, part: float, tmp_path: Path) -> None:
    suffix, write = KINDS[name]
    path = tmp_path / f"cut{suffix}"
    write(path, some_points())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part) | (3 if name == "bin" else 0)])
    if name == "csv" and part > 0:
        return  # a table that ends early is a shorter table, unless it ends within a number
    with pytest.raises(DataError, match=rf"cut\{suffix}"):
        read_cloud(path)


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("las 1.4", 100, "records"),
        ("laz 1.4", 100, "records"),
        ("laz 1.4", 243, "records"),
        ("las 1.4", 247, "points"),
        ("las 1.2", 107, "points"),
        ("laz 1.2", None, "chunks"),
    ],
)
def test_a_las_file_that_promises_more_than_it_holds(name: str, place: int | None, said: str, tmp_path: Path) -> None:
    """Its reader would look for billions of records, or take memory for them and end the process."""
    suffix, write = KINDS[name]
    path = tmp_path / f"liar{suffix}"
    write(path, some_points())
    content = bytearray(path.read_bytes())
    if place is None:
        points = int.from_bytes(content[96:100], "little")
        place = int.from_bytes(content[points : points + 8], "little") + 4
    content[place : place + 4] = (0x65000000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot hold the 1,694,498,816 .*{said}.*liar"):
        read_cloud(path)


@pytest.mark.parametrize("suffix", sorted({suffix for suffix, _ in KINDS.values()} - {".bin"}))
def test_rubbish_is_an_error_that_names_the_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rubbish{suffix}"
    path.write_bytes(np.random.default_rng(1).bytes(3001))
    with pytest.raises(DataError, match="rubbish"):
        read_cloud(path)


@pytest.mark.parametrize("suffix", [".bin", ".las", ".csv", ".npz"])
def test_a_missing_file_and_a_folder_are_named(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing.*nowhere"):
        read_cloud(tmp_path / f"nowhere{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(DataError, match="folder"):
        read_cloud(tmp_path / f"folder{suffix}")


def test_missing_columns_say_which_there_are(tmp_path: Path) -> None:
    pandas.DataFrame({"x": [1.0], "lat": [2.0], "z": [3.0]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"no column y among x, lat, z"):
        read_cloud(tmp_path / "a.csv")


def test_damage_in_a_column_that_is_only_copied_is_the_clouds(tmp_path: Path, kitti_map: LabelMap) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, some_points())
    column = pyarrow.parquet.read_metadata(path).row_group(0).column(4)
    assert column.path_in_schema == "number"
    content = bytearray(path.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    content[first : first + 12] = b"\xff" * 12
    path.write_bytes(content)
    read_cloud(path)
    with pytest.raises(DataError, match=r"a\.parquet"):
        write_labels(path, tmp_path / "out" / "a.parquet", some_labels(300), kitti_map)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("damage", ["(10**30, 4)", "(300, 4", "(" * 60, "\0", ",", "\\"])
def test_a_npy_whose_header_is_damaged_is_not_counted_and_named(damage: str, tmp_path: Path) -> None:
    """The header is an expression of Python, and what its parser raises is not one kind of error."""
    path = tmp_path / "a.npy"
    np.save(path, some_points())
    head, content = path.read_bytes()[:128], path.read_bytes()[128:]
    for old in (b"(300, 4)", b"'<f4'"):
        broken = head.replace(old, damage.encode()).rstrip(b" \n")[:127]
        path.write_bytes(broken.ljust(127, b" ") + b"\n" + content)
        assert count_points(path) is None
        with pytest.raises(DataError, match=r"a\.npy"):
            read_cloud(path)


def test_a_list_for_intensity_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    lines = ["ply", "format ascii 1.0", "element vertex 2", *(f"property float {name}" for name in "xyz")]
    lines += ["property list uchar float intensity", "end_header", "1 2 3 2 0.5 0.5", "4 5 6 1 0.5", ""]
    (tmp_path / "a.ply").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.ply"):
        read_cloud(tmp_path / "a.ply")


@pytest.mark.parametrize("name", OWN)
def test_a_full_disk_is_no_damage_of_the_cloud(name: str, tmp_path: Path, kitti_map: LabelMap) -> None:
    suffix, write = KINDS[name]
    write(tmp_path / f"a{suffix}", some_points(2000))
    with disk_of(4000), pytest.raises(OutputError, match=rf"out/a\{suffix}"):
        write_labels(tmp_path / f"a{suffix}", tmp_path / "out" / f"a{suffix}", some_labels(2000), kitti_map)
    assert not list((tmp_path / "out").iterdir())


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file can be larger, which is an OSError as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy"):
        read_cloud(tmp_path / "a.npy")


def test_an_unknown_kind_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.obj.*\.laz"):
        read_cloud(tmp_path / "a.obj")


def test_labels_never_overwrite_the_cloud_or_change_its_kind(tmp_path: Path, kitti_map: LabelMap) -> None:
    write_ply(tmp_path / "a.ply", some_points(5))
    before = (tmp_path / "a.ply").read_bytes()
    with pytest.raises(ConfigError, match="overwrite"):
        write_labels(tmp_path / "a.ply", tmp_path / "a.ply", RAW, kitti_map)
    with pytest.raises(ConfigError, match=r"\.pcd"):
        write_labels(tmp_path / "a.ply", tmp_path / "a.pcd", RAW, kitti_map)
    assert (tmp_path / "a.ply").read_bytes() == before


@pytest.mark.parametrize(("suffix", "package"), [(".las", "laspy"), (".ply", "plyfile"), (".pcd", "pypcd4"), (".csv", "pandas"), (".parquet", "pyarrow")])  # fmt: skip
def test_a_missing_package_says_what_to_install(
    suffix: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(name, name=name)
        return original(name, *rest, **more)

    original = importlib.import_module
    monkeypatch.setattr("pointseg.core.optional_packages.import_module", absent)
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(ConfigError, match=rf"{package}.*-e '\.\[formats\]'"):
        read_cloud(tmp_path / f"a{suffix}")


def test_formats_import_no_reader() -> None:
    import subprocess
    import sys

    code = "import sys, pointseg.data.formats; print([m for m in ('laspy','plyfile','pypcd4','pandas','pyarrow') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
