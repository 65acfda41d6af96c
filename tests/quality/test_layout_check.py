"""Structure of a raw folder: names, sizes, gaps, pairs and text files, without reading points."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import write_tree
from raw_tree import RawTree, write_raw_tree

from pointseg.core.errors import DataError
from pointseg.data.checks.findings import Finding
from pointseg.data.synthetic import write_sequences
from pointseg.quality.layout_check import check_layout


@pytest.fixture
def raw(tmp_path: Path) -> RawTree:
    return write_raw_tree(tmp_path / "raw")


def errors(root: Path, **settings: object) -> list[Finding]:
    return [finding for finding in check_layout(root, **settings).findings if finding.is_error]  # type: ignore[arg-type]


def test_good_files_have_no_finding(raw: RawTree) -> None:
    layout = check_layout(raw.root)
    assert layout.findings == []
    assert [sequence.name for sequence in layout.sequences] == ["00", "08"]
    first = layout.sequences[0]
    assert first.labelled and list(first.scans) == [f"{frame:06d}" for frame in range(6)]
    assert first.scans["000003"].records == first.labels["000003"].records == 505
    assert [file.kind for file in first.tracks] == ["poses", "calib", "times"]


def test_synthetic_data_sets_have_no_finding(tmp_path: Path) -> None:
    write_sequences(tmp_path, scans=4, seed=1, beams=16, azimuth_steps=64, processes=1)
    assert check_layout(tmp_path).findings == []


def test_no_points_are_read(raw: RawTree) -> None:
    for frame in range(6):
        raw.scan(frame).write_bytes(b"\xff" * raw.scan(frame).stat().st_size)
    assert check_layout(raw.root).findings == []


def test_unlabelled_sequences_have_no_finding(raw: RawTree) -> None:
    shutil.rmtree(raw.sequence("08") / "labels")
    layout = check_layout(raw.root)
    assert layout.findings == [] and not layout.sequences[1].labelled


def test_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_layout(tmp_path / "absent")
    with pytest.raises(DataError, match="no sequences"):
        check_layout(tmp_path)


# ---- frame numbers ---------------------------------------------------------------------------------------------------


def test_irregular_frames_are_found_unless_they_are_allowed(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, ("00",))  # frames 0, 3, 7
    (found,) = errors(tree.root)
    assert found.file == str(tree.bin("00/000007")) and "advance by 3" in found.what
    assert errors(tree.root, allow_gaps=True) == []


def test_missing_frames_are_named(raw: RawTree) -> None:
    for frame in (5, 10):
        raw.scan(frame, "08").unlink()
        raw.labels(frame, "08").unlink()
    assert errors(raw.root) == []  # 0 and 15: a step of 15
    for frame in (2, 3):
        raw.scan(frame).unlink()
        raw.labels(frame).unlink()
    (found,) = errors(raw.root)
    assert found.file == str(raw.scan(2)) and found.what == "frames 2, 3 are missing (2)"


def test_long_gaps_are_one_finding(raw: RawTree) -> None:
    raw.scan(5).rename(raw.scan(999_999))
    raw.labels(5).rename(raw.labels(999_999))
    found = [finding for finding in errors(raw.root) if finding.kind == "frame gap"]
    assert len(found) == 1 and found[0].file == str(raw.scan(5))
    assert found[0].what == "frames 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, ... are missing (999994)"


def test_scan_missing_beside_its_label_file_is_said_once(raw: RawTree) -> None:
    raw.scan(3).unlink()
    (found,) = errors(raw.root)
    assert found.file == str(raw.scan(3)) and "its label file is there" in found.what


def test_two_frames_are_never_a_gap(raw: RawTree) -> None:
    for frame in (5, 15):
        raw.scan(frame, "08").unlink()
        raw.labels(frame, "08").unlink()
    assert errors(raw.root) == []


# ---- names and sizes -------------------------------------------------------------------------------------------------


def test_names_of_other_widths_are_a_warning_if_all_have_it(raw: RawTree) -> None:
    for folder, suffix in (("velodyne", ".bin"), ("labels", ".label")):
        for path in (raw.sequence("00") / folder).iterdir():
            path.rename(path.with_name(f"{int(path.stem):010d}{suffix}"))
    findings = check_layout(raw.root).findings
    assert [(finding.level, finding.kind) for finding in findings] == [("warning", "file name")] * 2


def test_one_name_of_another_width_is_an_error(raw: RawTree) -> None:
    shutil.copy(raw.scan(3), raw.scan(3).with_name("3.bin"))
    (found,) = errors(raw.root)
    assert found.file.endswith("/3.bin") and "6 digits" in found.what


def test_names_that_are_no_numbers_at_all_are_one_finding_a_folder(raw: RawTree) -> None:
    for path in (raw.sequence("08") / "velodyne").iterdir():
        path.rename(path.with_name(f"scan_{path.stem}.bin"))
    for path in (raw.sequence("08") / "labels").iterdir():
        path.rename(path.with_name(f"scan_{path.stem}.label"))
    assert [finding.file for finding in errors(raw.root)] == [
        str(raw.sequence("08") / "velodyne"),
        str(raw.sequence("08") / "labels"),
    ]


def test_misnamed_file_is_not_looked_at_further(raw: RawTree) -> None:
    (raw.scan(0).parent / "._000000.bin").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
    assert [finding.kind for finding in errors(raw.root)] == ["file name"]


def test_other_files_are_one_warning_a_folder(raw: RawTree) -> None:
    for name in ("notes.txt", "000000.bin.part", ".000001.bin.tmp"):
        (raw.scan(0).parent / name).write_text("")
    (found,) = check_layout(raw.root).findings
    assert (found.level, found.file) == ("warning", str(raw.scan(0).parent)) and "3 files" in found.what


def test_columns_decide_on_sizes(raw: RawTree) -> None:
    os.truncate(raw.scan(3), 505 * 16 + 8)
    assert [finding.kind for finding in errors(raw.root)] == ["cut off"]
    shutil.rmtree(raw.sequence("08"))
    shutil.rmtree(raw.sequence("00") / "labels")
    for frame in range(6):
        os.truncate(raw.scan(frame), 20 * (100 + frame))
    layout = check_layout(raw.root, columns=5)
    assert layout.findings == [] and layout.sequences[0].scans["000003"].records == 103


def test_special_files_are_not_opened(raw: RawTree) -> None:
    raw.scan(3).unlink()
    os.mkfifo(raw.scan(3))  # opening it would wait for ever
    (found,) = errors(raw.root)
    assert found.file == str(raw.scan(3)) and found.what == "not a regular file"


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_labels_folder_without_files_is_one_finding(raw: RawTree) -> None:
    for path in (raw.sequence("08") / "labels").iterdir():
        path.unlink()
    assert [finding.file for finding in errors(raw.root)] == [str(raw.sequence("08") / "labels")]


def test_file_in_place_of_the_labels_folder_is_found(raw: RawTree) -> None:
    shutil.rmtree(raw.sequence("08") / "labels")
    (raw.sequence("08") / "labels").write_text("")
    assert [finding.file for finding in errors(raw.root)] == [str(raw.sequence("08") / "labels")]


def test_sequence_without_scans_is_found(raw: RawTree) -> None:
    for path in (raw.sequence("08") / "velodyne").iterdir():
        path.unlink()
    assert [finding.file for finding in errors(raw.root)] == [str(raw.sequence("08") / "velodyne")]


def test_sequence_of_labels_alone_is_a_warning_unless_it_is_asked_for(raw: RawTree) -> None:
    shutil.rmtree(raw.sequence("08") / "velodyne")
    (found,) = check_layout(raw.root).findings
    assert (found.level, found.file) == ("warning", str(raw.sequence("08") / "velodyne"))
    assert [finding.level for finding in check_layout(raw.root, [8]).findings] == ["error"]


# ---- poses, calibration, times ---------------------------------------------------------------------------------------


def test_more_poses_than_scans_are_no_fault(raw: RawTree) -> None:
    assert len((raw.sequence("00") / "poses.txt").read_text().splitlines()) == 20
    assert errors(raw.root) == []


@pytest.mark.parametrize("name", ["poses.txt", "times.txt"])
def test_as_many_lines_as_frames_are_enough(raw: RawTree, name: str) -> None:
    for file in ("poses.txt", "times.txt"):
        path = raw.sequence("00") / file
        path.write_text("\n".join(path.read_text().splitlines()[:6]))
    assert errors(raw.root) == []
    path = raw.sequence("00") / name
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    (found,) = errors(raw.root)
    assert found.file == str(path) and found.what == "5 lines, but frame 5 needs 6"


def test_lines_are_named(raw: RawTree) -> None:
    path = raw.sequence("00") / "poses.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:7], "1 0 0 zero 0 1 0 0 0 0 1 7", *lines[8:]]))
    (found,) = errors(raw.root)
    assert found.what == "line 8 is not 12 numbers ('1 0 0 zero 0 1 0 0 0 0 1 7')"


def test_fast_steps_are_no_jump_where_times_say_so(raw: RawTree) -> None:
    folder = raw.sequence("00")
    folder.joinpath("poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {15 * n}\n" for n in range(20)))
    assert [finding.kind for finding in errors(raw.root)] == ["jump"]
    folder.joinpath("times.txt").write_text("".join(f"{0.5 * n}\n" for n in range(20)))
    assert errors(raw.root) == []


def test_bad_times_do_not_make_poses_bad(raw: RawTree) -> None:
    folder = raw.sequence("00")
    folder.joinpath("poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {15 * n}\n" for n in range(20)))
    folder.joinpath("times.txt").write_text("".join(f"{0.5 * n}\n" for n in [*range(18), 3, 19]))
    assert [finding.file for finding in errors(raw.root)] == [str(folder / "times.txt")]


def test_poses_without_calibration_are_a_warning(raw: RawTree) -> None:
    (raw.sequence("00") / "calib.txt").unlink()
    (found,) = check_layout(raw.root).findings
    assert (found.level, found.file) == ("warning", str(raw.sequence("00") / "calib.txt"))


def test_mirrored_calibration_is_not_rigid(raw: RawTree) -> None:
    (raw.sequence("00") / "calib.txt").write_text("Tr: -1 0 0 0 0 1 0 0 0 0 1 0\n")
    assert [finding.kind for finding in errors(raw.root)] == ["not rigid"]


def test_other_lines_of_the_calibration_are_not_read(raw: RawTree) -> None:
    path = raw.sequence("00") / "calib.txt"
    path.write_text("calib_time: 09-Jan-2012\n\n" + path.read_text())
    assert errors(raw.root) == []


@pytest.mark.parametrize("name", ["poses.txt", "calib.txt", "times.txt"])
def test_folder_in_place_of_a_text_file_is_found(raw: RawTree, name: str) -> None:
    path = raw.sequence("00") / name
    path.unlink()
    path.mkdir()
    found = check_layout(raw.root).findings
    assert [finding.file for finding in found] == [str(path)] and found[0].is_error
