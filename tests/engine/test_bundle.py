"""Bundles and checkpoints: the same predictions afterwards, nothing executed, and whole or not there."""

from __future__ import annotations

import copy
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pointseg.core.errors import CheckpointError, OutputError, PointsegError
from pointseg.engine import bundle
from pointseg.engine.bundle import TrainedModel, find_checkpoint, load, load_checkpoint, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.workflows.run_config import run_config_of


def write_checkpoint(path: Path, trained: TrainedModel) -> Path:
    """What Lightning writes of a `SegmentationModule`, as far as prediction needs it."""
    state = {f"model.{name}": value for name, value in trained.model.state_dict().items()}
    state["class_weights"] = torch.ones(19)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "pointseg": trained.describe(), "epoch": 3}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path, trained: TrainedModel) -> Path:
    return save_bundle(tmp_path / "bundle", trained)


@pytest.fixture
def checkpoint(tmp_path: Path, trained: TrainedModel) -> Path:
    return write_checkpoint(tmp_path / "model.ckpt", trained)


def change(folder: Path, **parts: Any) -> None:
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **parts}))


# ---- there and back --------------------------------------------------------------------------------------------


def test_bundle_predicts_bit_for_bit_the_same(folder: Path, trained: TrainedModel, scan: NDArray[np.float32]) -> None:
    assert torch.equal(Predictor.load(folder).logits(scan), Predictor(trained).logits(scan))


def test_checkpoint_predicts_bit_for_bit_the_same(
    checkpoint: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    assert torch.equal(Predictor.load(checkpoint).logits(scan), Predictor(trained).logits(scan))


def test_bundle_keeps_everything_but_weights(folder: Path, trained: TrainedModel) -> None:
    assert load(folder).describe() == trained.describe()


def test_bundle_is_two_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.yaml", "weights.safetensors"]


def test_description_is_plain_yaml(folder: Path) -> None:
    assert yaml.safe_load((folder / "model.yaml").read_text())["architecture"]["name"] == "PointNetSeg"


def test_loaded_model_is_in_eval_mode(folder: Path) -> None:
    assert not load(folder).model.training


# ---- what `checkpoint=` may name -------------------------------------------------------------------------------


def test_file_names_itself(checkpoint: Path) -> None:
    assert find_checkpoint(checkpoint) == checkpoint


def test_bundle_names_itself(folder: Path) -> None:
    assert find_checkpoint(str(folder)) == folder


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (["checkpoints/best.ckpt", "checkpoints/last.ckpt", "bundle"], "checkpoints/best.ckpt"),
        (["checkpoints/last.ckpt", "bundle"], "bundle"),
        (["checkpoints/last.ckpt"], "checkpoints/last.ckpt"),
    ],
)
def test_run_folder_names_its_best(tmp_path: Path, trained: TrainedModel, present: list[str], expected: str) -> None:
    for name in present:
        if name == "bundle":
            save_bundle(tmp_path / "run" / name, trained)
        else:
            write_checkpoint(tmp_path / "run" / name, trained)
    assert find_checkpoint(tmp_path / "run") == tmp_path / "run" / expected


def test_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(tmp_path)


def test_absent_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("name", ["A" * 300, "A" * 300 + ".onnx", "~nobodyhere/x", "nul\0"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError):
        Predictor.load(name)
    assert run_config_of(name) is None


# ---- nothing is executed ---------------------------------------------------------------------------------------


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (str(self.evidence), "w")


def plant(path: Path, evidence: Path, kind: str, trained: TrainedModel) -> None:
    if kind == "raw pickle":
        path.write_bytes(pickle.dumps(Malicious(evidence)))
        return
    write_checkpoint(path, trained)
    content = torch.load(path, weights_only=True)
    content["callbacks"] = Malicious(evidence)
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize("kind", ["raw pickle", "zip", "legacy"])
def test_malicious_checkpoint_would_execute_elsewhere(tmp_path: Path, trained: TrainedModel, kind: str) -> None:
    # so that the next test tests something
    plant(tmp_path / "bad.ckpt", tmp_path / "evidence", kind, trained)
    if kind == "raw pickle":
        pickle.loads((tmp_path / "bad.ckpt").read_bytes()).close()
    else:
        torch.load(tmp_path / "bad.ckpt", weights_only=False)["callbacks"].close()
    assert (tmp_path / "evidence").exists()


@pytest.mark.parametrize("kind", ["raw pickle", "zip", "legacy"])
def test_malicious_checkpoint_is_refused_and_not_executed(tmp_path: Path, trained: TrainedModel, kind: str) -> None:
    plant(tmp_path / "bad.ckpt", tmp_path / "evidence", kind, trained)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt"):
        load(tmp_path / "bad.ckpt")
    assert not (tmp_path / "evidence").exists()


def test_malicious_yaml_is_refused_and_not_executed(folder: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    (folder / "model.yaml").write_text(f"format: !!python/object/apply:pathlib.Path.touch [{evidence}]\n")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)
    assert not evidence.exists()


# ---- damaged files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_cut_off_checkpoint_is_refused(checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"model\.ckpt"):
        load(checkpoint)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "random.ckpt"
    path.write_bytes(b"\x80\x02" + np.random.default_rng(seed).bytes(200))
    with pytest.raises(CheckpointError, match=r"random\.ckpt"):
        load(path)


@pytest.mark.parametrize("text", ["hello", "a: 1\nb: 2\n", "(", ".", "0", "t.", "N."])
def test_text_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.ckpt"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"text\.ckpt"):
        load(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], 3])
