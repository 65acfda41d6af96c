"""Files to labels: which files, where to, whole or not at all, once each, whatever is killed or damaged."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import KittiTree, scan_points, small_model
from filelock import FileLock

from pointseg.core.errors import ConfigError, DataError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.core.ranks import Ranks, ranks_of_environment
from pointseg.data.folders import open_scans
from pointseg.data.formats import write_labels
from pointseg.data.formats.cloud_files import PREDICTION_RECORD
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.prediction import Predicted, find_items, predict_files
from pointseg.engine.prediction import files as prediction_files
from pointseg.engine.prediction.output import model_identity
from pointseg.engine.predictor import Predictor
from pointseg.quality.collected_scans import is_collected


@pytest.fixture
def predictor(trained: TrainedModel) -> Predictor:
    return Predictor(trained)


def write_scans(folder: Path, count: int = 4, points: int = 900) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scan_points(points + number, seed=number).tofile(folder / f"{number:03d}.bin")
    return folder


def predicted(predictor: Predictor, scans: Path | str, output: Path, write: str = "auto", **more: Any) -> Predicted:
    return predict_files(predictor, find_items(scans, output, write), output, **more)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def labels(path: Path) -> Any:
    return np.fromfile(path, "<u4")


# ---- which files -----------------------------------------------------------------------------------------------------


def test_a_file(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 1)
    found = predicted(predictor, scans / "000.bin", tmp_path / "out")
    assert found.done == [scans / "000.bin"]
    assert np.array_equal(labels(tmp_path / "out/000.label"), predictor(scan_points(900, seed=0)))


def test_a_folder_repeats_its_layout(tmp_path: Path) -> None:
    for name in ("a.bin", "b/c.npy", "b/d/e.BIN", "b/readme.txt", ".hidden/f.bin", "b/.g.bin", "a.probs.npy"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    items = find_items(tmp_path / "in", tmp_path / "out")
    assert [str(item.target.relative_to(tmp_path / "out")) for item in items] == ["a.label", "b/c.label", "b/d/e.label"]


def test_a_pattern_keeps_what_follows_its_plain_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scans(tmp_path / "in/day/x", 2)
    write_scans(tmp_path / "in/night/x", 1)
    items = find_items(tmp_path / "in" / "*" / "x" / "*.bin", "out")
    assert [str(item.target) for item in items] == [f"out/{n}.label" for n in ("day/x/000", "day/x/001", "night/x/000")]
    monkeypatch.chdir(tmp_path)
    assert [str(item.target) for item in find_items("in/**/*.bin", "out")] == [str(item.target) for item in items]


@pytest.mark.parametrize("below", ["", "sequences", "sequences/08"])
def test_semantickitti_goes_where_its_benchmark_wants_it(
    below: str, predictor: Predictor, shared_tree: KittiTree, tmp_path: Path
) -> None:
    found = predicted(predictor, shared_tree.root / below, tmp_path / "out")
    names = [name for name in shared_tree.points if not below.endswith("08") or name.startswith("08")]
    assert len(found.done) == len(names)
    for name in names:
        sequence, frame = name.split("/")
        path = tmp_path / "out" / "sequences" / sequence / "predictions" / f"{frame}.label"
        assert np.array_equal(labels(path), predictor(shared_tree.points[name]))


def test_own_kind_or_label_file(predictor: Predictor, tmp_path: Path) -> None:
    write_table(tmp_path / "in")
    assert find_items(tmp_path / "in", "out")[0].target.name == "cloud.csv"
    assert find_items(tmp_path / "in", "out", "own")[0].target.name == "cloud.csv"
    assert find_items(tmp_path / "in", "out", "label")[0].target.name == "cloud.label"
    predicted(predictor, tmp_path / "in", tmp_path / "out")
    assert "class" in (tmp_path / "out/cloud.csv").read_text().splitlines()[0]


def write_table(folder: Path, count: int = 50) -> Path:
    folder.mkdir(parents=True)
    rows = "\n".join(",".join(map(str, row)) for row in scan_points(count, seed=2).tolist())
    (folder / "cloud.csv").write_text(f"x,y,z,intensity\n{rows}\n")
    return folder


def test_what_cannot_be_predicted_is_refused_before_work(tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    np.save(scans / "000.npy", scan_points(5, seed=1))
    for given, error, match in (
        (tmp_path / "nowhere", DataError, "does not exist"),
        (tmp_path / "empty", DataError, "no file of a kind"),
        (tmp_path / "empty" / "*.bin", DataError, "no file of a kind"),
        (scans, ConfigError, "both become 000.label"),
    ):
        with pytest.raises(error, match=match):
            find_items(given, tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot hold labels"):
        find_items(scans / "000.bin", tmp_path / "out", "own")
    with pytest.raises(ConfigError, match="write"):
        find_items(scans / "000.bin", tmp_path / "out", "both")


def test_a_missing_package_is_told_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def absent(name: str) -> Any:
        if name == "lazrs":
            raise ModuleNotFoundError(name, name=name)
        return importlib.import_module(name)

    monkeypatch.setattr("pointseg.core.optional_packages.import_module", absent)
    scans = write_scans(tmp_path / "in", 1)
    find_items(scans, tmp_path / "out")
    (scans / "tile.LAZ").touch()
    with pytest.raises(ConfigError, match=r"lazrs is not installed.*\.\[formats\]"):
        find_items(scans, tmp_path / "out")


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    write_table(tmp_path / "in")
    with pytest.raises(ConfigError, match="overwrite a cloud"):
        find_items(tmp_path / "in", tmp_path / "in")
    assert find_items(tmp_path / "in", tmp_path / "in", "label")[0].target == tmp_path / "in" / "cloud.label"


def test_results_in_a_folder_of_the_input_are_not_predicted_again(predictor: Predictor, tmp_path: Path) -> None:
    write_table(tmp_path / "in")
    predicted(predictor, tmp_path / "in", tmp_path / "in/out", probabilities=True)
    assert len(find_items(tmp_path / "in", tmp_path / "in/out")) == 1


# ---- points that are no ordinary ones --------------------------------------------------------------------------------


def test_a_cloud_of_one_point(predictor: Predictor, tmp_path: Path) -> None:
    write_scans(tmp_path / "in", 1, points=1)
    predicted(predictor, tmp_path / "in", tmp_path / "out")
    assert len(labels(tmp_path / "out/000.label")) == 1


def test_points_that_are_not_finite_get_no_class(predictor: Predictor, tmp_path: Path) -> None:
    points = scan_points(500, seed=1)
    points[7], points[8, 0] = np.nan, np.inf
    points[9, :3] = 0
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", points)
    found = predicted(predictor, tmp_path / "in", tmp_path / "out", probabilities=True)
    ids, whole = labels(tmp_path / "out/a.label"), np.isfinite(points).all(axis=1)
    assert ids[~whole].tolist() == [0, 0]
    assert np.array_equal(ids[whole], predictor(points[whole]))
    chances = np.load(tmp_path / "out/a.probs.npy")
    assert (chances.shape, chances.dtype) == ((500, 19), np.float16)
    assert not chances[~whole].any()
    assert np.allclose(chances[whole].astype(np.float32).sum(axis=1), 1, atol=0.01)
    assert {kind: said.note.text.split(":")[0] for kind, said in found.notes.items()} == {
        "not finite": "2 of 500 points are NaN or infinite",
        "zeros": "1 point at (0, 0, 0), where some sensors put rays without a return",
    }


def test_a_cloud_without_a_finite_point_fails(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", np.full((5, 4), np.nan, np.float32))
    assert "no point is finite" in str(predicted(predictor, tmp_path / "in", tmp_path / "out").failed[0])


def test_what_is_unusual_is_said_once_for_all_files(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        np.save(tmp_path / f"in/{name}.npy", scan_points(50, seed=1)[:, :3])
    found = predicted(predictor, tmp_path / "in", tmp_path / "out")
    assert found.notes["no remission"].file == tmp_path / "in/a.npy"
    assert found.notes["no remission"].files == 3


def test_strict_refuses_each_with_its_name(trained: TrainedModel, tmp_path: Path) -> None:
    write_scans(tmp_path / "in", 1)
    np.save(tmp_path / "in/bare.npy", scan_points(50, seed=1)[:, :3])
    found = predicted(Predictor(trained, strict=True), tmp_path / "in", tmp_path / "out")
    assert len(found.done) == 1
    assert "bare.npy" in found.failed[0].file
    assert "no remission" in found.failed[0].what


def test_remission_is_scaled_as_told(predictor: Predictor, tmp_path: Path) -> None:
    points = scan_points(500, seed=1)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", points * np.array([1, 1, 1, 200], np.float32))
    predicted(predictor, tmp_path / "in", tmp_path / "out", remission_scale=200.0)
    points[:, 3] = points[:, 3] * np.float32(200) / np.float32(200)
    assert np.array_equal(labels(tmp_path / "out/a.label"), predictor(points))


# ---- damaged files ---------------------------------------------------------------------------------------------------


def damage(scans: Path) -> None:
    (scans / "001.bin").write_bytes((scans / "001.bin").read_bytes()[:-3])
    (scans / "002.bin").write_bytes(b"")


def test_bad_files_are_reported_and_the_rest_done(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in")
    damage(scans)
    seen: list[tuple[int, int]] = []
    found = predicted(predictor, scans, tmp_path / "out", progress=lambda *numbers: seen.append(numbers))
    assert [path.name for path in found.done] == ["000.bin", "003.bin"]
    assert [Path(finding.file).name for finding in found.failed] == ["001.bin", "002.bin"]
    assert "multiple" in found.failed[0].what
    assert "no points" in found.failed[1].what
    assert sorted(hashes(tmp_path / "out")) == ["000.label", "003.label", PREDICTION_RECORD]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_stop_ends_at_the_first_bad_file(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in")
    damage(scans)
    with pytest.raises(DataError, match=r"001\.bin"):
        predicted(predictor, scans, tmp_path / "out", on_error="stop")
    assert sorted(hashes(tmp_path / "out")) == ["000.label", PREDICTION_RECORD]


def test_mended_files_are_made_by_the_same_command(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in")
    damage(scans)
    predicted(predictor, scans, tmp_path / "out")
    write_scans(scans)
    found = predicted(predictor, scans, tmp_path / "out")
    assert ([path.name for path in found.done], found.skipped, found.failed) == (["001.bin", "002.bin"], 2, [])


# ---- going on --------------------------------------------------------------------------------------------------------


def test_finished_files_are_left_alone(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in")
    predicted(predictor, scans, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.label")}
    found = predicted(predictor, scans, tmp_path / "out")
    assert (found.done, found.skipped) == ([], 4)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.label")} == times


def test_a_label_file_of_another_length_is_made_again(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in")
    predicted(predictor, scans, tmp_path / "out")
    before = hashes(tmp_path / "out")
    (tmp_path / "out/001.label").write_bytes(b"1234")
    assert predicted(predictor, scans, tmp_path / "out").done == [scans / "001.bin"]
    assert hashes(tmp_path / "out") == before


def test_a_cloud_that_has_changed_since_is_predicted_again(predictor: Predictor, tmp_path: Path) -> None:
    import laspy

    (tmp_path / "in").mkdir()
    for count in (30, 40):
        las = laspy.create(point_format=6, file_version="1.4")
        las.x, las.y, las.z = scan_points(count, seed=1)[:, :3].astype(np.float64).T
        las.write(str(tmp_path / "in/a.laz"))
        assert len(predicted(predictor, tmp_path / "in", tmp_path / "out").done) == 1
        assert predicted(predictor, tmp_path / "in", tmp_path / "out").skipped == 1
        assert len(laspy.read(tmp_path / "out/a.laz").points) == count


def test_probabilities_that_are_asked_for_later_are_made(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 1)
    predicted(predictor, scans, tmp_path / "out")
    assert len(predicted(predictor, scans, tmp_path / "out", probabilities=True).done) == 1
    assert predicted(predictor, scans, tmp_path / "out", probabilities=True).skipped == 1


def other_model(trained: TrainedModel) -> Predictor:
    model = small_model(len(trained.features), seed=1)
    return Predictor(TrainedModel(model, trained.features, trained.label_map, trained.inference, {}))


def test_results_of_another_model_are_not_mixed(trained: TrainedModel, tmp_path: Path) -> None:
    scans, first, second = write_scans(tmp_path / "in"), Predictor(trained), other_model(trained)
    predicted(first, scans, tmp_path / "out")
    predicted(second, scans, tmp_path / "other")
    before = hashes(tmp_path / "out")
    with pytest.raises(OutputError, match=r"another model.*overwrite=true"):
        predicted(second, scans, tmp_path / "out")
    with pytest.raises(OutputError, match="remission_scale"):
        predicted(first, scans, tmp_path / "out", remission_scale=2.0)
    assert hashes(tmp_path / "out") == before
    assert len(predicted(second, scans, tmp_path / "out", overwrite=True).done) == 4
    assert hashes(tmp_path / "out") == hashes(tmp_path / "other") != before


def test_overwriting_that_is_killed_leaves_no_older_result_that_counts(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, second = write_scans(tmp_path / "in"), other_model(trained)
    predicted(Predictor(trained), scans, tmp_path / "out")
    predicted(second, scans, tmp_path / "other")
    monkeypatch.setattr(prediction_files, "write_labels", dies_after(2))
    with pytest.raises(KeyboardInterrupt):
        predicted(second, scans, tmp_path / "out", overwrite=True)
    monkeypatch.undo()
    assert len(predicted(second, scans, tmp_path / "out").done) == 2
    assert hashes(tmp_path / "out") == hashes(tmp_path / "other")


def dies_after(files: int) -> Any:
    left = [files]

    def write(source: Path, target: Path, *rest: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_labels(source, target, *rest)

    return write


def test_files_of_unknown_origin_are_not_taken_for_results(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 1)
    np.zeros(900, np.uint32).tofile(scans / "000.label")  # the truth, beside the scan
    before = (scans / "000.label").read_bytes()
    with pytest.raises(OutputError, match=r"000\.label"):
        predicted(predictor, scans, scans)
    assert (scans / "000.label").read_bytes() == before


def test_a_bundle_and_its_checkpoint_are_the_same_model(trained: TrainedModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", trained)
    loaded = Predictor.load(tmp_path / "bundle").trained
    assert model_identity(loaded) == model_identity(trained)
    changed = TrainedModel(trained.model, trained.features, trained.label_map, {**trained.inference, "votes": 2})
    assert model_identity(changed) != model_identity(trained) != model_identity(other_model(trained).trained)


def test_half_written_files_go(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.000.label.0123abcd.tmp").touch()
    (tmp_path / "out/.mine.txt.0123abcd.tmp").touch()
    predicted(predictor, scans, tmp_path / "out")
    assert sorted(hashes(tmp_path / "out")) == [".mine.txt.0123abcd.tmp", "000.label", PREDICTION_RECORD]


# ---- several at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 3, 5])
def test_ranks_share_the_files_without_overlap(world: int, predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in")
    parts = [predicted(predictor, scans, tmp_path / "out", ranks=Ranks(rank, world)) for rank in range(world)]
    done = [path.name for part in parts for path in part.done]
    assert sorted(done) == [f"00{number}.bin" for number in range(4)]
    predicted(predictor, scans, tmp_path / "alone")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "alone")


def test_ranks_that_overwrite_leave_each_others_files(trained: TrainedModel, tmp_path: Path) -> None:
    scans, second = write_scans(tmp_path / "in"), other_model(trained)
    predicted(Predictor(trained), scans, tmp_path / "out")
    predicted(second, scans, tmp_path / "other")
    done = [
        path.name
        for rank in (1, 0)
        for path in predicted(second, scans, tmp_path / "out", ranks=Ranks(rank, 2), overwrite=True).done
    ]
    assert sorted(done) == [f"00{number}.bin" for number in range(4)]
    assert hashes(tmp_path / "out") == hashes(tmp_path / "other")


@pytest.mark.parametrize(("rank", "world"), [("1", "1"), ("x", "2"), ("-1", "2"), ("0", "0")])
def test_a_rank_that_is_none_is_refused(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(ConfigError, match="RANK"):
        ranks_of_environment()


def test_a_file_that_another_process_works_on_is_waited_for(predictor: Predictor, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 2)
    items = find_items(scans, tmp_path / "out")
    found: list[Predicted] = []
    name = hashlib.sha256(b"000.label").hexdigest()[:24]
    lock = FileLock(tmp_path / "out/.predicting" / f"{name}.lock", thread_local=False)
    (tmp_path / "out/.predicting").mkdir(parents=True)
    with lock:
        worker = threading.Thread(target=lambda: found.append(predict_files(predictor, items, tmp_path / "out")))
        worker.start()
        wait_for(lambda: (tmp_path / "out/001.label").exists())
        assert not (tmp_path / "out/000.label").exists()
    worker.join(30)
    assert sorted(path.name for path in found[0].done) == ["000.bin", "001.bin"]


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


# A process of its own; it names each file in a log of its own when it begins to predict it.
WORKER = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from pointseg.engine.prediction import files, find_items, predict_files
from pointseg.engine.predictor import Predictor
bundle, scans, output, log, pause = sys.argv[1:]
write, predict = files.write_labels, files.predict_cloud
def slow(source, *rest):
    with open(log, "a") as file:
        file.write(source.name + "\\n")
    time.sleep(float(pause))
    write(source, *rest)
files.write_labels = slow
found = predict_files(Predictor.load(bundle), find_items(scans, output), output)
print(len(found.done), found.skipped, found.elsewhere, len(found.failed))
"""


