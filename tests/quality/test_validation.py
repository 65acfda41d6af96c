"""The report on a whole data set: every kind of damage is found at the file that is damaged, once, and at no other."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from raw_tree import DAMAGES, Damage, RawTree, write_raw_tree

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.data.checks.findings import Finding, finding_lines, shown
from pointseg.data.checks.scan_check import ScanCheck
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.pages.validation_page import write_validation
from pointseg.quality.frame_check import FrameFiles, FrameReader, FrameResult, read_frames
from pointseg.quality.layout_check import OFFICIAL_SCANS, check_layout
from pointseg.quality.manifest import Manifest, file_sha256
from pointseg.quality.validation import validate
from pointseg.quality.validation_report import ValidationReport

PAGE = Path(__file__).parents[2] / "docs" / "data_checks.md"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[RawTree, Manifest]:
    """A tree that nobody changes, and its manifest."""
    tree = write_raw_tree(tmp_path_factory.mktemp("good") / "raw")
    return tree, Manifest.of(tree.root)


@pytest.fixture
def raw(good: tuple[RawTree, Manifest], tmp_path: Path) -> RawTree:
    """A copy that a test may damage."""
    shutil.copytree(good[0].root, tmp_path / "raw")
    return RawTree(tmp_path / "raw")


def look(tree: RawTree, label_map: LabelMap, manifest: Manifest | None = None) -> ValidationReport:
    return validate(tree.root, label_map, manifest=manifest, processes=1)


def errors(report: ValidationReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.is_error]


# ---- a good data set -------------------------------------------------------------------------------------------------


def test_good_files_have_no_finding_but_notes(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    report = look(*good[:1], kitti_map, good[1])
    assert report.ok
    assert {finding.level for finding in report.findings} == {"note"}
    assert [finding.what for finding in report.findings] == [
        "6 of the 4541 scans of the full data set",
        "4 of the 4071 scans of the full data set",
    ]


def test_official_scans_are_all_there() -> None:
    assert sum(OFFICIAL_SCANS.values()) == 43_552
    assert sum(OFFICIAL_SCANS[f"{sequence:02d}"] for sequence in range(11, 22)) == 20_351


def test_other_label_maps_expect_no_number_of_scans(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    own = LabelMap("own", kitti_map.labels, kitti_map.classes, kitti_map.ignored)
    report = look(good[0], own)
    assert report.findings == []
    assert {row.expected for row in report.sequences} == {None}


def test_tables_say_what_is_there(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    tree, manifest = good
    report = look(tree, kitti_map)
    row = report.sequences[0]
    assert (row.name, row.scans, row.labelled, row.expected, row.errors) == ("00", 6, 6, 4541, 0)
    assert row.points == sum(len(tree.points(frame)) for frame in range(6))
    assert {file.path: file.sha256 for file in report.files} == {n: entry.sha256 for n, entry in manifest.files.items()}
    scan = next(file for file in report.files if file.path == "sequences/00/velodyne/000003.bin")
    points = tree.points(3)
    assert scan.records == len(points) and scan.bytes == points.nbytes
    assert scan.ranges is not None
    assert np.allclose(scan.ranges, np.stack([points.min(0), points.max(0)], axis=1))


def test_class_counts_are_those_of_the_labels(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    report = look(good[0], kitti_map)
    source = SemanticKITTIScans(good[0].root, None)
    assert list(report.scan_counts) == source.names
    for number, name in enumerate(source.names):
        ids = kitti_map.to_train(source[number].required_labels)
        assert report.scan_counts[name] == np.bincount(ids, minlength=20).tolist()


@pytest.mark.parametrize("processes", [2, None])
def test_report_does_not_depend_on_processes(
    good: tuple[RawTree, Manifest], kitti_map: LabelMap, processes: int | None
) -> None:
    one, other = look(good[0], kitti_map).to_dict(), validate(good[0].root, kitti_map, processes=processes).to_dict()
    assert {k: v for k, v in one.items() if k not in ("seconds", "summary")} == {
        k: v for k, v in other.items() if k not in ("seconds", "summary")
    }


class Fatal(FrameReader):
    """Ends the process that it works in, if that is a worker, at the third frame."""

    def __call__(self, frame: FrameFiles) -> FrameResult:
        if multiprocessing.parent_process() is not None and frame.scan and frame.scan.stem == "000002":
            os._exit(1)
        return super().__call__(frame)


def test_frames_of_an_ended_process_are_read_in_this_one(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    (sequence,) = check_layout(good[0].root, ["00"]).sequences
    frames = [FrameFiles(sequence.scans[stem], sequence.labels[stem]) for stem in sequence.scans]
    seen = list(read_frames(Fatal(ScanCheck(kitti_map), 4, 1.0), frames, processes=2))
    assert [frame.scan_sha256 for frame in seen] == [file_sha256(frame.scan.path) for frame in frames if frame.scan]


def test_sequences_are_chosen(raw: RawTree, kitti_map: LabelMap) -> None:
    raw.scan(3).write_bytes(b"")
    report = validate(raw.root, kitti_map, sequences=[8], processes=1)
    assert report.ok and [row.name for row in report.sequences] == ["08"]
    assert not validate(raw.root, kitti_map, sequences=["00"], processes=1).ok


def test_sequence_that_is_not_there_is_a_finding(raw: RawTree, kitti_map: LabelMap) -> None:
    report = validate(raw.root, kitti_map, sequences=["05", "00"], processes=1)
    assert [finding.file for finding in errors(report)] == [str(raw.sequence("05") / "velodyne")]


def test_progress_is_told(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    told: list[tuple[int, int]] = []
    validate(good[0].root, kitti_map, processes=1, progress=lambda done, count: told.append((done, count)))
    assert told == [(number, 10) for number in range(1, 11)]


def test_folders_that_are_not_there_are_refused(tmp_path: Path, kitti_map: LabelMap) -> None:
    with pytest.raises(DataError, match="does not exist"):
        validate(tmp_path / "absent", kitti_map)
    with pytest.raises(DataError, match="no sequences"):
        validate(tmp_path, kitti_map)


def test_impossible_settings_are_refused(good: tuple[RawTree, Manifest], kitti_map: LabelMap) -> None:
    with pytest.raises(ConfigError, match="columns"):
        validate(good[0].root, kitti_map, columns=("x", "y"))
    with pytest.raises(ConfigError, match="remission"):
        validate(good[0].root, kitti_map, remission_scale=0)


# ---- every kind of damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_shows_in_bare_files(damage: Damage, raw: RawTree, kitti_map: LabelMap) -> None:
    damaged = {shown(path) for path in damage.apply(raw)}
    expected = {shown(path) for path in damage.named(raw)} if damage.named else damaged
    report = look(raw, kitti_map)
    found = errors(report)
    named = [finding.file for finding in found]
    assert len(named) == len(set(named)), "a file is blamed twice"
    if damage.bare == "yes":
        assert set(named) == expected
    elif damage.bare == "pair":
        assert found and all(len({finding.file, finding.or_file} & damaged) >= 1 for finding in found)
        assert damaged <= {file for finding in found for file in (finding.file, finding.or_file)}
    else:
        assert named == []
    warned = [finding for finding in report.findings if finding.level == "warning"]
    assert bool(warned) == (damage.bare == "warning")
    assert all({finding.file, finding.or_file} & damaged for finding in warned)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_shows_against_the_manifest(
    damage: Damage, raw: RawTree, good: tuple[RawTree, Manifest], kitti_map: LabelMap
) -> None:
    damaged = sorted(shown(path) for path in damage.apply(raw))
    named = sorted(finding.file for finding in errors(look(raw, kitti_map, good[1])))
    assert named == damaged  # each once


def test_there_are_at_least_thirty_kinds_of_damage_and_most_show_in_bare_files() -> None:
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES) >= 30
    assert sum(damage.bare in ("yes", "pair") for damage in DAMAGES) >= 60


def test_the_page_lists_every_damage() -> None:
    told = {"yes": "yes", "pair": "yes, as one of two files", "warning": "as a warning", "no": "no"}
    rows = [f"| {damage.name} | {told[damage.bare]} | yes | yes |" for damage in DAMAGES]
    listed = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert listed[2:] == rows


def test_damages_of_several_files_are_told_apart(raw: RawTree, kitti_map: LabelMap) -> None:
    chosen = ("scan: empty", "labels: one too many", "poses: NaN", "calib: no line Tr", "times: not ascending")
    damaged: set[Path] = set()
    for damage in DAMAGES:
        if damage.name in chosen:
            damaged |= damage.apply(raw)
    assert {finding.file for finding in errors(look(raw, kitti_map))} == {str(path) for path in damaged}


# ---- values ----------------------------------------------------------------------------------------------------------


def test_five_columns_read_as_four_are_one_finding(raw: RawTree, kitti_map: LabelMap) -> None:
    for frame in range(6):
        values = raw.points(frame)
        np.hstack([values, values[:, :1]]).astype("<f4").tofile(raw.scan(frame))
    (found,) = errors(look(raw, kitti_map))
    assert (found.kind, found.file) == ("columns", str(raw.sequence("00") / "velodyne"))
    assert "5 values" in found.what
    columns = ("x", "y", "z", "remission", "ring")
    assert validate(raw.root, kitti_map, sequences=["00"], columns=columns, processes=1).ok


def test_remission_scale_is_taken(raw: RawTree, kitti_map: LabelMap) -> None:
    for sequence, frames in (("00", range(6)), ("08", range(0, 20, 5))):
        for frame in frames:
            values = raw.points(frame, sequence)
            values[:, 3] = np.rint(values[:, 3] * 255)
            values.tofile(raw.scan(frame, sequence))
    assert {finding.kind for finding in errors(look(raw, kitti_map))} == {"remission scale"}
    assert validate(raw.root, kitti_map, remission_scale=255, processes=1).ok


def test_one_remission_off_a_grid_of_255_is_found(raw: RawTree, kitti_map: LabelMap) -> None:
    values = raw.points(3)
    values[:, 3] = np.rint(values[:, 3] * 255) / np.float32(255)
    values.tofile(raw.scan(3))
    assert look(raw, kitti_map).ok
    values[7, 3] += np.float32(1e-3)
    values.tofile(raw.scan(3))
    assert [finding.file for finding in errors(look(raw, kitti_map))] == [str(raw.scan(3))]


def test_remission_without_a_grid_is_no_fault(raw: RawTree, kitti_map: LabelMap) -> None:
    values = raw.points(3)
    values[:, 3] = np.random.default_rng(0).uniform(0, 1, len(values))
    values.tofile(raw.scan(3))
    assert look(raw, kitti_map).ok


def test_some_points_at_the_sensor_are_a_warning_and_most_an_error(raw: RawTree, kitti_map: LabelMap) -> None:
    values = raw.points(3)
    values[::4, :3] = 0
    values.tofile(raw.scan(3))
    report = look(raw, kitti_map)
    assert report.ok and [f.kind for f in report.findings if f.level == "warning"] == ["zero points"]
    values[::2, :3] = 0
    values[1, :3] = 0
    values.tofile(raw.scan(3))
    assert [finding.kind for finding in errors(look(raw, kitti_map))] == ["zero points"]


def test_residues_of_a_calculation_are_no_fault(raw: RawTree, kitti_map: LabelMap) -> None:
    values = raw.points(3)
    values[:50, 0] = 1e-17  # 5 m * cos(90 degrees)
    values.tofile(raw.scan(3))
    assert look(raw, kitti_map).ok


def test_limits_of_the_check_are_taken(raw: RawTree, kitti_map: LabelMap) -> None:
    report = validate(raw.root, kitti_map, check=ScanCheck(kitti_map, max_range=10), processes=1)
    assert {finding.kind for finding in errors(report)} == {"out of range"}


def test_corner_of_the_box_is_not_beyond_the_range(raw: RawTree, kitti_map: LabelMap) -> None:
    values = raw.points(3)
    values[0, :2], values[1, :2] = (249, 1), (1, 249)  # largest x and largest y of different points
    values.tofile(raw.scan(3))
    assert look(raw, kitti_map).ok


def test_few_points_are_a_warning_where_no_labels_tell(raw: RawTree, kitti_map: LabelMap) -> None:
    shutil.rmtree(raw.sequence("00") / "labels")
    raw.scan(3).write_bytes(raw.scan(3).read_bytes()[: 16 * 100])
    report = look(raw, kitti_map)
    assert report.ok
    assert [f.file for f in report.findings if f.level == "warning"] == [str(raw.scan(3))]


def test_equal_scans_of_two_sequences_are_found(raw: RawTree, kitti_map: LabelMap) -> None:
    shutil.copy(raw.scan(3), raw.scan(5, "08"))
    shutil.copy(raw.labels(3), raw.labels(5, "08"))
    (found,) = errors(look(raw, kitti_map))
    assert {found.file, found.or_file} == {str(raw.scan(3)), str(raw.scan(5, "08"))}
    assert "00/velodyne/000003.bin" in found.what


def test_frames_without_labels_may_have_equal_label_files(raw: RawTree, kitti_map: LabelMap) -> None:
    for frame in (1, 2):
        np.zeros(len(raw.points(frame)), "<u4").tofile(raw.labels(frame))
    report = look(raw, kitti_map)
    assert {finding.level for finding in report.findings} == {"note"}


# ---- manifest --------------------------------------------------------------------------------------------------------


def test_damaged_manifest_is_a_finding(raw: RawTree, kitti_map: LabelMap) -> None:
    path = raw.root / "manifest.json"
    path.write_text('{"format": 1, "files": [')
    (found,) = errors(validate(raw.root, kitti_map, manifest=path, processes=1))
    assert found.file == str(path) and "damaged" in found.what


def test_manifest_of_a_choice_of_frames_allows_its_gaps(raw: RawTree, kitti_map: LabelMap) -> None:
    for path in (raw.scan(3), raw.labels(3)):
        path.unlink()
    assert not look(raw, kitti_map).ok
    assert validate(raw.root, kitti_map, allow_gaps=True, processes=1).ok
    assert look(raw, kitti_map, Manifest.of(raw.root)).ok


# ---- what is written -------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, texts, and addresses that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_files_are_written(raw: RawTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    raw.scan(3).write_bytes(b"")
    report = look(raw, kitti_map)
    paths = write_validation(report, tmp_path / "report")
    assert [path.name for path in paths] == ["validation.json", "validation.html"]
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(report.to_dict()))
    assert content["ok"] is False and content["findings"][0]["file"] == str(raw.scan(3))
    page = Page(paths[1].read_text(encoding="utf-8"))
    assert page.fetched == [] and "script" not in page.tags and "link" not in page.tags
    assert "The data cannot be used as it is: 1 error" in page.texts


def test_names_are_escaped_on_the_page(raw: RawTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    (raw.sequence("00") / "velodyne" / "<img src=x>&.bin").write_bytes(b"")
    page = Page(write_validation(look(raw, kitti_map), tmp_path / "report")[1].read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert any("<img src=x>&.bin" in text for text in page.texts)


def test_page_lists_few_files_and_says_how_many_are_left(
    raw: RawTree, kitti_map: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointseg.pages.validation_page.FILES", 5)
    raw.labels(4).write_bytes(b"")
    report = look(raw, kitti_map)
    page = Page(write_validation(report, tmp_path / "report")[1].read_text(encoding="utf-8"))
    assert f"and {len(report.files) - 6} more files, in validation.json." in page.texts
    assert "sequences/00/labels/000004.label" in page.texts


def test_lines_for_the_terminal_end_with_a_count() -> None:
    findings = [Finding("note", "k", "z", "a note")]
    findings += [Finding("error", "k", f"{number}.bin", "bad", "Copy it.") for number in range(23)]
    lines = finding_lines(findings)
    assert lines[0] == "error: bad: 0.bin. Copy it." and len(lines) == 21
    assert lines[-1] == "and 3 errors, 1 note more"
    assert finding_lines(findings[:1]) == ["note: a note: z."]


def test_real_scans_have_no_error(real_root: Path, kitti_map: LabelMap) -> None:
    report = validate(real_root, kitti_map)
    assert report.ok and {finding.level for finding in report.findings} <= {"note"}
