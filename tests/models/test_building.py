"""Models from plain values: ours, those that are handed over, those that are installed; nothing that only a file names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from my_networks import Pillars, Plain, Pointwise

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.models import PointNetSeg, SegmentationModel, architectures, describe_model, from_section, rebuild_model

POINTWISE = {"name": "my_networks.Pointwise", "in_features": 2, "num_classes": 3, "width": 8, "depths": [1]}


def test_a_foreign_model_is_described_with_its_module() -> None:
    assert describe_model(Pointwise(2, 3, width=8)) == POINTWISE


@pytest.mark.parametrize("handed", [Pointwise, "my_networks.Pointwise"])
def test_a_class_that_is_handed_over_is_built(handed: Any) -> None:
    model = rebuild_model(POINTWISE, [Pillars, handed])
    assert type(model) is Pointwise
    assert describe_model(model) == POINTWISE


def test_a_plain_module_is_built_again() -> None:
    made = from_section({"_target_": "my_networks.Plain", "width": 8}, ("x", "y"), 2, 3)
    again = rebuild_model(describe_model(made), [Plain])
    again.load_state_dict(made.state_dict())
    x = torch.rand(1, 5, 2)
    assert torch.equal(again.predicted(x), made.predicted(x))


def test_a_class_that_has_moved_is_known_by_its_name() -> None:
    assert type(rebuild_model({**POINTWISE, "name": "__main__.Pointwise"}, [Pointwise])) is Pointwise


@pytest.mark.parametrize("models", [(), [Pillars], ["my_networks.Pillars"]])
def test_a_class_that_nobody_gave_is_refused(models: Any) -> None:
    with pytest.raises(CheckpointError, match=r"no model 'my_networks\.Pointwise'.*models=\[MyNet\].*pointseg\.models"):
        rebuild_model(POINTWISE, models)


def test_a_file_s_name_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="no model"):
        rebuild_model({**POINTWISE, "name": "evil_module.Net"}, [Pillars])
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_our_names_are_ours() -> None:
    class PointNetSeg(SegmentationModel):  # somebody's own
        def __init__(self, in_features: int, num_classes: int) -> None:
            super().__init__()

    ours = rebuild_model({"name": "PointNetSeg", "in_features": 4, "num_classes": 3}, [PointNetSeg])
    assert type(ours) is architectures.MODELS["PointNetSeg"]
    assert describe_model(PointNetSeg(4, 3))["name"] != "PointNetSeg"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    """What pip leaves of a package that declares classes."""
    metadata = folder / "somebodys_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-models\nVersion: 1.0\n")
    lines = [f"name{number} = {value}" for number, value in enumerate(values)]
    (metadata / "entry_points.txt").write_text("\n".join(["[pointseg.models]", *lines]) + "\n")
    monkeypatch.syspath_prepend(folder)


def test_an_installed_class_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "not_there:Other", "my_networks:Pointwise")
    assert type(rebuild_model(POINTWISE)) is Pointwise


def test_only_the_installed_class_that_is_asked_for_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "not_there:Other")
    with pytest.raises(CheckpointError, match=r"Known: FRNet, PointNetSeg, WaffleIron, not_there\.Other"):
        rebuild_model(POINTWISE)


def test_a_class_with_other_arguments_by_now_says_so() -> None:
    with pytest.raises(CheckpointError, match=r"colour.*has changed since"):
        rebuild_model({**POINTWISE, "colour": "red"}, [Pointwise])


@pytest.mark.parametrize("given", ["my_networks.Nothing", "not_there.Net", "os.path.join", torch.nn.functional.relu])
def test_what_is_no_class_of_models_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="models"):
        rebuild_model(POINTWISE, [given])


def test_values_that_no_file_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Pointwise\(depths\)"):
        describe_model(Pointwise(2, 3, depths=[torch.zeros(1)]))  # type: ignore[list-item]


def test_positional_arguments_without_a_name_are_refused() -> None:
    class Free(SegmentationModel):
        def __init__(self, *widths: int) -> None:
            super().__init__()

    assert describe_model(Free())["name"].endswith("Free")
    with pytest.raises(ConfigError, match=r"Free\(\*widths\)"):
        describe_model(Free(1, 2))


# ---- a section of the configuration ---------------------------------------------------------------------------------


def test_a_section_gets_features_and_classes() -> None:
    model = from_section({"_target_": "my_networks.Pointwise", "width": 5}, ("x", "y"), 2, 7)
    assert (model.in_features, model.num_classes, model.hyperparameters["width"]) == (2, 7, 5)


def test_pointnet_s_t_net_wants_coordinates_first() -> None:
    section = {"_target_": "pointseg.models.PointNetSeg"}
    assert isinstance(from_section(section, ("x", "y", "z"), 3, 3), PointNetSeg)
    with pytest.raises(
        ConfigError, match=r"transforms the first three features, which are x, z, y.*input_transform=false"
    ):
        from_section(section, ("x", "z", "y"), 3, 3)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"_target_": "my_networks.Pointwise", "widht": 5}, "unknown key model.widht.*Did you mean model.width"),
        ({"_target_": "my_networks.Nothing"}, "has no Nothing"),
        ({"_target_": "collections.OrderedDict"}, "is not a torch\\.nn\\.modules\\.module\\.Module"),
        ({"_target_": "my_networks.plain_network"}, "a function makes this Plain"),
        ({"_target_": "my_networks.Pointwise", "width": "wide"}, "cannot be built"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_section(section, ("x", "y"), 2, 7)