def start(bundle: Path, scans: Path, output: Path, log: Path, pause: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-W", "ignore", "-c", WORKER, *map(str, (bundle, scans, output, log, pause))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_predict_each_file_once(trained: TrainedModel, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 12)
    save_bundle(tmp_path / "bundle", trained)
    logs = [tmp_path / "log1", tmp_path / "log2"]
    workers = [start(tmp_path / "bundle", scans, tmp_path / "out", log, 0.3) for log in logs]
    said = [worker.communicate(timeout=120)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    begun = [log.read_text().split() for log in logs]
    assert all(begun), "both took part"
    assert sorted(begun[0] + begun[1]) == sorted(path.name for path in scans.iterdir())
    assert sum(int(words[0]) for words in said) == 12
    predicted(Predictor.load(tmp_path / "bundle"), scans, tmp_path / "alone")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "alone")


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_files(trained: TrainedModel, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "in", 8)
    save_bundle(tmp_path / "bundle", trained)
    log, out = tmp_path / "log", tmp_path / "out"
    killed = start(tmp_path / "bundle", scans, out, log, 0.4)
    wait_for(lambda: len(list(out.glob("*.label"))) >= 3)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(30) == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("*.label")}
    assert 3 <= len(finished) < 8
    found = predicted(Predictor.load(tmp_path / "bundle"), scans, out)
    assert (len(found.done), found.skipped) == (8 - len(finished), len(finished))
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    predicted(Predictor.load(tmp_path / "bundle"), scans, tmp_path / "alone")
    assert hashes(out) == hashes(tmp_path / "alone")
    assert json.loads((out / PREDICTION_RECORD).read_text())["model"] == model_identity(trained)


