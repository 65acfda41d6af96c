"""Augmentation against a plain computation, cloud by cloud, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.randomness import Purpose, random_key
from pointseg.data.augmentation import Augmentation

OFF: dict[str, float] = {
    "yaw": 0,
    "flip_x": 0,
    "flip_y": 0,
    "scale": 0,
    "jitter": 0,
    "dropout": 0,
    "remission_noise": 0,
    "remission_scale": 0,
    "remission_missing": 0,
}
CLOUDS, POINTS = 6, 50


def splitmix(state: int, output: int) -> int:
    """Output number `output` of SplitMix64 from a state, on Python integers."""
    z = (state + (output + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def draws(cloud: int) -> list[float]:
    """The five numbers in [0, 1) that decide what is done to a cloud: turn, size, mirrors, share dropped."""
    stream = splitmix(cloud % 2**64, Purpose.AUGMENTATION)
    return [(splitmix(stream, number) >> 40) / 2**24 for number in range(5)]


def only(**settings: float) -> Augmentation:
    """Nothing but what is named."""
    return Augmentation(**{**OFF, **settings})


@pytest.fixture(scope="module")
def keys() -> Tensor:
    return torch.tensor([random_key(3, 1, index) for index in range(CLOUDS)])


@pytest.fixture(scope="module")
def points() -> Tensor:
    """x, y, z, remission and two more columns."""
    return torch.from_numpy(np.random.default_rng(0).uniform(-20, 20, (CLOUDS, POINTS, 6)).astype(np.float32))


def test_whole_augmentation_is_the_plain_computation(points: Tensor, keys: Tensor) -> None:
    changed, _ = Augmentation(yaw=180, flip_x=0.5, flip_y=0.5, scale=0.2, jitter=0)(points, None, keys)
    for cloud in range(CLOUDS):
        turn, size, front, side, _ = draws(int(keys[cloud]))
        angle = np.deg2rad((2 * turn - 1) * 180)
        xyz = points[cloud, :, :3].numpy().astype(np.float64)
        xyz = xyz * [-1 if front < 0.5 else 1, -1 if side < 0.5 else 1, 1]
        x = np.cos(angle) * xyz[:, 0] - np.sin(angle) * xyz[:, 1]
        y = np.sin(angle) * xyz[:, 0] + np.cos(angle) * xyz[:, 1]
        expected = np.column_stack([x, y, xyz[:, 2]]) * (1 + (2 * size - 1) * 0.2)
        assert np.allclose(changed[cloud, :, :3].numpy(), expected, rtol=0, atol=2e-5)


def test_cloud_alone_is_changed_as_within_a_batch(points: Tensor, keys: Tensor) -> None:
    augmentation = Augmentation(flip_x=0.5, scale=0.1, jitter=0.1, dropout=0.5)
    together, mask = augmentation(points, None, keys)
    for cloud in range(CLOUDS):
        alone, mask_alone = augmentation(points[cloud : cloud + 1], None, keys[cloud : cloud + 1])
        assert torch.allclose(alone[0], together[cloud], rtol=0, atol=1e-6)
        assert mask is not None
        assert mask_alone is not None
        assert torch.equal(mask_alone[0], mask[cloud])


def test_padding_does_not_change_a_cloud(points: Tensor, keys: Tensor) -> None:
    augmentation = Augmentation(jitter=0.1, dropout=0.5)
    longer = torch.cat([points, torch.zeros(CLOUDS, 30, 6)], dim=1)
    mask = torch.arange(POINTS + 30).expand(CLOUDS, -1) < POINTS
    one, kept_one = augmentation(points, None, keys)
    other, kept_other = augmentation(longer, mask, keys)
    assert torch.allclose(one, other[:, :POINTS], rtol=0, atol=1e-6)
    assert kept_one is not None
    assert kept_other is not None
    assert torch.equal(kept_one, kept_other[:, :POINTS])
    assert not kept_other[:, POINTS:].any()


def test_other_keys_change_otherwise(points: Tensor, keys: Tensor) -> None:
    one, _ = only(yaw=180)(points, None, keys)
    other, _ = only(yaw=180)(points, None, keys + 1)
    assert not torch.allclose(one, other)


def test_rotation_keeps_height_and_range(points: Tensor, keys: Tensor) -> None:
    changed, _ = only(yaw=180)(points, None, keys)
    assert torch.equal(changed[..., 2], points[..., 2])
    assert torch.allclose(changed[..., :3].norm(dim=-1), points[..., :3].norm(dim=-1), rtol=1e-5)


def test_rotation_stays_within_its_limit() -> None:
    many = torch.tensor([random_key(index) for index in range(2000)])
    ahead = torch.tensor([1.0, 0, 0, 0]).expand(2000, 1, 4)
    changed, _ = only(yaw=30)(ahead, None, many)
    angles = torch.rad2deg(torch.atan2(changed[:, 0, 1], changed[:, 0, 0]))
    assert float(angles.min()) == pytest.approx(-30, abs=0.2)
    assert float(angles.max()) == pytest.approx(30, abs=0.2)


@pytest.mark.parametrize(("option", "signs"), [("flip_x", [-1, 1, 1]), ("flip_y", [1, -1, 1])])
def test_certain_flip_mirrors_one_axis(points: Tensor, keys: Tensor, option: str, signs: list[float]) -> None:
    changed, _ = only(**{option: 1.0})(points, None, keys)
    assert torch.equal(changed[..., :3], points[..., :3] * torch.tensor(signs))


def test_flip_happens_with_its_probability() -> None:
    many = torch.tensor([random_key(index) for index in range(4000)])
    left = torch.tensor([0, 1.0, 0, 0]).expand(4000, 1, 4)
    changed, _ = only(flip_y=0.3)(left, None, many)
    share = float((changed[:, 0, 1] < 0).double().mean())
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def test_scale_grows_lengths_with_the_cloud(points: Tensor, keys: Tensor) -> None:
    changed, _ = only(scale=0.3)(points, None, keys, metric_columns=[5])
    size = changed[..., 5] / points[..., 5]
    assert torch.allclose(changed[..., :3], points[..., :3] * size[..., None], rtol=1e-5)


def test_scale_leaves_other_columns(points: Tensor, keys: Tensor) -> None:
    changed, _ = only(scale=0.3)(points, None, keys, metric_columns=[5])
    assert torch.equal(changed[..., 3:5], points[..., 3:5])


def test_jitter_has_its_spread(keys: Tensor) -> None:
    points = torch.zeros(CLOUDS, 5000, 4)
    changed, _ = only(jitter=0.05)(points, None, keys)
    noise = changed[..., :3].double()
    count = noise.numel()
    assert abs(float(noise.std()) - 0.05) < 4 * 0.05 / np.sqrt(2 * count)
    assert abs(float(noise.mean())) < 4 * 0.05 / np.sqrt(count)


def test_jitter_leaves_remission(points: Tensor, keys: Tensor) -> None:
    changed, _ = only(jitter=0.05)(points, None, keys)
    assert torch.equal(changed[..., 3:], points[..., 3:])


def test_remission_noise_has_its_spread_and_leaves_the_rest(keys: Tensor) -> None:
    points = torch.full((CLOUDS, 4000, 5), 0.5)
    changed, _ = only(remission_noise=0.05)(points, None, keys)
    noise = (changed[..., 3] - 0.5).flatten()
    assert float(noise.std()) == pytest.approx(0.05, rel=0.03)
    assert abs(float(noise.mean())) < 4 * 0.05 / np.sqrt(len(noise))
    assert torch.equal(changed[..., [0, 1, 2, 4]], points[..., [0, 1, 2, 4]])


@pytest.mark.parametrize(("remission", "limits"), [(0.01, (0.0, 1.0)), (0.99, (0.0, 1.0)), (3.0, (0.0, 3.0))])
def test_noisy_remission_stays_in_its_domain(keys: Tensor, remission: float, limits: tuple[float, float]) -> None:
    points = torch.full((CLOUDS, 500, 4), remission)
    changed, _ = only(remission_noise=0.3)(points, None, keys)
    assert limits[0] <= float(changed[..., 3].min()) <= float(changed[..., 3].max()) <= limits[1]


def remission_draws(cloud: int) -> list[float]:
    """The two numbers in [0, 1) that decide what is done to a cloud's remission: its factor, and whether it is missing."""
    stream = splitmix(cloud % 2**64, Purpose.REMISSION)
    return [(splitmix(stream, number) >> 40) / 2**24 for number in range(2)]