def test_checkpoint_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of pointseg"):
        load(path)


@pytest.mark.parametrize("state", [None, {}, [1]])
def test_checkpoint_without_weights_is_refused(tmp_path: Path, trained: TrainedModel, state: Any) -> None:
    path = tmp_path / "empty.ckpt"
    torch.save({"pointseg": trained.describe(), "state_dict": state}, path)
    with pytest.raises(CheckpointError, match=r"empty\.ckpt"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["model.yaml", "weights.safetensors"])
def test_bundle_without_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_cut_off_weights_are_refused(folder: Path, share: float) -> None:
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="not those that were written"):
        load(folder)


@pytest.mark.parametrize("seed", range(40))
def test_one_flipped_bit_of_a_checkpoint_is_noticed(checkpoint: Path, trained: TrainedModel, seed: int) -> None:
    """Or it is in a byte that nothing reads, such as padding: then the model is the same."""
    expected = load(checkpoint).model.state_dict()
    content = bytearray(checkpoint.read_bytes())
    at = int(np.random.default_rng(seed).integers(len(content) * 8))
    content[at // 8] ^= 1 << (at % 8)
    checkpoint.write_bytes(content)
    with suppress(CheckpointError):
        found = load(checkpoint).model.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_flipped_bits_of_a_checkpoint_s_weights_are_named(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[content.index(load(checkpoint).model.state_dict()["classifier.weight"].numpy().tobytes()[:64]) + 7] ^= 64
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"data/\d+ is damaged"):
        load(checkpoint)


@pytest.mark.parametrize("seed", range(20))
def test_one_flipped_bit_of_a_bundle_s_weights_is_noticed(folder: Path, seed: int) -> None:
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    at = int(np.random.default_rng(seed).integers(len(content) * 8))
    content[at // 8] ^= 1 << (at % 8)
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="not those that were written"):
        load(folder)


def test_a_bundle_that_does_not_say_what_its_weights_were_is_loaded(folder: Path) -> None:
    change(folder, weights_sha256=None)
    load(folder)


@pytest.mark.parametrize("text", ["", "[1, 2]", "just text", "format: 1", "a: [unclosed"])
def test_description_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "model.yaml").write_text(text)
    with pytest.raises(CheckpointError):
        load(folder)