# ---- real scans ------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_scans_in_and_out(real_root: Path, trained: TrainedModel, kitti_map: LabelMap, tmp_path: Path) -> None:
    predictor = Predictor(trained, strict=True)
    found = predicted(predictor, real_root / "sequences/08", tmp_path / "out")
    assert not found.failed
    for source in found.done:
        points = np.fromfile(source, "<f4").reshape(-1, 4)
        target = tmp_path / "out/sequences/08/predictions" / f"{source.stem}.label"
        assert np.array_equal(labels(target), predictor(points))
        kitti_map.to_train(labels(target))


def test_results_within_the_input_are_no_input(tmp_path: Path) -> None:
    for name in ("a.npy", "deep/b.npy", "earlier/a.npy", "earlier/deep/b.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, scan_points(5, seed=0))
    (tmp_path / "earlier" / PREDICTION_RECORD).write_text("{}")
    names = [item.source.relative_to(tmp_path).as_posix() for item in find_items(tmp_path, tmp_path / "new")]
    assert names == ["a.npy", "deep/b.npy"]
    assert open_scans(tmp_path).names == names  # drift counts what would be predicted
    assert open_scans(tmp_path / "earlier").names == names


def test_a_linked_sequence_keeps_its_own_name(predictor: Predictor, shared_tree: KittiTree, tmp_path: Path) -> None:
    (tmp_path / "sequences").mkdir()
    (tmp_path / "sequences" / "21").symlink_to(shared_tree.root / "sequences" / "08")
    places = {item.target.relative_to("out").parts[:2] for item in find_items(tmp_path, "out")}
    assert places == {("sequences", "21")}


def test_a_sequence_where_the_command_is_given(
    shared_tree: KittiTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared_tree.root / "sequences" / "08")
    assert find_items(".", tmp_path)[0].target.parent == tmp_path / "sequences" / "08" / "predictions"


def test_a_npy_that_is_damaged_after_it_was_predicted_fails_and_the_rest_goes_on(
    predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        np.save(tmp_path / "in" / f"{name}.npy", scan_points(300, seed=1))
    predicted(predictor, tmp_path / "in", tmp_path / "out")
    content = (tmp_path / "in" / "a.npy").read_bytes()
    (tmp_path / "in" / "a.npy").write_bytes(content.replace(b"(300, 4)", b"(300, 4 "))
    found = predicted(predictor, tmp_path / "in", tmp_path / "out")
    assert (found.skipped, found.done, len(found.failed)) == (2, [], 0)  # as where nothing tells the number of points
    found = predicted(predictor, tmp_path / "in", tmp_path / "out", overwrite=True)
    assert ([path.name for path in found.done], len(found.failed)) == (["b.npy"], 1)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder in which one lies whose content has names that are too long for the system: nobody can look at it."""
    folder = tmp_path
    while len(str(folder)) < 3900:
        folder = folder / ("d" * min(200, 3990 - len(str(folder))))
    (folder / ("e" * (4090 - len(str(folder)) - 1))).mkdir(parents=True)
    return folder


def test_a_folder_that_cannot_be_looked_into_is_passed_over(deep: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        (next(deep.iterdir()) / "velodyne").is_dir()
    scan_points(5, seed=1).tofile(deep / "a.bin")
    assert [item.source.name for item in find_items(deep, tmp_path / "out")] == ["a.bin"]
    assert open_scans(deep).names == ["a.bin"]


@pytest.mark.parametrize("name", ["A" * 300, "~nobodyhere/x"])
def test_a_name_that_cannot_be_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_items(name, tmp_path)
    assert not is_collected(name)
    with pytest.raises(DataError, match="does not exist"):
        open_scans(name)
