"""The packed store: what is read back, where it is read from, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import torch
from filelock import FileLock

from pointseg.core.errors import ConfigError, DataError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.data.datamodules import SemanticKITTIDataModule
from pointseg.data.features import FeatureSpec
from pointseg.data.sampling import Window
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.store import PackedScans, PackedStore, PackSettings, is_store, pack
from pointseg.data.store.layout import archive, unarchive
from pointseg.data.store.reader import StoreTable
from pointseg.data.synthetic import SyntheticSequences, write_sequences

if TYPE_CHECKING:
    from conftest import KittiTree

SENSOR: dict[str, int] = {"beams": 16, "azimuth_steps": 200}
KEEP = PackSettings(keep_raw=True, keep_order=True, shard_scans=2)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "streets"
    write_sequences(folder, scans=7, seed=2, **SENSOR)
    return folder


@pytest.fixture(scope="module")
def kept(raw: Path, tmp_path_factory: pytest.TempPathFactory, kitti_map: LabelMap) -> PackedStore:
    """Packed with everything that can be kept."""
    folder = tmp_path_factory.mktemp("kept")
    store = pack(SemanticKITTIScans(raw, None), folder, kitti_map, KEEP, processes=1).store
    assert store is not None
    return store


@pytest.fixture(scope="module")
def small(raw: Path, tmp_path_factory: pytest.TempPathFactory, kitti_map: LabelMap) -> PackedStore:
    """Packed as by default."""
    store = pack(SemanticKITTIScans(raw, None), tmp_path_factory.mktemp("small"), kitti_map, processes=1).store
    assert store is not None
    return store


def hashes(folder: str | Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


# ---- what is read back -------------------------------------------------------------------------------------------


def test_scans_come_back_in_their_order(raw: Path, kept: PackedStore) -> None:
    source, packed = SemanticKITTIScans(raw, None), PackedScans(kept)
    assert packed.names == source.names
    for index in range(len(source)):
        before, after = source[index], packed[index]
        assert np.abs(before.points[:, :3] - after.points[:, :3]).max() <= 0.000504
        assert np.array_equal(before.points[:, 3], after.points[:, 3])
        assert np.array_equal(before.required_labels, after.required_labels)
        assert before.pose is not None
        assert after.pose == pytest.approx(before.pose)


def test_without_raw_labels_the_canonical_ids_come_back(raw: Path, small: PackedStore, kitti_map: LabelMap) -> None:
    before, after = SemanticKITTIScans(raw, None)[3], PackedScans(small)[3]
    expected = kitti_map.to_raw(kitti_map.to_train(before.required_labels))
    assert sorted(after.required_labels.tolist()) == sorted(expected.tolist())
    cells = {
        tuple(np.rint(p[:3].astype(np.float64) * 1000).astype(int)): int(label)
        for p, label in zip(before.points, expected, strict=True)
    }
    assert [
        cells[tuple(np.rint(p[:3].astype(np.float64) * 1000).astype(int))] for p in after.points
    ] == after.required_labels.tolist()


def test_points_are_shuffled(raw: Path, small: PackedStore) -> None:
    before, after = SemanticKITTIScans(raw, None)[0].points, PackedScans(small)[0].points
    assert not np.array_equal(np.rint(before * 1000), np.rint(after * 1000))
    halves = [after[: len(after) // 2], after[len(after) // 2 :]]  # a slice is a fair sample
    ranges = [np.hypot(half[:, 0], half[:, 1]).mean() for half in halves]
    assert ranges[0] == pytest.approx(ranges[1], rel=0.1)


def test_record_takes_eight_bytes_a_point(small: PackedStore) -> None:
    size = sum(file.bytes for shard in small.header.shards for kind, file in shard.items() if kind == "records")
    assert size == 8 * small.header.points


def test_index_counts_classes(raw: Path, small: PackedStore, kitti_map: LabelMap) -> None:
    source = SemanticKITTIScans(raw, None)
    for index in range(len(source)):
        train_ids = kitti_map.to_train(source[index].required_labels)
        assert small.index.class_counts[index].tolist() == np.bincount(train_ids, minlength=20).tolist()


def test_summary_is_that_of_the_raw_scans(raw: Path, small: PackedStore) -> None:
    split = {"train": ["00", "01"], "val": ["08"]}
    one, other = (SemanticKITTIDataModule(root, split=split).summary("train") for root in (raw, small.root))
    assert one.to_dict(LabelMap.load("semantickitti")) == other.to_dict(LabelMap.load("semantickitti"))
    assert one.lengths == other.lengths


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("residency", ["disk", "memory", "device"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_training_samples_are_those_of_the_raw_scans(
    raw: Path, small: PackedStore, residency: str, workers: int
) -> None:
    """Bit-identical after decoding: packing makes training faster and changes nothing."""
    settings: dict[str, Any] = {
        "split": {"train": ["00", "01", "02"], "val": ["08"]},
        "points": (200, 900),
        "batch_size": 2,
        "clouds_per_scan": 2,
    }
    one = SemanticKITTIDataModule(raw, residency="disk", **settings)
    other = SemanticKITTIDataModule(small.root, residency=residency, num_workers=workers, **settings)
    batches = zip(one.train_dataloader(), other.train_dataloader(), strict=True)
    for a, b in batches:
        left, right = one.to_model_input(a), other.to_model_input(b)
        assert torch.equal(left.features, right.features)
        assert torch.equal(left.labels, right.labels)


def test_slices_of_disk_are_those_of_the_scan(small: PackedStore) -> None:
    table = StoreTable(PackedScans(small, ["08"]), FeatureSpec())
    whole = table.read(0)
    points = table.lengths[0]
    for window in (Window(0, 50), Window(points - 10, 40), Window(17, points)):
        part = table.read(0, window)
        rows = [(window.start + i) % points for i in range(window.count)]
        assert torch.equal(part.records, whole.records[rows])
        assert torch.equal(part.surroundings, whole.surroundings[rows])


@pytest.mark.parametrize("use", [("x", "count"), ("z", "extent", "height"), ("x", "y", "z", "remission")])
def test_features_take_the_columns_they_use(raw: Path, small: PackedStore, kitti_map: LabelMap, use: Any) -> None:
    features = FeatureSpec(use=use)
    table = StoreTable(PackedScans(small), features)
    assert table.measured
    bare = pack(
        SemanticKITTIScans(raw, None),
        Path(small.root).with_name(f"own-{use[1]}"),
        kitti_map,
        PackSettings(features=features),
        processes=1,
    )
    assert bare.store is not None
    assert torch.equal(StoreTable(PackedScans(bare.store), features).read(2).surroundings, table.read(2).surroundings)


def test_other_surroundings_are_measured_from_the_whole_scan(small: PackedStore) -> None:
    features = FeatureSpec(pillar_cells=(0.7,))
    table = StoreTable(PackedScans(small), features)
    assert not table.measured
    part, scan = table.read(1, Window(5, 30)), PackedScans(small)[1]
    expected = features.measure_surroundings(torch.from_numpy(scan.points))[5:35]
    assert torch.equal(part.surroundings, expected.to(torch.float16))


def test_unlabelled_sequences_are_packed_too(raw: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw" / "sequences" / "01" / "labels")
    source = SemanticKITTIScans(tmp_path / "raw", None, labelled=None)
    store = pack(source, tmp_path / "store", kitti_map, processes=1).store
    assert store is not None
    assert PackedScans(store, ["01"])[0].labels is None
    assert PackedScans(store, ["00"])[0].labels is not None
    with pytest.raises(DataError, match="no labels"):
        PackedScans(store, ["01"]).summary(kitti_map)


def test_other_sensor_takes_the_wide_record(tmp_path: Path, small_map: LabelMap) -> None:
    """Remission 0..255, a fifth column and far points: kept exactly, not clipped."""
    folder = tmp_path / "raw" / "sequences" / "00"
    (folder / "velodyne").mkdir(parents=True)
    (folder / "labels").mkdir()
    random = np.random.default_rng(0)
    points = np.column_stack(
        [
            random.uniform(-170, 170, (500, 2)),
            random.uniform(-3, 9, 500),
            random.integers(0, 256, 500),
            np.arange(500) % 32,
        ]
    ).astype(np.float32)
    points.tofile(folder / "velodyne" / "000000.bin")
    random.choice(np.array([0, 10, 40, 50], np.uint32), 500).tofile(folder / "labels" / "000000.label")
    columns = ["x", "y", "z", "remission", "ring"]
    source = SemanticKITTIScans(tmp_path / "raw", None, remission_scale=255, columns=columns)
    store = pack(source, tmp_path / "store", small_map, PackSettings(keep_order=True), processes=1).store
    assert store is not None
    assert store.header.record == "wide"
    scan = PackedScans(store)[0]
    assert np.array_equal(scan.points[:, 3], points[:, 3] / np.float32(255))
    assert scan.extra is not None
    assert np.array_equal(scan.extra[:, 0], points[:, 4])
    assert np.abs(scan.points[:, :3] - points[:, :3]).max() <= 0.00052


def test_narrow_is_refused_where_it_would_clip(shared_tree: KittiTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    source = SemanticKITTIScans(shared_tree.root, None)  # remission in no steps
    with pytest.raises(DataError, match=r"does not fit the narrow record: remission .*000000\.bin"):
        pack(source, tmp_path / "store", kitti_map, PackSettings(record="narrow"), processes=1)


def test_store_turns_wide_as_a_whole(raw: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    last = sorted((tmp_path / "raw").rglob("*.bin"))[-1]
    points = np.fromfile(last, np.float32).reshape(-1, 4)
    points[::2, 3] = 0.123  # a sensor without steps
    points.tofile(last)
    source = SemanticKITTIScans(tmp_path / "raw", None)
    store = pack(source, tmp_path / "store", kitti_map, PackSettings(shard_scans=2), processes=1).store
    assert store is not None
    assert store.header.record == "wide"
    assert len(store.index) == 7
    assert not store.damaged()


def test_keyframes_lie_apart(tmp_path: Path) -> None:
    write_sequences(tmp_path, scans=44, seed=2, beams=16, azimuth_steps=64)
    every = SemanticKITTIScans(tmp_path, ["00"])
    places = {name: scan.pose[:3, 3] for name, scan in zip(every.names, every, strict=True) if scan.pose is not None}
    assert len(places) == 4
    steps = [float(np.linalg.norm(b - a)) for a, b in pairwise(places.values())]
    assert SemanticKITTIScans(tmp_path, ["00"], keyframe_distance=0.9 * min(steps)).names == every.names
    kept = SemanticKITTIScans(tmp_path, ["00"], keyframe_distance=1.5 * max(steps)).names
    assert kept[0] == every.names[0]
    assert len(kept) == 2
    assert np.linalg.norm(places[kept[1]] - places[kept[0]]) >= 1.5 * max(steps)


def test_keyframes_need_poses(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw" / "sequences" / "00" / "poses.txt").unlink()
    with pytest.raises(DataError, match=r"need the pose.*00/velodyne/000000"):
        SemanticKITTIScans(tmp_path / "raw", ["00"], keyframe_distance=2.0)


# ---- where it is read from ----------------------------------------------------------------------------------------


def test_object_storage_is_read_as_a_folder_is(small: PackedStore) -> None:
    memory = fsspec.filesystem("memory")
    for path in Path(small.root).iterdir():
        memory.pipe(f"/bucket/store/{path.name}", path.read_bytes())
    remote = PackedStore("memory://bucket/store")
    assert remote.damaged() == []
    for window in (None, Window(3, 40), Window(int(small.index.points[4]) - 5, 20)):
        for kind in ("records", "surroundings"):
            assert np.array_equal(remote.read(kind, 4, window), small.read(kind, 4, window))
    split = {"train": ["00"], "val": ["08"]}
    data = [SemanticKITTIDataModule(root, split=split, points=100) for root in (small.root, "memory://bucket/store")]
    one, other = (next(iter(d.train_dataloader())) for d in data)
    assert torch.equal(one.records, other.records)


def test_store_of_no_address_is_refused() -> None:
    with pytest.raises(DataError, match=r"no packed store|cannot be read"):
        PackedStore("memory://nothing/here")


def test_raw_folder_is_no_store(raw: Path, small: PackedStore) -> None:
    assert not is_store(raw)
    assert not is_store(None)
    assert is_store(small.root)


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.fixture
def copied(small: PackedStore, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small.root, tmp_path / "store"))


def test_other_label_map_is_refused(copied: Path, small_map: LabelMap) -> None:
    data = SemanticKITTIDataModule(copied, labels=small_map)
    with pytest.raises(DataError, match="packed with label map 'semantickitti'"):
        data.source("train")


def test_label_map_that_means_the_same_is_taken(copied: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    content = json.dumps({**kitti_map.to_dict(), "name": "mine"})
    (tmp_path / "mine.yaml").write_text(content)
    assert len(SemanticKITTIDataModule(copied, labels=tmp_path / "mine.yaml", split={"train": ["00"]}).source("train"))


def test_missing_sequence_is_named(copied: Path) -> None:
    with pytest.raises(DataError, match=r"sequence 77 is missing.*00, 01"):
        PackedScans(PackedStore(copied), [77])


@pytest.mark.parametrize("name", ["records-00000.bin", "surroundings-00000.bin", "index.npz", "instances.npz"])
def test_missing_or_short_file_is_named(copied: Path, name: str) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"instead of.*{name}"):
        PackedStore(copied)
    (copied / name).unlink()
    with pytest.raises(DataError, match=rf"is missing.*{name}"):
        PackedStore(copied)


@pytest.mark.parametrize("name", ["records-00000.bin", "surroundings-00000.bin"])
def test_flipped_bit_is_found_by_its_hash(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 3] ^= 1
    (copied / name).write_bytes(content)
    assert PackedStore(copied).damaged() == [name]


def test_damaged_index_is_refused(copied: Path) -> None:
    content = bytearray((copied / "index.npz").read_bytes())
    content[200] ^= 255
    (copied / "index.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged.*index\.npz"):
        PackedStore(copied)


def test_changed_header_is_refused(copied: Path) -> None:
    """A plausible value that is another one."""
    text = (copied / "store.json").read_text()
    other = text.replace('"record": "narrow"', '"record": "wide"')
    assert other != text
    (copied / "store.json").write_text(other)
    with pytest.raises(DataError, match=r"damaged.*store\.json"):
        PackedStore(copied)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1}', '{"format": 99}', "\x00"])
def test_damaged_header_is_refused(copied: Path, text: str) -> None:
    (copied / "store.json").write_text(text)
    with pytest.raises(DataError, match=r"store\.json"):
        PackedStore(copied)


def test_what_is_not_kept_is_refused(small: PackedStore) -> None:
    with pytest.raises(DataError, match="keep_order=true"):
        small.read("order", 0)


def test_archive_executes_nothing() -> None:
    content = archive({"a": np.array([1, 2])})
    assert unarchive(content, "x")["a"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="Object arrays"):
        archive({"a": np.array([object()])})


# ---- packing -------------------------------------------------------------------------------------------------------


def test_same_data_gives_the_same_bytes(raw: Path, kept: PackedStore, tmp_path: Path, kitti_map: LabelMap) -> None:
    pack(SemanticKITTIScans(raw, None), tmp_path / "again", kitti_map, KEEP, processes=2)
    assert hashes(tmp_path / "again") == hashes(kept.root)


def test_streamed_streets_are_the_written_ones(small: PackedStore, tmp_path: Path, kitti_map: LabelMap) -> None:
    store = pack(SyntheticSequences(7, 2, **SENSOR), tmp_path / "streamed", kitti_map, processes=1).store
    assert store is not None
    assert store.header.shards == small.header.shards


def test_packing_again_does_nothing(raw: Path, copied: Path, kitti_map: LabelMap) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}
    result = pack(SemanticKITTIScans(raw, None), copied, kitti_map)
    assert result.resumed == 7
    assert before == {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}


def test_other_settings_do_not_touch_a_store(raw: Path, copied: Path, kitti_map: LabelMap) -> None:
    before = hashes(copied)
    with pytest.raises(OutputError, match="other data or settings"):
        pack(SemanticKITTIScans(raw, None), copied, kitti_map, KEEP)
    assert hashes(copied) == before


class Stop(Exception):
    """The process ends here."""


def test_stopped_packing_goes_on_to_the_same_store(
    raw: Path, kept: PackedStore, tmp_path: Path, kitti_map: LabelMap
) -> None:
    folder, source = tmp_path / "store", SemanticKITTIScans(raw, None)
    for limit in (1, 3, 5):

        def stop(done: int, total: int, limit: int = limit) -> None:
            if done >= limit:
                raise Stop

        with pytest.raises(Stop):
            pack(source, folder, kitti_map, KEEP, processes=1, progress=stop)
        with pytest.raises(DataError, match="not finished"):
            PackedStore(folder)
    result = pack(source, folder, kitti_map, KEEP, processes=1)
    assert result.resumed == 4
    assert hashes(folder) == hashes(kept.root)


def test_unfinished_packing_of_other_settings_is_not_touched(raw: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise Stop

    with pytest.raises(Stop):
        pack(SemanticKITTIScans(raw, None), tmp_path, kitti_map, processes=1, progress=stop)
    with pytest.raises(OutputError, match="unfinished packing"):
        pack(SemanticKITTIScans(raw, None), tmp_path, kitti_map, KEEP)


def test_bad_scan_leaves_no_store(raw: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    bad = sorted((tmp_path / "raw").rglob("*.label"))[3]
    labels = np.fromfile(bad, np.uint32)
    labels[7] = 77
    labels.tofile(bad)
    source = SemanticKITTIScans(tmp_path / "raw", None)
    result = pack(source, tmp_path / "store", kitti_map, PackSettings(shard_scans=2), processes=1)
    assert result.store is None
    assert [finding.file for finding in result.findings] == [str(bad)]
    skipped = pack(source, tmp_path / "store", kitti_map, PackSettings(shard_scans=2, on_error="skip"), processes=1)
    assert skipped.resumed == 5  # the shards without it are kept
    assert skipped.store is not None
    assert len(skipped.store.index) == 6
    assert not skipped.store.damaged()
    assert source.names[3] not in PackedScans(skipped.store).names


def test_skipped_scans_do_not_pass_for_whole_ones(raw: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    """What an interrupted run with on_error=skip left out, a run with on_error=stop looks at again."""
    shutil.copytree(raw, tmp_path / "raw")
    bad = sorted((tmp_path / "raw").rglob("*.label"))[0]
    np.full_like(np.fromfile(bad, np.uint32), 77).tofile(bad)
    source = SemanticKITTIScans(tmp_path / "raw", None)

    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise Stop

    skip = PackSettings(shard_scans=2, on_error="skip")
    with pytest.raises(Stop):
        pack(source, tmp_path / "store", kitti_map, skip, processes=1, progress=stop)
    result = pack(source, tmp_path / "store", kitti_map, PackSettings(shard_scans=2), processes=1)
    assert result.store is None
    assert [finding.file for finding in result.findings] == [str(bad)]


def test_folder_in_use_is_refused_and_stays_in_use(raw: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    source = SemanticKITTIScans(raw, None)
    with FileLock(tmp_path / ".packing.lock"):
        for _ in range(2):  # the refusal must not take the lock away
            with pytest.raises(OutputError, match="another process is packing"):
                pack(source, tmp_path, kitti_map, processes=1)


def test_set_without_a_good_scan_is_refused(raw: Path, tmp_path: Path, small_map: LabelMap) -> None:
    source = SemanticKITTIScans(raw, ["00"])  # with raw ids that the map does not know
    with pytest.raises(DataError, match="no scan could be packed"):
        pack(source, tmp_path / "store", small_map, PackSettings(on_error="skip"), processes=1)


def test_disk_is_asked_first(raw: Path, tmp_path: Path, kitti_map: LabelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"needs about .* GB and the disk has"):
        pack(SemanticKITTIScans(raw, None), tmp_path / "store", kitti_map)


@pytest.mark.parametrize(("key", "value"), [("record", "tiny"), ("on_error", "ignore"), ("shard_scans", 0)])
def test_bad_setting_names_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        PackSettings(**{key: value})
