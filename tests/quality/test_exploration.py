"""Explorations against counts made one point at a time; their figures, files and page."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import KittiTree, write_tree
from matplotlib.patches import Rectangle

from pointseg.core.errors import ConfigError, DataError, LabelMapError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.data.scan import Scan
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.store import PackedScans, PackSettings, pack
from pointseg.engine.losses import class_weights
from pointseg.pages.exploration_figures import figures
from pointseg.pages.exploration_page import show, write_exploration, write_page
from pointseg.quality.exploration import Exploration, explore
from pointseg.quality.exploration_counts import choose_scans

FIGURES_OF_LABELS = {
    "classes_by_split",
    "classes_by_sequence",
    "scans_by_content",
    "remission_by_class",
    "class_weights",
}
FIGURES = FIGURES_OF_LABELS | {"points_by_range", "points_by_height", "contact_sheet"}


@pytest.fixture(scope="module")
def explored(shared_tree: KittiTree, kitti_map: LabelMap) -> Exploration:
    return explore(SemanticKITTIScans(shared_tree.root, None), kitti_map)


@dataclass(frozen=True)
class GivenScans:
    """Scans made by a test, as a source."""

    names: Sequence[str]
    scans: Sequence[Scan]

    @property
    def expected_points(self) -> int:
        return sum(len(scan.points) for scan in self.scans)

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int) -> Scan:
        return self.scans[index]


def given(names: Sequence[str], labels: Sequence[Sequence[int] | None], at: Sequence[float] = (1, 2, 3)) -> GivenScans:
    """Scans whose points all lie at one place."""
    scans = []
    for name, raw in zip(names, labels, strict=True):
        points = np.array([[*at, 0.5]] * (4 if raw is None else len(raw)), np.float32)
        scans.append(Scan(points, None if raw is None else np.array(raw, np.uint32), name))
    return GivenScans(names, scans)


# ---- counts ----------------------------------------------------------------------------------------------------------


def slow_count(tree: KittiTree, label_map: LabelMap) -> dict[str, Any]:
    """What the tree holds, one point at a time, in plain Python."""
    class_of = {
        raw: name for name, group in zip(label_map.class_names, label_map.classes, strict=True) for raw in group
    }
    found: dict[str, Any] = {
        "scan": {},
        "sequence": {},
        "range": Counter(),
        "height": Counter(),
        "remission": Counter(),
        "all": Counter(),
    }
    for name, points in tree.points.items():
        for (x, y, z, remission), label in zip(points.tolist(), tree.labels[name].tolist(), strict=True):
            kind = class_of.get(label & 0xFFFF, "ignored")
            found["scan"].setdefault(name, Counter())[kind] += 1
            found["sequence"].setdefault(name.split("/")[0], Counter())[kind] += 1
            found["range"][min(int(math.sqrt(x * x + y * y + z * z) / 5), 16), kind] += 1
            found["height"][math.floor(z / 0.5) * 0.5, kind] += 1
            found["remission"][kind] += remission
            found["all"][kind] += 1
    return found


def test_counts_are_those_of_a_slow_count(explored: Exploration, shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    slow, found = slow_count(shared_tree, kitti_map), explored.to_dict()
    names = kitti_map.class_names
    assert found["points_by_class"] == {name: slow["all"][name] for name in names}
    assert found["ignored_points"] == slow["all"]["ignored"]
    assert found["unlabelled_points"] == 0
    assert found["points"] == sum(slow["all"].values())
    for sequence in ("00", "08"):
        by_class = found["sequences"][sequence]["points_by_class"]
        assert by_class == {name: slow["sequence"][sequence][name] for name in names}
    assert found["splits"]["train"]["points_by_class"] == found["sequences"]["00"]["points_by_class"]
    assert found["splits"]["val"]["points_by_class"] == found["sequences"]["08"]["points_by_class"]
    assert list(found["splits"]) == ["train", "val"]

    assert found["range"]["from_m"] == [5 * i for i in range(17)]
    assert found["height"]["from_m"] == sorted({z for z, _ in slow["height"]})
    for axis, bins in (("range", range(17)), ("height", found["height"]["from_m"])):
        for name in names:
            expected = [slow[axis][place, name] for place in bins]
            assert found[axis]["points_by_class"][name] == expected
        assert found[axis]["ignored_points"] == [slow[axis][place, "ignored"] for place in bins]

    for name in names:
        count, mean = slow["all"][name], found["mean_remission"]["by_class"][name]
        assert mean == (pytest.approx(slow["remission"][name] / count, abs=1e-5) if count else None)
        shown = {scan: counts[name] for scan, counts in slow["scan"].items() if counts[name]}
        content = found["content"][name]
        assert content["scans"] == len(shown)
        assert content["share_of_labelled_scans"] == pytest.approx(len(shown) / 6)
        most = [entry["points"] for entry in content["most"]]
        assert most == sorted(shown.values(), reverse=True)[:3]
        assert all(shown[entry["scan"]] == entry["points"] for entry in content["most"])

    lengths = sorted(len(points) for points in shared_tree.points.values())
    assert found["points_per_scan"] == {"min": lengths[0], "median": sum(lengths[2:4]) / 2, "max": lengths[-1]}
    assert (found["scans"], found["labelled_scans"], found["scans_looked_at"]) == (6, 6, 6)


def test_class_weights_are_of_the_training_split(explored: Exploration, kitti_map: LabelMap) -> None:
    counts = explored.to_dict()["splits"]["train"]["points_by_class"]
    assert explored.weights_of == "train"
    assert set(explored.class_weights) == {"none", "inverse", "sqrt_inverse", "effective_number"}
    for weighting, weights in explored.class_weights.items():
        assert np.array_equal(weights, class_weights([counts[name] for name in kitti_map.class_names], weighting))


def test_points_on_an_edge_and_beyond_the_last(small_map: LabelMap) -> None:
    near = explore(given(["00/0"], [[10]], at=(3, 4, 0)), small_map).to_dict()  # 5 m away, at a height of 0
    assert near["range"]["points_by_class"]["car"] == [0, 1] + [0] * 15
    assert near["height"]["from_m"] == [0.0]
    below = explore(given(["00/0"], [[10]], at=(0, 300, -0.5)), small_map).to_dict()
    assert below["range"]["points_by_class"]["car"][-1] == 1
    assert below["height"]["from_m"] == [-0.5]
    assert explore(given(["00/0"], [[10]], at=(0, 0, 1e6)), small_map).height_from.tolist() == [99.5]


def test_splits_may_be_given(explored: Exploration, shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    source = SemanticKITTIScans(shared_tree.root, None)
    found = explore(source, kitti_map, split_of={"08": "train"}, samples=0)
    assert found.split_of == {"00": "other", "08": "train"}
    assert list(found.splits) == ["train", "other"]
    assert np.array_equal(found.splits["train"].counts, explored.splits["val"].counts)


def test_weights_without_a_training_split_are_of_all(small_map: LabelMap) -> None:
    found = explore(given(["street/0", "street/1"], [[10, 40], [40, 40]]), small_map)
    assert found.weights_of == "all"
    assert found.class_weights["inverse"].tolist() == pytest.approx([1.5, 0.5, 0.0])


def test_threads_and_progress_change_nothing(
    explored: Exploration, shared_tree: KittiTree, kitti_map: LabelMap
) -> None:
    steps: list[tuple[int, int]] = []
    source = SemanticKITTIScans(shared_tree.root, None)
    again = explore(source, kitti_map, threads=1, progress=lambda done, total: steps.append((done, total)))
    assert again.to_dict() == explored.to_dict()
    assert steps == [(i, 6) for i in range(1, 7)]


# ---- scans without labels --------------------------------------------------------------------------------------------


def test_scans_without_labels(shared_tree: KittiTree, kitti_map: LabelMap) -> None:
    found = explore(SemanticKITTIScans(shared_tree.root, None, labelled=False), kitti_map)
    content = found.to_dict()
    assert content["labelled_scans"] == 0
    assert content["unlabelled_points"] == content["points"] == sum(map(len, shared_tree.points.values()))
    assert content["ignored_points"] == 0 and set(content["points_by_class"].values()) == {0}
    assert sum(content["range"]["unlabelled_points"]) == content["points"]
    assert content["class_weights"] == {} and content["content"]["car"]["share_of_labelled_scans"] is None
    assert content["mean_remission"]["all"] == pytest.approx(
        float(np.mean(np.concatenate(list(shared_tree.points.values()))[:, 3])), abs=1e-5
    )
    assert all(sample.train_ids is None for sample in found.samples)
    drawn = figures(found)
    assert set(drawn) == FIGURES - FIGURES_OF_LABELS
    assert len(drawn["points_by_range"].axes) == 1  # nothing to be said of classes


def test_labelled_and_unlabelled_scans_together(small_map: LabelMap) -> None:
    found = explore(given(["00/0", "00/1", "11/0"], [[10, 40, 0], [40], None]), small_map)
    content = found.to_dict()
    assert content["labelled_scans"] == 2
    assert content["points_by_class"] == {"car": 1, "road": 2, "building": 0}
    assert (content["ignored_points"], content["unlabelled_points"]) == (1, 4)
    assert content["content"]["car"]["share_of_labelled_scans"] == 0.5
    assert content["splits"]["test"]["unlabelled_points"] == 4
    assert content["samples"] == ["00/0", "00/1"]  # labelled ones first
    assert set(figures(found)) == FIGURES


# ---- packed stores ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(shared_tree: KittiTree, kitti_map: LabelMap, tmp_path_factory: pytest.TempPathFactory) -> PackedScans:
    source = SemanticKITTIScans(shared_tree.root, None)
    settings = PackSettings(record="wide", features=None)
    packed = pack(source, tmp_path_factory.mktemp("packed"), kitti_map, settings, processes=1)
    assert packed.store is not None
    return PackedScans(packed.store)


def assert_same(found: Exploration, expected: Exploration) -> None:
    """Equal, but for points within a millimetre of a bin's edge: a store rounds coordinates to whole ones."""
    assert np.array_equal(found.scan_counts, expected.scan_counts)
    geometry = {"range", "height"}
    one, other = found.to_dict(), expected.to_dict()
    assert {key: one[key] for key in one.keys() - geometry} == {key: other[key] for key in other.keys() - geometry}
    heights = [dict(zip(e.height_from, e.height_counts, strict=True)) for e in (found, expected)]
    none = np.zeros(found.range_counts.shape[1], np.int64)
    moved = sum(np.abs(heights[0].get(z, none) - heights[1].get(z, none)).sum() for z in {*heights[0], *heights[1]})
    assert moved + np.abs(found.range_counts - expected.range_counts).sum() <= 0.002 * found.total.points


