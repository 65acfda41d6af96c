"""Files of an export: checked before they get their names, describing themselves, and used by the one inference path."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from my_networks import Exported, Pointwise
from numpy.typing import NDArray

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.onnx_model import OnnxModel
from pointseg.engine.predictor import Predictor
from pointseg.exporting.onnx_file import CHECKED_POINTS, export_onnx
from pointseg.exporting.triton import export_triton
from pointseg.models import GraphWriter, PointNetSeg
from pointseg.models.pointnet.inference import fold_model
from pointseg.models.pointnet.onnx_layers import PointNetGraph


def test_export_is_checked_and_predicts_the_same(
    tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    check = export_onnx(trained, tmp_path / "out")
    assert check.path == tmp_path / "out" / "model.onnx"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "model.yaml"}
    assert tuple(check.difference) == CHECKED_POINTS
    assert max(check.difference.values()) < 1e-4
    expected = Predictor(trained).logits(scan)  # in several passes: the settings travel
    for named in (tmp_path / "out", check.path):
        predictor = Predictor.load(named)
        assert isinstance(predictor.model, OnnxModel)
        assert predictor.settings == Predictor(trained).settings
        assert torch.allclose(predictor.logits(scan), expected, atol=1e-4)


def test_file_describes_itself(tmp_path: Path, trained: TrainedModel) -> None:
    model = onnx.load(export_onnx(trained, tmp_path).path)
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["pointseg.features"] == trained.features.to_dict()
    assert told["pointseg.class_names"] == list(trained.label_map.class_names)
    assert told["pointseg.label_map_hash"] == trained.label_map.hash
    assert told["pointseg.inference"]["points_per_pass"] == 700


def test_a_file_that_differs_gets_no_name(
    tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: PointNetSeg, graph: GraphWriter) -> None:
        net = fold_model(model)
        net.head[-1].bias[3] += 0.01
        PointNetGraph(graph).write(net)

    monkeypatch.setattr(PointNetSeg, "write_onnx", wrong)
    with pytest.raises(CheckpointError, match=r"differs from the model by 0\.01"):
        export_onnx(trained, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_models_are_refused(tmp_path: Path, trained: TrainedModel) -> None:
    model = OnnxModel(export_onnx(trained, tmp_path / "first").path)
    with pytest.raises(ConfigError, match="OnnxModel cannot be exported"):
        export_onnx(dataclasses.replace(trained, model=model), tmp_path / "second")
    assert not (tmp_path / "second").exists()


def own(trained: TrainedModel, kind: type[Pointwise]) -> TrainedModel:
    torch.manual_seed(0)
    return dataclasses.replace(
        trained, model=kind(len(trained.features), trained.label_map.num_classes, width=32).eval()
    )


def test_a_model_of_one_s_own_that_says_how_is_exported(
    tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    mine = own(trained, Exported)
    path = export_triton(mine, tmp_path).path
    assert path == tmp_path / "model_repository" / "exported" / "1" / "model.onnx"
    assert torch.allclose(Predictor.load(path).logits(scan), Predictor(mine).logits(scan), atol=1e-4)
    assert 'name: "exported"' in (path.parent.parent / "config.pbtxt").read_text()


def test_a_model_of_one_s_own_that_does_not_say_how_is_refused(tmp_path: Path, trained: TrainedModel) -> None:
    with pytest.raises(ConfigError, match=r"a Pointwise cannot be exported.*write_onnx"):
        export_onnx(own(trained, Pointwise), tmp_path)


def test_a_bundle_with_an_export_in_it_stays_a_bundle(tmp_path: Path, trained: TrainedModel) -> None:
    save_bundle(tmp_path / "bundle", trained)
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"x")
    assert not isinstance(Predictor.load(tmp_path / "bundle").model, OnnxModel)


def test_damaged_and_mixed_files_are_refused(tmp_path: Path, trained: TrainedModel) -> None:
    path = export_onnx(trained, tmp_path).path
    description, content = tmp_path / "model.yaml", path.read_bytes()
    text = description.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["inference"]["points_per_pass"] = 9
    description.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match="do not belong together"):
        Predictor.load(path)
    description.write_text("features: 3", encoding="utf-8")
    with pytest.raises(CheckpointError, match="description of the model"):
        Predictor.load(path)
    description.unlink()
    with pytest.raises(CheckpointError, match=r"model\.yaml"):
        Predictor.load(path)
    description.write_text(text, encoding="utf-8")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"not an ONNX model.*model\.onnx"):
        Predictor.load(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="no exported model"):
        Predictor.load(path)


def test_without_onnxruntime_the_message_says_what_to_install(tmp_path: Path, trained: TrainedModel) -> None:
    path = export_onnx(trained, tmp_path).path
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from pointseg import Predictor, PointsegError\n"
        "try: Predictor.load(sys.argv[1])\n"
        "except PointsegError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "-c environments/constraints.txt -e '.[export]'" in done.stdout


# ---- Triton ------------------------------------------------------------------------------------------------------


def parsed(text: str) -> dict[str, str]:
    """`key: value` lines as "section.key"; the text of a repository has one level of sections, each with one entry."""
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"(\w+) [\[{]", line):
            section = match[1] + "."
        elif line in ("]", "}"):
            section = ""
        elif match := re.fullmatch(r"\s*(\w+): (.+)", line):
            assert section + match[1] not in found
            found[section + match[1]] = match[2]
        else:
            assert line.strip() in ("{", "}"), line
    return found


def test_triton_repository(tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]) -> None:
    check = export_triton(trained, tmp_path)
    model = tmp_path / "model_repository" / "pointnetseg"
    assert check.path == model / "1" / "model.onnx"
    text = (model / "config.pbtxt").read_text(encoding="utf-8")
    assert text.count("[") == text.count("]")
    assert text.count("{") == text.count("}")
    found = parsed(text)
    assert found["name"] == f'"{model.name}"'
    assert found["backend"] == '"onnxruntime"'
    assert int(found["max_batch_size"]) > 1  # the graph's first dimension is dynamic
    graph = onnx.load(check.path).graph
    for section, values in (("input", graph.input), ("output", graph.output)):
        (value,) = values
        shape = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        assert found[f"{section}.name"] == f'"{value.name}"'
        assert found[f"{section}.data_type"] == "TYPE_FP32"
        assert json.loads(found[f"{section}.dims"]) == shape[1:]  # without that of the batch
    assert found["instance_group.count"] == "1"
    assert "dynamic_batching.max_queue_delay_microseconds" in found
    assert np.array_equal(Predictor.load(model / "1")(scan), Predictor(trained)(scan))
