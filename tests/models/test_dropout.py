"""Dropout that belongs to a cloud: the same alone, in any batch, padded or not, in both forms of the model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pointseg.models import PointNetSeg
from pointseg.models.layers import CloudDropout, Rows

CHANNELS = 200


def dropped(keys: list[int] | None, mask: Tensor, p: float = 0.3) -> list[Tensor]:
    """Rows of ones of each cloud after dropout."""
    layer = CloudDropout(p)
    layer.keys = keys
    rows = Rows(mask.shape, mask)
    return list(layer(torch.ones(rows.total, CHANNELS), rows).split(rows.counts))


def test_a_cloud_drops_the_same_in_any_batch() -> None:
    whole = torch.ones(3, 40, dtype=torch.bool)
    one, two, three = dropped([5, 6, 7], whole)
    assert torch.equal(dropped([7], whole[:1])[0], three)
    assert torch.equal(dropped([6, 5], whole[:2])[1], one)
    assert not torch.equal(one, two)


def test_padding_changes_nothing() -> None:
    mask = torch.zeros(1, 40, dtype=torch.bool)
    mask[0, 7:27] = True
    assert torch.equal(dropped([5], mask)[0], dropped([5], torch.ones(1, 20, dtype=torch.bool))[0])


def test_the_share_and_the_mean() -> None:
    [values] = dropped([1], torch.ones(1, 2000, dtype=torch.bool))
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float((values == 0).double().mean()) == pytest.approx(0.3, abs=0.003)  # 400,000 draws: 4 deviations


def test_without_keys_torch_draws() -> None:
    mask = torch.ones(1, 50, dtype=torch.bool)
    torch.manual_seed(0)
    first = dropped(None, mask)[0]
    assert not torch.equal(first, dropped(None, mask)[0])
    torch.manual_seed(0)
    assert torch.equal(first, dropped(None, mask)[0])


@pytest.mark.parametrize("implementation", ["plain", "fast"])
def test_the_model_draws_by_the_keys_it_is_given(implementation: str) -> None:
    torch.manual_seed(0)
    widths = {"local_widths": (8, 8), "global_widths": (8, 16), "head_widths": (16, 8)}
    model = PointNetSeg(4, 5, **widths, feature_transform=False, dropout=0.5, implementation=implementation).train()
    features = torch.rand(3, 30, 4)

    def logits(keys: list[int] | None) -> Tensor:
        model.draw_by(keys)
        return model(features)

    assert torch.equal(logits([1, 2, 3]), logits([1, 2, 3]))
    changed = (logits([1, 2, 3]) != logits([1, 9, 3])).any(dim=2)
    assert changed[1].any()
    assert not changed[[0, 2]].any()
