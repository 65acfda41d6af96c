"""SemanticKITTI's layout: what is found, what is missing, and where the sensor was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.data.datamodules import SemanticKITTIDataModule
from pointseg.data.semantickitti import OFFICIAL_SPLIT, SemanticKITTIScans, find_sequences, read_poses
from pointseg.data.sources import inspect

if TYPE_CHECKING:
    from conftest import KittiTree


def test_official_split_has_22_sequences_and_none_twice() -> None:
    everything = [sequence for split in OFFICIAL_SPLIT.values() for sequence in split]
    assert sorted(everything) == [f"{number:02d}" for number in range(22)]


def test_official_validation_is_sequence_08() -> None:
    assert OFFICIAL_SPLIT["val"] == ("08",)


def test_scans_are_named_in_order(shared_tree: KittiTree) -> None:
    scans = SemanticKITTIScans(shared_tree.root, ["08", "00"])
    assert scans.names == ["08/000000", "08/000003", "08/000007", "00/000000", "00/000003", "00/000007"]


def test_points_and_labels_come_back(shared_tree: KittiTree) -> None:
    scan = SemanticKITTIScans(shared_tree.root, ["08"])[1]
    assert np.array_equal(scan.points, shared_tree.points["08/000003"])
    assert np.array_equal(scan.required_labels, shared_tree.labels["08/000003"])


def test_sequence_may_be_a_number(shared_tree: KittiTree) -> None:
    assert SemanticKITTIScans(shared_tree.root, [8]).names[0] == "08/000000"


@pytest.mark.parametrize("below", [".", "sequences"])
def test_root_may_be_the_data_set_or_its_sequences(shared_tree: KittiTree, below: str) -> None:
    assert find_sequences(shared_tree.root / below) == shared_tree.root / "sequences"


def test_root_may_hold_a_dataset_folder(tree: KittiTree, tmp_path: Path) -> None:
    tree.root.rename(tmp_path / "dataset")
    assert find_sequences(tmp_path) == tmp_path / "dataset" / "sequences"


@pytest.mark.parametrize("root", [None, ""])
def test_no_root_is_refused(root: str | None) -> None:
    with pytest.raises(DataError, match="no data folder"):
        find_sequences(root)


def test_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_sequences(tmp_path / "absent")


def test_root_without_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no sequences"):
        find_sequences(tmp_path)


def test_missing_sequence_names_those_present(shared_tree: KittiTree) -> None:
    with pytest.raises(DataError, match=r"sequence 05 is missing.*The folder has 00, 08"):
        SemanticKITTIScans(shared_tree.root, ["05"])


def test_sequence_without_scans_is_refused(tree: KittiTree) -> None:
    for path in (tree.root / "sequences" / "00" / "velodyne").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no \.bin files"):
        SemanticKITTIScans(tree.root, ["00"])


def test_missing_label_file_is_refused(tree: KittiTree) -> None:
    tree.label("08/000003").unlink()
    with pytest.raises(DataError, match=r"label file is missing: .*000003\.label"):
        SemanticKITTIScans(tree.root, ["08"])


def test_unlabelled_scans_need_no_label_file(tree: KittiTree) -> None:
    tree.label("08/000003").unlink()
    assert SemanticKITTIScans(tree.root, ["08"], labelled=False)[1].labels is None


def test_label_count_is_checked_before_work_starts(tree: KittiTree) -> None:
    path = tree.label("08/000007")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="2069 labels for 2070 points"):
        SemanticKITTIScans(tree.root, ["08"])


def test_cut_off_scan_is_found_before_work_starts(tree: KittiTree) -> None:
    path = tree.bin("08/000007")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="not a multiple of the 16"):
        SemanticKITTIScans(tree.root, ["08"])


def test_empty_scan_is_found_before_work_starts(tree: KittiTree) -> None:
    tree.bin("08/000000").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        SemanticKITTIScans(tree.root, ["08"])


def test_folder_named_as_a_scan_is_refused(tree: KittiTree) -> None:
    tree.bin("08/000000").unlink()
    tree.bin("08/000000").mkdir()
    with pytest.raises(DataError, match="a folder where a file should be"):
        SemanticKITTIScans(tree.root, ["08"])


def test_link_to_nothing_is_refused(tree: KittiTree, tmp_path: Path) -> None:
    tree.bin("08/000000").unlink()
    tree.bin("08/000000").symlink_to(tmp_path / "absent.bin")
    with pytest.raises(DataError, match="point file is missing"):
        SemanticKITTIScans(tree.root, ["08"])


def test_split_by_option(shared_tree: KittiTree) -> None:
    data = SemanticKITTIDataModule(shared_tree.root, split={"train": ["08"], "val": ["00"]})
    assert (data.source("train").names[0], data.source("val").names[0]) == ("08/000000", "00/000000")


def test_split_not_given_stays_official(shared_tree: KittiTree) -> None:
    data = SemanticKITTIDataModule(shared_tree.root, split={"train": ["00"], "val": None})  # type: ignore[dict-item]
    assert data.source("val").names == ["08/000000", "08/000003", "08/000007"]


def test_missing_split_is_refused_at_setup(shared_tree: KittiTree) -> None:
    with pytest.raises(DataError, match="sequence 01 is missing"):
        SemanticKITTIDataModule(shared_tree.root).setup("fit")


def test_remission_is_divided_by_its_scale(shared_tree: KittiTree) -> None:
    scan = SemanticKITTIScans(shared_tree.root, ["08"], remission_scale=255)[0]
    expected = shared_tree.points["08/000000"].astype(np.float64) / [1, 1, 1, 255]
    assert np.allclose(scan.points, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [0, -1.0])
def test_bad_remission_scale_is_refused(shared_tree: KittiTree, scale: float) -> None:
    with pytest.raises(ConfigError, match="remission scale"):
        SemanticKITTIScans(shared_tree.root, ["08"], remission_scale=scale)


def test_poses_are_those_of_the_sensor(tmp_path: Path) -> None:
    # the camera looks along the sensor's x: camera (x, y, z) = sensor (-y, -z, x); it drives 5 m along its own z
    (tmp_path / "calib.txt").write_text("P0: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 2 0 1 0 3 0 0 1 5\n")
    poses = read_poses(tmp_path / "poses.txt", tmp_path / "calib.txt")
    assert np.allclose(poses[1], [[1, 0, 0, 5], [0, 1, 0, -2], [0, 0, 1, -3], [0, 0, 0, 1]], rtol=0, atol=1e-12)


def test_pose_is_found_by_frame_number(shared_tree: KittiTree) -> None:
    scan = SemanticKITTIScans(shared_tree.root, ["08"])[1]  # the second file, frame 3
    assert scan.pose is not None
    # the camera moved by (3, 6, 9); sensor x = camera z, y = -camera x, z = -camera y
    assert np.allclose(scan.pose[:3, 3], [9, -3, -6], rtol=0, atol=1e-12)


def test_sequence_without_poses_has_none(tree: KittiTree) -> None:
    (tree.root / "sequences" / "08" / "poses.txt").unlink()
    assert SemanticKITTIScans(tree.root, ["08"])[0].pose is None


@pytest.mark.parametrize("text", ["1 2 3\n", "one two\n", "1 0 0 0 0 1 0 0 0 0 1 0 7\n"])
def test_bad_poses_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "poses.txt").write_text(text)
    with pytest.raises(DataError, match="not a 3 x 4 matrix"):
        read_poses(tmp_path / "poses.txt", tmp_path / "calib.txt")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300"])
@pytest.mark.parametrize("file", ["poses.txt", "calib.txt"])
def test_poses_that_are_not_finite_are_refused(tmp_path: Path, file: str, value: str) -> None:
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    (tmp_path / "calib.txt").write_text("P0: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n")
    lines = (tmp_path / file).read_text().splitlines()
    (tmp_path / file).write_text("\n".join([*lines, f"{lines[-1][:-1]}{value}\n"]))
    with pytest.raises(DataError, match=rf"not finite or too large.*{file}:{len(lines) + 1}\."):
        read_poses(tmp_path / "poses.txt", tmp_path / "calib.txt")


@pytest.mark.parametrize("text", ["0 0 0 0 0 0 0 0 0 0 0 0", "1e-300 0 0 0 0 1 0 0 0 0 1 0"])
def test_calibration_without_an_inverse_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    (tmp_path / "calib.txt").write_text(f"Tr: {text}\n")
    with pytest.raises(DataError, match=r"calib\.txt"):
        read_poses(tmp_path / "poses.txt", tmp_path / "calib.txt")


def test_inspection_counts_the_classes(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    summary = inspect(SemanticKITTIScans(shared_tree.root, ["08"]), kitti_map)
    raw = np.concatenate([labels & 0xFFFF for name, labels in shared_tree.labels.items() if name.startswith("08")])
    expected = [np.isin(raw, ids).sum() for ids in ([0], [10, 252], [40], [48], [50], [70])]
    assert summary.class_counts[[0, 1, 9, 11, 13, 15]].tolist() == expected


def test_fingerprint_is_that_of_the_labelled_points(tree: KittiTree, kitti_map: LabelMap) -> None:
    def fingerprint(*sequences: str) -> str:
        return inspect(SemanticKITTIScans(tree.root, list(sequences)), kitti_map).fingerprint

    before, other = fingerprint("08"), fingerprint("00")
    assert before == fingerprint("08") != other
    labels = np.fromfile(tree.label("08/000003"), "<u4")
    labels[0] = 40 if labels[0] & 0xFFFF != 40 else 50
    labels.tofile(tree.label("08/000003"))
    assert fingerprint("08") != before


def test_inspection_names_a_scan_with_remission_out_of_range(tree: KittiTree, kitti_map: LabelMap) -> None:
    points = tree.points["08/000003"].copy()
    points[0, 3] = 200
    points.tofile(tree.bin("08/000003"))
    assert inspect(SemanticKITTIScans(tree.root, ["08"]), kitti_map).out_of_domain == "08/000003"


@pytest.mark.real
def test_real_scans_pass_the_inspection(real_root: Path, kitti_map: LabelMap) -> None:
    summary = inspect(SemanticKITTIScans(real_root, ["08"]), kitti_map)
    assert summary.out_of_domain is None
    assert summary.points > 100_000 * summary.scans


@pytest.mark.real
def test_real_sensor_drives_forward(real_root: Path) -> None:
    scans = SemanticKITTIScans(real_root, ["00"])
    first, last = scans[0].pose, scans[len(scans) - 1].pose
    assert first is not None
    assert last is not None
    moved = (np.linalg.inv(first) @ last)[:3, 3]
    assert moved[0] > 5 * abs(moved[1])
    assert abs(moved[2]) < 0.5