def test_remission_of_a_cloud_is_scaled_as_drawn(keys: Tensor) -> None:
    points = torch.full((CLOUDS, 10, 5), 0.5)
    changed, _ = only(remission_scale=0.4)(points, None, keys)
    factors = [1 + (2 * remission_draws(int(key))[0] - 1) * 0.4 for key in keys]
    assert np.allclose(changed[..., 3].numpy(), 0.5 * np.array(factors)[:, None], atol=1e-6)
    assert max(factors) - min(factors) > 0.2
    assert torch.equal(changed[..., [0, 1, 2, 4]], points[..., [0, 1, 2, 4]])
    bright, _ = only(remission_scale=0.4)(torch.full((CLOUDS, 10, 4), 0.9), None, keys)
    assert float(bright[..., 3].max()) == 1.0


def test_missing_remission_is_the_mean_of_the_real_points(points: Tensor, keys: Tensor) -> None:
    mask = torch.arange(POINTS).expand(CLOUDS, -1) < 30
    changed, _ = only(remission_missing=0.5)(points, mask, keys)
    missing = [remission_draws(int(key))[1] < 0.5 for key in keys]
    assert True in missing
    assert False in missing
    for cloud, gone in enumerate(missing):
        before = points[cloud, :, 3]
        expected = (
            torch.full_like(before, float(before[:30].double().mean())) if gone else before.minimum(before.clamp(min=1))
        )
        assert torch.allclose(changed[cloud, :, 3], expected, atol=1e-5)