def test_a_store_gives_what_its_scans_give(explored: Exploration, store: PackedScans, kitti_map: LabelMap) -> None:
    found = explore(store, kitti_map)
    assert_same(found, explored)


def test_of_a_large_store_some_scans_are_read(
    explored: Exploration, store: PackedScans, kitti_map: LabelMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    scan = store.store.scan

    def watched(number: int) -> Scan:
        read.append(number)
        return scan(number)

    monkeypatch.setattr(store.store, "scan", watched)
    found = explore(store, kitti_map, geometry_scans=2, samples=0)
    assert sorted(read) == [1, 4]
    assert found.scans_looked_at == found.to_dict()["scans_looked_at"] == 2
    assert np.array_equal(found.scan_counts, explored.scan_counts)
    lengths = explored.scan_counts.sum(axis=1)
    assert found.range_counts.sum() == found.height_counts.sum() == lengths[1] + lengths[4]
    assert "2 of 6 scans" in figures(found)["points_by_range"].axes[0].get_title(loc="left")


def test_a_store_of_scans_without_labels(shared_tree: KittiTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    source = SemanticKITTIScans(shared_tree.root, ["00"], labelled=False)
    packed = pack(source, tmp_path / "store", kitti_map, PackSettings(record="wide", features=None), processes=1)
    assert packed.store is not None
    assert_same(explore(PackedScans(packed.store), kitti_map), explore(source, kitti_map))


def test_a_store_of_another_label_map_is_refused(store: PackedScans, small_map: LabelMap) -> None:
    with pytest.raises(DataError, match="label map"):
        explore(store, small_map)


# ---- samples ---------------------------------------------------------------------------------------------------------


def test_samples_are_spread_over_the_sequences(explored: Exploration) -> None:
    assert [sample.name for sample in explored.samples] == explored.names  # six of six
    for sample, name in zip(explored.samples, explored.names, strict=True):
        assert len(sample.points) == explored.scan_counts[explored.names.index(name)].sum()


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (0, []),
        (1, ["b/1"]),
        (2, ["a/2", "c/2"]),
        (3, ["a/2", "b/1", "c/2"]),
        (5, ["a/1", "a/3", "b/1", "c/1", "c/3"]),
        (99, ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "c/0", "c/1", "c/2", "c/3"]),
    ],
)
def test_choice_of_samples(wanted: int, chosen: list[str]) -> None:
    names = [f"{sequence}/{i}" for sequence, count in (("a", 4), ("b", 2), ("c", 4)) for i in range(count)]
    assert [names[i] for i in choose_scans(names, np.ones(len(names), np.bool_), wanted)] == chosen


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_refusals(shared_tree: KittiTree, kitti_map: LabelMap, small_map: LabelMap) -> None:
    source = SemanticKITTIScans(shared_tree.root, ["00"])
    with pytest.raises(DataError, match="no scan to explore"):
        explore(given([], []), kitti_map)
    with pytest.raises(LabelMapError, match=r"000000\.label"):
        explore(source, small_map)
    with pytest.raises(ConfigError, match="samples"):
        explore(source, kitti_map, samples=-1)
    with pytest.raises(ConfigError, match="threads"):
        explore(source, kitti_map, threads=0)
    with pytest.raises(ConfigError, match="geometry_scans"):
        explore(source, kitti_map, geometry_scans=0)