def test_description_of_another_format_is_refused(folder: Path) -> None:
    change(folder, format=99)
    with pytest.raises(CheckpointError, match="format 99, and this version reads 1"):
        load(folder)


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "os.system"},
        {"colour": "red"},
        {"head_widths": [16, 9]},
        {"head_widths": []},
        {"head_widths": ["wide", 8]},
        {"head_widths": 5},
        {"head_widths": [16, -8]},
        {"num_classes": None},
        {"dropout": 7},
    ],
)
def test_changed_architecture_is_refused(folder: Path, trained: TrainedModel, architecture: dict[str, Any]) -> None:
    change(folder, architecture={**trained.describe()["architecture"], **architecture})
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize(
    "parts",
    [
        {"features": {"use": ["colour"]}},
        {"features": {"use": ["x"], "colour": 1}},
        {"features": {"use": ["x"], "offset": [1]}},
        {"features": {"use": ["x"], "ground_cell": "wide"}},
        {"features": None},
        {"label_map": {"name": "x"}},
        {"label_map": "semantickitti"},
        {"inference": "fast"},
        {"provenance": 5},
        {"architecture": "PointNetSeg"},
        {"architecture": None},
    ],
)
def test_changed_description_is_refused(folder: Path, parts: dict[str, Any]) -> None:
    change(folder, **parts)
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"name": "PointNetSeg", "head_widths": [45_000, 45_000]}, "tensors do not fit the architecture"),
        ({"name": "PointNetSeg", "global_widths": [8] * 200_000}, "global_widths has 200,000 values"),
        ({"name": "PointNetSeg", "head_widths": [1 << 40]}, "head_widths is 1,099,511,627,776"),
        ({"name": "FRNet", "blocks": [200_000], "strides": [1]}, "200,000 blocks in a stage"),
        ({"name": "FRNet", "height": 1 << 20, "width": 1 << 20}, "more than 4,194,304 pixels"),
        ({"name": "WaffleIron", "layers": 200_000}, "200000 is not between 1 and 1000"),
        ({"name": "WaffleIron", "grid": [1 << 20, 1 << 20, 4]}, "more than 16,777,216 cells"),
        ({"name": "WaffleIron", "neighbours": 100_000}, "100000 is not between 1 and 256"),
    ],
)
def test_a_network_of_any_size_is_refused_before_it_is_built(
    folder: Path, architecture: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    linear = torch.nn.Linear.__init__

    def counted(self: Any, inputs: int, outputs: int, *given: Any, **named: Any) -> None:
        linear(self, inputs, outputs, *given, **named)
        if self.weight.device.type != "meta":
            made.append(self.weight.numel())

    monkeypatch.setattr(torch.nn.Linear, "__init__", counted)
    change(folder, architecture={"in_features": 4, "num_classes": 19, **architecture})
    with pytest.raises(CheckpointError, match=message):
        load(folder)
    assert sum(made) < 1_000_000


def test_votes_without_end_are_refused(folder: Path) -> None:
    change(folder, inference={"points_per_pass": 100, "votes": 10**9, "remission_mean": 0.2})
    with pytest.raises(PointsegError, match="votes"):
        Predictor.load(folder)


def test_weights_with_one_missing_are_refused(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    del weights["classifier.bias"]
    save_file(weights, folder / "weights.safetensors")
    change(folder, weights_sha256=None)
    with pytest.raises(CheckpointError, match=r"classifier\.bias"):
        load(folder)


def test_label_map_of_other_classes_is_refused(folder: Path, trained: TrainedModel) -> None:
    label_map = copy.deepcopy(trained.label_map.to_dict())
    label_map["ignored"] += label_map["classes"].pop()
    change(folder, label_map=label_map)
    with pytest.raises(CheckpointError, match="18"):
        load(folder)


def test_features_of_another_number_are_refused(folder: Path) -> None:
    change(folder, features={"use": ["x", "y", "z"]})
    with pytest.raises(CheckpointError, match="features"):
        load(folder)


# ---- whole or not at all ---------------------------------------------------------------------------------------


def disk_full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_failed_write_leaves_nothing(tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "save_file", disk_full)
    with pytest.raises(OutputError, match="No space left"):
        save_bundle(tmp_path / "new", trained)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_older_bundle(
    folder: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "save_file", disk_full)
    with pytest.raises(OutputError):
        save_bundle(folder, trained)
    assert load(folder).describe() == trained.describe()


def test_failed_exchange_keeps_the_older_bundle(
    folder: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def only_aside(self: Path, target: Path) -> Path:
        if (self / "model.yaml").exists() and target == folder and self.name.endswith(".tmp"):
            disk_full()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_aside)
    with pytest.raises(OutputError):
        save_bundle(folder, trained)
    assert load(folder).describe() == trained.describe()
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_newer_bundle_replaces_the_older(folder: Path, trained: TrainedModel) -> None:
    newer = TrainedModel(trained.model, trained.features, trained.label_map, {}, {"run": "newer"})
    save_bundle(folder, newer)
    assert load(folder).provenance == {"run": "newer"}
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_bundle_can_be_moved(folder: Path, tmp_path: Path, trained: TrainedModel) -> None:
    shutil.move(folder, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").describe() == trained.describe()
