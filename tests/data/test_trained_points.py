"""Points that the loss looks at: how many, which, and that the draw is the cloud's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pointseg.core.errors import ConfigError
from pointseg.data.trained_points import TrainedPoints

KEYS = torch.tensor([11, 22, 33])


def labels(points: int = 4000) -> torch.Tensor:
    """Class 1 nine times as frequent as class 2; a tenth has no label."""
    random = np.random.default_rng(0)
    return torch.from_numpy(random.choice([0, 1, 2], (3, points), p=[0.1, 0.81, 0.09]))


@pytest.mark.parametrize(("balance", "ratio"), [(0.0, 9.0), (0.5, 3.0), (1.0, 1.0)])
def test_classes_are_drawn_in_proportion(balance: float, ratio: float) -> None:
    chosen = TrainedPoints(200, balance)(labels(20_000), KEYS)
    assert (chosen > 0).sum(dim=1).tolist() == [200, 200, 200]
    assert int((chosen == 1).sum()) / int((chosen == 2).sum()) == pytest.approx(ratio, rel=0.25)


def test_labels_stay_with_their_points() -> None:
    before = labels()
    chosen = TrainedPoints(300)(before, KEYS)
    assert torch.equal(chosen[chosen > 0], before[chosen > 0])


def test_fewer_labelled_points_are_all_taken() -> None:
    before = labels(100)
    assert torch.equal(TrainedPoints(100, 0.5)(before, KEYS), before)


def test_the_draw_depends_on_the_cloud_alone() -> None:
    before, choose = labels(), TrainedPoints(300, 0.5)
    together = choose(before, KEYS)
    padded = torch.nn.functional.pad(before, (0, 77))
    for cloud in range(3):
        assert torch.equal(choose(before[cloud : cloud + 1], KEYS[cloud : cloud + 1])[0], together[cloud])
    assert torch.equal(choose(padded, KEYS)[:, :-77], together)
    assert not torch.equal(choose(before, KEYS + 1), together)


@pytest.mark.parametrize(("settings", "key"), [({"count": -1}, "count"), ({"balance": 1.5}, "balance")])
def test_what_cannot_be_used_names_its_key(settings: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.trained\.{key}"):
        TrainedPoints(**settings)  # type: ignore[arg-type]