def test_a_folder_that_cannot_be_written(explored: Exploration, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_exploration(explored, tmp_path / "file" / "folder")


# ---- figures, files, page --------------------------------------------------------------------------------------------


def ticks(axes: Any, axis: str = "y") -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{axis}ticklabels")()]


def test_figures_say_what_they_show(explored: Exploration, kitti_map: LabelMap) -> None:
    drawn = figures(explored)
    assert set(drawn) == FIGURES
    everything = {"ignored", *kitti_map.class_names}

    by_split = drawn["classes_by_split"].axes[0]
    assert by_split.get_xscale() == "log" and "%" in by_split.get_xlabel()
    assert set(ticks(by_split)) == everything
    legend = [text.get_text() for text in drawn["classes_by_split"].legends[0].get_texts()]
    assert [entry.split(":")[0] for entry in legend] == ["train", "val"] and "3 scans" in legend[0]

    by_sequence = drawn["classes_by_sequence"].axes[0]
    assert ticks(by_sequence, "x") == ["00\ntrain", "08\nval"]
    row = ticks(by_sequence).index("car")
    share = explored.sequences["00"].counts[1] / explored.sequences["00"].counts.sum()
    shades = np.asarray(by_sequence.images[0].get_array())
    assert 10 ** shades[row, 0] == pytest.approx(100 * share)

    content = drawn["scans_by_content"].axes[0]
    assert ticks(content)[0] in everything and "6 scans" in content.get_title(loc="left")
    assert any("00/0000" in text.get_text() for text in content.texts)

    for name, unit in (("points_by_range", "m"), ("points_by_height", "m")):
        panels = drawn[name].axes
        assert len(panels) == 2 and all(f", {unit} " in axes.get_xlabel() for axes in panels)
        assert "thousand" in panels[0].get_ylabel()
        bars = [bar for axes in panels for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_height()]
        total = sum(bar.get_height() for bar in bars if bar.axes is panels[0])
        assert total == pytest.approx(explored.total.points / 6 / 1000, rel=0.01)
        tops = {round(bar.get_x(), 3): bar.get_y() + bar.get_height() for bar in bars if bar.axes is panels[1]}
        assert all(top == pytest.approx(100) for top in tops.values())

    remission = drawn["remission_by_class"].axes[0]
    assert "remission" in remission.get_xlabel()
    assert set(ticks(remission)) == {"ignored", "car", "road", "sidewalk", "building", "vegetation"}

    weights = drawn["class_weights"].axes[0]
    assert weights.get_xscale() == "log"
    lines = {line.get_label(): np.asarray(line.get_xdata()) for line in weights.lines}
    shown = [kitti_map.class_names.index(name) for name in ticks(weights)]
    assert np.array_equal(lines["inverse"], explored.class_weights["inverse"][shown])

    sheet = drawn["contact_sheet"]
    assert [axes.get_title().split()[0] for axes in sheet.axes] == explored.names
    entries = {text.get_text() for text in sheet.legends[0].get_texts()}
    assert entries == {"ignored", "car", "road", "sidewalk", "building", "vegetation"}


def test_of_many_classes_the_commonest_are_stacked(kitti_map: LabelMap) -> None:
    canonical = [group[0] for group in kitti_map.classes]
    raw = [label for count, label in enumerate(canonical, start=1) for _ in range(count)]
    figure = figures(explore(given(["00/0"], [raw]), kitti_map))["points_by_range"]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == [*reversed(kitti_map.class_names[-9:]), "10 rarer classes"]


def test_files_are_written(small_map: LabelMap, tmp_path: Path) -> None:
    explored = explore(given(["00/0", "08/0"], [[10, 40, 0], [40, 50]]), small_map)
    paths = write_exploration(explored, tmp_path / "found")
    assert {path.name for path in paths} == {"exploration.json", *(f"{name}.png" for name in FIGURES)}
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths)  # nothing temporary is left
    assert json.loads(paths[0].read_text(encoding="utf-8")) == explored.to_dict()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[1:])


