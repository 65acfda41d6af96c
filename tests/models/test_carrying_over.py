"""Weights for other classes: what is known of a class goes along, whatever the family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pointseg.models import FRNet, PointNetSeg, SegmentationModel, WaffleIron
from pointseg.models.carrying_over import carry_over

SMALL = {"height": 8, "width": 32, "point_widths": (8, 8), "channels": 8, "blocks": (1, 1), "strides": (1, 2)}
FAMILIES: dict[str, Callable[[int], SegmentationModel]] = {
    "PointNetSeg": lambda classes: PointNetSeg(4, classes),
    "FRNet": lambda classes: FRNet(4, classes, image_channels=8, fused_widths=(8,), auxiliary=(0,), **SMALL),
    "WaffleIron": lambda classes: WaffleIron(4, classes, channels=8, layers=2, grid=(20, 20, 4)),
}


def logits(model: SegmentationModel) -> torch.Tensor:
    torch.manual_seed(3)
    features, coords = torch.randn(1, 60, 4), torch.randn(1, 60, 3) * 8
    extras = model.prepare(coords[0], features[0])
    prepared = {name: value[None] for name, value in extras.items()} if extras else None
    with torch.no_grad():
        return model.eval().predicted(features, coords, None, prepared)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_that_both_have_keep_their_logits(family: str) -> None:
    torch.manual_seed(0)
    trained, model = FAMILIES[family](5), FAMILIES[family](4)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    carry_over(trained, model, [3, None, 0, 4])
    before, after = logits(trained), logits(model)
    assert torch.allclose(after[:, [0, 2, 3]], before[:, [3, 0, 4]], atol=1e-5)
    # of a new class, the layers that give logits begin as they would have
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, fresh[name])]
    heads = [name for name in changed if trained.state_dict()[name].shape != fresh[name].shape]
    assert heads
    for name in heads:
        dimension = next(d for d, size in enumerate(fresh[name].shape) if size == 4)
        now, then = (part.select(dimension, 1) for part in (model.state_dict()[name], fresh[name]))
        assert torch.equal(now, then)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_classes_are_the_same_model_and_draw_nothing(family: str) -> None:
    torch.manual_seed(0)
    trained, model = FAMILIES[family](5), FAMILIES[family](5)
    state = torch.get_rng_state()
    carry_over(trained, model, range(5))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in model.state_dict().items())
