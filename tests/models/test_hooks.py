"""What a model may say about itself, and what the library does where it says nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from my_networks import Pillars, Plain, Pointwise, Shrunken
from torch import Tensor, nn

from pointseg.core.errors import ConfigError
from pointseg.models import PointNetSeg, SegmentationModel, from_section


def test_the_arguments_of_the_constructor_are_kept() -> None:
    model = Pointwise(4, num_classes=3, width=8)
    assert model.hyperparameters == {"in_features": 4, "num_classes": 3, "width": 8, "depths": (1,)}
    assert (model.in_features, model.num_classes) == (4, 3)


def test_arguments_of_a_parent_that_are_passed_on_are_kept() -> None:
    class Child(Pointwise):
        def __init__(self, colour: str, **more: Any) -> None:
            super().__init__(**more)
            self.colour = colour

    model = Child("red", in_features=4, num_classes=3)
    assert model.hyperparameters == {"colour": "red", "in_features": 4, "num_classes": 3}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_keeps_them(copied: Any) -> None:
    model = Pointwise(4, 3, width=8)
    assert copied(model).hyperparameters == model.hyperparameters
    assert copied(model).num_classes == 3


def test_a_wrong_argument_is_the_constructors_own_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        Pointwise(4, 3, colour="red")  # type: ignore[call-arg]


def test_how_it_computes_is_not_saved() -> None:
    assert not {"implementation", "sync_batchnorm"} & set(PointNetSeg(implementation="plain").hyperparameters)


def test_a_model_that_implements_nothing_says_so() -> None:
    with pytest.raises(TypeError, match="neither forward nor logits_and_penalty"):
        SegmentationModel()(torch.zeros(1, 5, 4))


def test_a_forward_alone_has_no_penalty() -> None:
    model, features = Pointwise(4, 3), torch.rand(2, 5, 4)
    logits, penalty = model.logits_and_penalty(features, torch.rand(2, 5, 3), None)
    assert torch.equal(logits, model(features))
    assert float(penalty) == 0


def test_a_penalty_alone_has_a_forward() -> None:
    model, features = Shrunken(4, 3), torch.rand(2, 5, 4)
    assert torch.equal(model(features), model.logits_and_penalty(features)[0])


def padded(model: SegmentationModel, features: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Logits of a padded batch, whose padding is not zeros, and its mask."""
    mask = torch.arange(features.shape[1]) < torch.tensor(sizes)[:, None]
    return model.predicted(features.masked_fill(~mask[..., None], 9.0), torch.zeros(*mask.shape, 3), mask), mask


@pytest.mark.parametrize("kind", [Pointwise, Plain])
def test_padding_changes_nothing_for_a_model_that_knows_no_mask(kind: Any) -> None:
    torch.manual_seed(0)
    section = {"_target_": f"my_networks.{kind.__name__}"}
    model = from_section(section, ("x", "y"), 2, 3)
    features, sizes = torch.randn(3, 7, 2), [7, 4, 0]
    logits, mask = padded(model, features, sizes)
    for cloud, size in enumerate(sizes[:2]):
        alone = model.predicted(features[cloud : cloud + 1, :size])[0]
        assert torch.equal(logits[cloud, :size], alone)
    assert not logits[~mask].any()


def test_padding_changes_no_gradient_of_such_a_model() -> None:
    torch.manual_seed(0)
    model = from_section({"_target_": "my_networks.Plain"}, ("x", "y"), 2, 3)
    features = torch.randn(1, 7, 2)
    padded(model, features, [4])[0].sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model.predicted(features[:, :4]).sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(found, model.parameters(), strict=True) if p.grad is not None)
    assert len(found) == 4


def test_forward_is_told_what_it_takes() -> None:
    told: list[list[str]] = []

    class Curious(SegmentationModel):
        def forward(self, features: Tensor, coords: Tensor | None = None, **others: Any) -> Tensor:
            told.append(sorted(others))
            assert coords is not None
            return features

    mask = torch.ones(1, 2, dtype=torch.bool)
    Curious().predicted(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), mask, {"a": mask})
    Curious().predicted(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), mask)
    assert told == [["extras", "mask"], ["mask"]]


def test_preparation_travels_without_weights() -> None:
    model = Pillars(4, 3, width=4096)
    prepare = model.preparation()
    assert prepare is not None
    sent = pickle.dumps(prepare)
    assert len(sent) < 5000
    coords = torch.tensor([[0.5, 0.5, 0.0], [1.5, 0.5, 9.0], [4.5, 0.0, 0.0]])
    assert pickle.loads(sent)(coords, torch.zeros(3, 4))["counts"].tolist() == [2, 1]
    assert sum(1 for _ in model.parameters()) == 6


def test_a_model_without_prepare_prepares_nothing() -> None:
    assert Pointwise(4, 3).preparation() is None


class NeedsNormals(SegmentationModel):
    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()

    def forward(self, features: Tensor, normals: Tensor) -> Tensor:
        return features


class PreparesInVain(Pillars):
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return features


class SaysNothing(SegmentationModel):
    def forward(self, features: Tensor) -> Tensor:
        return features


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (NeedsNormals(2, 3), r"NeedsNormals\.forward needs normals"),
        (PreparesInVain(2, 3), "does not take mask and extras"),
        (SaysNothing(), "does not define in_features and num_classes"),
        (Shrunken(2, 3), "heights are needed"),
        (PointNetSeg(3, 3), "transforms the first three features, which are y, x"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(model: SegmentationModel, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.check(("y", "x"))


def test_every_model_here_can_be_used() -> None:
    for kind in (Pointwise, Pillars, Shrunken):
        kind(3, 3).check(("x", "y", "z"))  # type: ignore[abstract]


def test_nothing_is_exported_by_itself() -> None:
    with pytest.raises(ConfigError, match="a Pointwise cannot be exported"):
        Pointwise(4, 3).write_onnx(None)  # type: ignore[arg-type]


def test_a_plain_module_is_a_model() -> None:
    model = from_section({"_target_": "my_networks.Plain", "width": 8}, ("x",), 1, 3)
    assert isinstance(model, SegmentationModel)
    assert isinstance(model.network_called, Plain)
    assert model.hyperparameters == {"in_features": 1, "num_classes": 3, "width": 8}
    assert isinstance(model.network_called.first, nn.Linear)
    assert model.network_called.first.out_features == 8