def test_page_needs_no_other_file(small_map: LabelMap, tmp_path: Path) -> None:
    source = given(["<b>/0", "08/0"], [[10, 40, 0], [40, 50]])
    found = replace(explore(source, small_map, split_of={"08": "train & more"}, samples=1), scans_looked_at=1)
    text = write_page(found, tmp_path / "page.html", title="A & B").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "<title>A &amp; B</title>" in text
    assert "&lt;b&gt;" in text and "<b>/0" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "@import" not in text and "url(" not in text
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert len(pictures) == len(figures(found))
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    for word in ("car", "road", "building", "train &amp; more", "sqrt_inverse", "those of 1 of the 2 scans"):
        assert word in text


def test_section_is_what_a_notebook_shows(small_map: LabelMap) -> None:
    found = explore(given(["00/0"], [None]), small_map, samples=0)
    section = show(found)._repr_html_()
    assert section.startswith("<section") and "<html" not in section
    assert "<h2>Classes</h2>" not in section  # there are no labels


@pytest.mark.parametrize("sequences", [("00",), ("00", "08", "11")])
def test_trees_of_other_sequences(sequences: tuple[str, ...], kitti_map: LabelMap, tmp_path: Path) -> None:
    source = SemanticKITTIScans(write_tree(tmp_path, sequences).root, None)
    found = explore(source, kitti_map, samples=2)
    assert list(found.splits) == ["train", "val", "test"][: len(sequences)]
    assert len(found.samples) == 2
