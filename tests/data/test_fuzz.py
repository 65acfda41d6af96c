"""Readers meet bytes that nobody wrote on purpose: whatever a file holds, only errors that name it may come out.

POINTSEG_FUZZ_SECONDS, 20 if not set, is how long the slow tests take together; every round has its seed, so a failure comes
again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from raw_tree import RawTree, write_raw_tree

from pointseg.core.errors import PointsegError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.data.scan import read_labels, read_points
from pointseg.data.semantickitti import SemanticKITTIScans, read_poses
from pointseg.data.store import PackedScans, PackedStore
from pointseg.data.store.writer import PackSettings, pack
from pointseg.pages.validation_page import write_validation
from pointseg.quality.manifest import Manifest
from pointseg.quality.validation import validate

SECONDS = float(os.environ.get("POINTSEG_FUZZ_SECONDS", "20"))
TARGETS = 8
ROUND = 50  # examples that share a seed

# what text formats are made of, and what breaks their readers
WORDS = [
    *(b"nan", b"inf", b"-inf", b"1e999", b"-1", b"0", b"9" * 30, b"1.5", b"true", b"null", b"~", b'""', b"[]", b"{}"),
    *(
        b"[" * 3000,
        b'{"a":' * 3000,
        b"\x00",
        b"\xff\xfe",
        b"\xf0\x9f\x92\xa9",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b":",
        b",",
        b"-",
        b"#",
    ),
    *(
        b"!!python/object/apply:os.getcwd []",
        b"!!int ''",
        b"!!timestamp x",
        b"2001-99-99",
        b"&a [*a]",
        b"? ",
        b"<<: ",
        b".inf",
    ),
    *(
        b"Tr: ",
        b"Tr: 0 0 0 0 0 0 0 0 0 0 0 0",
        b"format",
        b"files",
        b"bytes",
        b"sha256",
        b"shards",
        b"../",
        b"/etc/passwd",
    ),
]

VALUES: list[object] = [
    None,
    -1,
    0,
    1,
    6,
    2**70,
    1e999,
    1.5,
    True,
    "",
    "x",
    "narrow",
    "wide",
    "../../etc/passwd",
    "index.npz",
]
VALUES += [[], {}, [[]], ["x"], [None], {"a": 1}]
other_values = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(VALUES)), min_size=1, max_size=2)

Edit = tuple[str, float, float, bytes]
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "put", "insert", "cut", "repeat", "end", "word", "field"]),
        st.floats(0, 1),
        st.floats(0, 1),
        st.one_of(st.binary(min_size=1, max_size=24), st.sampled_from(WORDS)),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, changes: list[Edit]) -> bytes:
    """Apply edits: each at a place (a share of the length), of a size (another share), with some bytes."""
    data = bytearray(content)
    for kind, place, size, some in changes:
        at = int(place * len(data))
        span = 1 + int(size**4 * len(data))
        if kind == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << (some[0] % 8)
        elif kind == "put":
            data[at : at + len(some)] = some
        elif kind in ("insert", "word"):
            data[at:at] = some
        elif kind == "cut":
            del data[at : at + span]
        elif kind == "repeat":
            data[at:at] = data[at : at + span]
        elif kind == "end":
            del data[at:]
        elif kind == "field":  # another value between two separators
            start = max(data.rfind(mark, 0, at) for mark in (b" ", b",", b":", b"\n", b"[")) + 1
            ends = [end for mark in (b" ", b",", b"\n", b"]", b"}") if (end := data.find(mark, at)) >= 0]
            data[start : min(ends, default=len(data))] = some
    return bytes(data)


def with_other_values(content: bytes, changes: list[tuple[float, object]]) -> bytes:
    """JSON in which some values, each at a place (a share of all), are others."""
    tree = json.loads(content)
    for place, value in changes:
        spots: list[tuple[Any, Any]] = []

        def collect(part: Any, spots: list[tuple[Any, Any]] = spots) -> None:
            for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
                spots.append((part, key))
                collect(part[key])

        collect(tree)
        if spots:
            part, key = spots[min(int(place * len(spots)), len(spots) - 1)]
            part[key] = deepcopy(value)
    return json.dumps(tree).encode()


def fuzz(strategy: st.SearchStrategy[object], run: Callable[..., None], seconds: float = SECONDS / TARGETS) -> None:
    """Run examples for a time, in rounds with the seeds 0, 1, 2, ..."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end or number == 0:

        @seed(number)
        @settings(max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def look(example: object) -> None:
            if time.monotonic() < end + 60:
                run(example)

        look()
        number += 1
    print(f"{number} rounds of {ROUND}")


def survives(read: Callable[[], object]) -> None:
    """Only an error for users may come out, and it must be possible to print it."""
    try:
        read()
    except PointsegError as error:
        str(error).encode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> RawTree:
    return write_raw_tree(tmp_path_factory.mktemp("fuzz") / "raw")


@pytest.fixture(scope="module")
def store(good: RawTree, tmp_path_factory: pytest.TempPathFactory, kitti_map: LabelMap) -> Path:
    """A small store of two shards that keeps all it can."""
    folder = tmp_path_factory.mktemp("store") / "packed"
    kept = PackSettings(features=FeatureSpec(), keep_raw=True, keep_order=True, shard_scans=6)
    assert pack(SemanticKITTIScans(good.root, None), folder, kitti_map, kept, processes=1).store is not None
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


# ---- the fuzz --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_points_of_any_bytes(good: RawTree, file: Path) -> None:
    content = good.scan(3).read_bytes()

    def run(example: tuple[bytes, list[Edit], int]) -> None:
        random, changes, columns = example
        for data in (random, mutated(content, changes)):
            file.write_bytes(data)
            survives(lambda: np.isfinite(read_points(file, columns)).all())

    fuzz(st.tuples(st.binary(max_size=200), edits, st.sampled_from([4, 5, 3])), run)


@pytest.mark.slow
def test_labels_of_any_bytes(good: RawTree, file: Path, kitti_map: LabelMap) -> None:
    content = good.labels(3).read_bytes()

    def run(example: tuple[bytes, list[Edit], int | None]) -> None:
        random, changes, count = example
        for data in (random, mutated(content, changes)):
            file.write_bytes(data)
            survives(lambda: kitti_map.to_train(read_labels(file, count)))

    fuzz(st.tuples(st.binary(max_size=200), edits, st.sampled_from([None, 505, 0, 10])), run)


@pytest.mark.slow
def test_poses_of_any_bytes(good: RawTree, tmp_path: Path) -> None:
    poses, calibration = tmp_path / "poses.txt", tmp_path / "calib.txt"
    contents = [(good.sequence("00") / name).read_bytes() for name in ("poses.txt", "calib.txt")]

    def run(example: tuple[list[Edit], list[Edit]]) -> None:
        for path, content, changes in zip((poses, calibration), contents, example, strict=True):
            path.write_bytes(mutated(content, changes))
        survives(lambda: read_poses(poses, calibration))

    fuzz(st.tuples(edits, st.one_of(st.just([]), edits)), run)


@pytest.mark.slow
def test_label_maps_of_any_bytes(tmp_path: Path, small_map: LabelMap) -> None:
    path = tmp_path / "map.yaml"
    rows = "".join(f"  {raw}: [{name}, {list(color)}]\n" for raw, (name, color) in small_map.labels.items())
    content = f"name: small\nlabels:\n{rows}classes:\n  - [10, 252]\n  - [40]\n  - [50]\nignored: [0]\n".encode()
    path.write_bytes(content)
    assert LabelMap.load(path).num_classes == 3

    def run(changes: list[Edit]) -> None:
        path.write_bytes(mutated(content, changes))
        survives(lambda: LabelMap.load(path).hash)

    fuzz(edits, run)


@pytest.mark.slow
def test_manifests_of_any_bytes(good: RawTree, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifest = Manifest.of(good.root, ["08"])
    content = manifest.write(path).read_bytes()

    def run(example: tuple[list[Edit], list[tuple[float, object]]]) -> None:
        for data in (mutated(content, example[0]), with_other_values(content, example[1])):
            path.write_bytes(data)
            survives(lambda: Manifest.read(path).compare(good.root, ["08"]))

    fuzz(st.tuples(edits, other_values), run)


def use(folder: Path) -> None:
    """All that a store is asked for."""
    store = PackedStore(folder)
    scans = PackedScans(store)
    for number in range(len(scans)):
        scans[number]
        for kind in ("records", "surroundings", "raw", "order"):
            store.read(kind, number)
    scans.summary(store.label_map)
    assert len(store.instances.scan) >= 0


def damaged_files(folder: Path) -> list[str]:
    """Names of the damaged files, or of the one that keeps the store from being opened."""
    try:
        return PackedStore(folder).damaged()
    except PointsegError as error:
        return [Path(str(error.where)).name]


@pytest.mark.slow
def test_stores_of_any_bytes(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    names = sorted(path.name for path in store.iterdir())
    assert PackedStore(copy).damaged() == []

    def run(example: tuple[str, list[Edit], list[tuple[float, object]] | None]) -> None:
        name, changes, values = example
        for other in names:  # an example that failed may have left something
            (copy / other).unlink()  # what is mapped stays what it is
            shutil.copy(store / other, copy / other)
        whole = (store / name).read_bytes()
        content = mutated(whole, changes)
        if name == "store.json" and values:
            content = with_other_values(whole, values)
        (copy / name).write_bytes(content)
        survives(lambda: use(copy))
        survives(lambda: PackedStore(copy).damaged())
        if content != whole and name != "store.json":
            assert damaged_files(copy) == [name]

    fuzz(st.tuples(st.sampled_from([*names, *["store.json"] * 4]), edits, st.none() | other_values), run)


@pytest.mark.slow
def test_validation_of_any_bytes(good: RawTree, tmp_path: Path, kitti_map: LabelMap) -> None:
    tree = RawTree(tmp_path / "raw")
    shutil.copytree(good.root, tree.root)
    manifest = Manifest.of(good.root)
    chosen = [tree.scan(3), tree.labels(3), *(tree.sequence("00") / f"{n}.txt" for n in ("poses", "calib", "times"))]
    pristine = {path: path.read_bytes() for path in chosen}

    def run(example: tuple[list[int], list[Edit], bool]) -> None:
        places, changes, known = example
        for path, content in pristine.items():  # an example that failed may have left something
            path.write_bytes(content)
        whole = {chosen[place]: pristine[chosen[place]] for place in places}
        for path, content in whole.items():
            path.write_bytes(mutated(content, changes))
        changed = {str(path) for path, content in whole.items() if path.read_bytes() != content}
        report = validate(tree.root, kitti_map, processes=1, manifest=manifest if known else None)
        report.to_dict()
        blamed = [finding.file for finding in report.findings if finding.is_error]
        assert len(blamed) == len(set(blamed))
        if known:
            assert set(blamed) == changed
        else:
            pairs = [set(map(str, pair)) for pair in (chosen[:2], (chosen[2], chosen[4]))]  # one for the other's length
            assert set(blamed) <= changed.union(*(pair for pair in pairs if pair & changed))

    fuzz(st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True), edits, st.booleans()), run)


@pytest.mark.slow
def test_validation_of_any_names(good: RawTree, tmp_path: Path, kitti_map: LabelMap) -> None:
    """Files with any name, in place of one or beside the others."""
    tree = RawTree(tmp_path / "raw")
    shutil.copytree(good.root, tree.root)
    names = st.binary(min_size=1, max_size=40).filter(
        lambda name: not {0, 47} & set(name) and name not in (b".", b"..")
    )
    numbers = st.integers(0, 10**20).map(lambda number: str(number).encode())

    def run(example: tuple[bytes, str, bytes]) -> None:
        name, below, suffix = example
        path = os.fsencode(tree.sequence("00") / below) + b"/" + name + suffix
        place = Path(os.fsdecode(path))
        if place.exists():
            return
        place.write_bytes(bytes(32))
        report = validate(tree.root, kitti_map, processes=1)
        write_validation(report, tmp_path / "report")
        for finding in report.findings:
            str(finding).encode()
        place.unlink()

    fuzz(
        st.tuples(
            st.one_of(names, numbers),
            st.sampled_from(["velodyne", "labels", "."]),
            st.sampled_from([b".bin", b".label", b""]),
        ),
        run,
    )


# ---- damage to a store, one kind after another -----------------------------------------------------------------------


def store_files(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name != "store.json")


@pytest.mark.parametrize("kind", ["first bit", "last bit", "middle", "cut off", "longer", "empty", "missing", "zeros"])
def test_every_damage_to_a_store_file_is_seen(store: Path, tmp_path: Path, kind: str) -> None:
    for name in store_files(store):
        copy = tmp_path / name / "store"
        shutil.copytree(store, copy)
        data = bytearray((copy / name).read_bytes())
        at = {"first bit": 0, "last bit": -1, "middle": len(data) // 2}.get(kind)
        if at is not None:
            data[at] ^= 1
        changed = {"cut off": data[:-1], "longer": data + b"\0", "empty": b"", "zeros": bytes(len(data))}.get(
            kind, data
        )
        (copy / name).unlink()
        if kind != "missing":
            (copy / name).write_bytes(bytes(changed))
        assert damaged_files(copy) == [name]


def test_swapped_store_files_are_seen(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    one, other = copy / "records-00000.bin", copy / "records-00001.bin"
    one.rename(copy / "third")
    other.rename(one)
    (copy / "third").rename(other)
    with pytest.raises(PointsegError, match="instead of"):
        PackedStore(copy)