def test_dropout_changes_no_point(points: Tensor, keys: Tensor) -> None:
    changed, mask = only(dropout=0.9)(points, None, keys)
    assert torch.equal(changed, points)
    assert mask is not None
    assert not mask.all()


def test_dropout_drops_the_share_drawn(keys: Tensor) -> None:
    _, mask = only(dropout=0.8)(torch.zeros(CLOUDS, 20_000, 4), None, keys)
    assert mask is not None
    dropped = (~mask).double().mean(dim=1)
    assert dropped.tolist() == pytest.approx([0.8 * draws(int(k))[4] for k in keys], abs=0.015)


def test_dropout_keeps_padding_padded(points: Tensor, keys: Tensor) -> None:
    before = torch.arange(POINTS).expand(CLOUDS, -1) < 30
    _, mask = only(dropout=0.5)(points, before, keys)
    assert mask is not None
    assert not (mask & ~before).any()


def test_nothing_switched_on_changes_nothing(points: Tensor, keys: Tensor) -> None:
    changed, mask = only()(points, None, keys)
    assert torch.equal(changed, points)
    assert mask is None


def test_input_is_left_as_it_was(points: Tensor, keys: Tensor) -> None:
    before = points.clone()
    Augmentation(scale=0.5, jitter=0.1)(points, None, keys, metric_columns=[4])
    assert torch.equal(points, before)


@pytest.mark.parametrize(
    "settings",
    [
        {"yaw": -1},
        {"yaw": 181},
        {"flip_x": 1.5},
        {"flip_y": -0.1},
        {"scale": 1.0},
        {"jitter": -0.01},
        {"dropout": 1.0},
        {"jitter": float("nan")},
    ],
)
def test_bad_value_names_its_key(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"data\.augmentation\.{next(iter(settings))}"):
        Augmentation(**settings)
