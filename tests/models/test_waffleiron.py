"""WaffleIron: each part against a slow definition of it, the paper's size, and what must change nothing."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.core.errors import ConfigError
from pointseg.models import WaffleIron, describe_model, rebuild_model
from pointseg.models.waffleiron.blocks import ChannelMix, DropPath, Embedding, SpatialMix
from pointseg.models.waffleiron.planes import PLANES, Voxels
from pointseg.models.waffleiron.published import from_published, published_names
from pointseg.models.waffleiron.rows import Groups, moments

SMALL: dict[str, Any] = {"channels": 8, "layers": 4, "neighbours": 3, "grid": (20, 18, 5), "voxel": 0.5}


def cloud(points: int, seed: int = 0, reach: float = 8.0) -> tuple[Tensor, Tensor]:
    """Coordinates (n, 3), most of them in the field of view, and features (n, 5)."""
    random = torch.Generator().manual_seed(seed)
    coords = (torch.rand(points, 3, generator=random) - 0.5) * torch.tensor([2 * reach, 2 * reach, 4.0])
    return coords, torch.randn(points, 5, generator=random)


def model(seed: int = 0, **settings: Any) -> WaffleIron:
    torch.manual_seed(seed)
    made = WaffleIron(5, 4, **{**SMALL, **settings})
    for name, tensor in made.state_dict().items():  # as trained: nothing at its initial value
        if tensor.is_floating_point() and name.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and name.endswith(("norm.bias", "running_mean")):
            tensor.uniform_(-0.5, 0.5)
    return made


# ---- the network as the paper describes it, with loops ---------------------------------------------------------------


def slow_norm(norm: nn.Module, x: Tensor, training: bool) -> Tensor:
    """BatchNorm or LayerNorm of rows."""
    if isinstance(norm, nn.LayerNorm):
        return F.layer_norm(x, (x.shape[1],), norm.weight, norm.bias)
    assert isinstance(norm, nn.BatchNorm1d)
    return F.batch_norm(
        x,
        None if training else norm.running_mean,
        None if training else norm.running_var,
        norm.weight,
        norm.bias,
        training,
        eps=norm.eps,
    )


def slow_embedding(embedding: Embedding, x: Tensor, neighbours: Tensor, training: bool) -> Tensor:
    a = slow_norm(embedding.norm, x, training)
    differences = torch.stack([a[int(other)] - a[row] for row, others in enumerate(neighbours) for other in others])
    hidden = slow_norm(embedding.difference_norm, differences, training) @ embedding.difference.weight.T
    hidden = torch.relu(slow_norm(embedding.inner_norm, hidden, training)) @ embedding.inner.weight.T
    count = neighbours.shape[1]
    largest = torch.stack([hidden[row * count : (row + 1) * count].max(dim=0).values for row in range(len(x))])
    own = a @ embedding.point.weight.T + embedding.point.bias
    return torch.cat([own, largest], dim=1) @ embedding.join.weight.T + embedding.join.bias


def slow_depthwise(image: Tensor, layer: nn.Conv2d) -> Tensor:
    """A convolution of each channel of (C, H, W) by itself, zeros around."""
    channels, height, width = image.shape
    rows = []
    for u in range(height):
        for v in range(width):
            total = layer.bias.clone() if layer.bias is not None else torch.zeros(channels)
            for du in (-1, 0, 1):
                for dv in (-1, 0, 1):
                    if 0 <= u + du < height and 0 <= v + dv < width:
                        total = total + layer.weight[:, 0, du + 1, dv + 1] * image[:, u + du, v + dv]
            rows.append(total)
    return torch.stack(rows, dim=1).view(channels, height, width)


def slow_spatial(block: SpatialMix, x: Tensor, cells: list[Tensor], grid: tuple[int, int], training: bool) -> Tensor:
    """All clouds; `cells` of each."""
    activation = F.gelu if block.activation is F.gelu else F.relu
    normalised, answers, first = slow_norm(block.norm, x, training), [], 0
    for own in cells:
        image = torch.zeros(x.shape[1], *grid, dtype=x.dtype)
        rows = normalised[first : first + len(own)]
        for u, v in {tuple(pair) for pair in own.tolist()}:
            inside = (own == torch.tensor([u, v])).all(dim=1)
            image[:, u, v] = rows[inside].sum(dim=0) / (int(inside.sum()) + 1e-6)
        image = slow_depthwise(activation(slow_depthwise(image, block.first)), block.second)
        answers += [block.scale * image[:, u, v] for u, v in own.tolist()]
        first += len(own)
    return x + torch.stack(answers)


def slow_channel(block: ChannelMix, x: Tensor, training: bool) -> Tensor:
    activation = F.gelu if block.activation is F.gelu else F.relu
    hidden = activation(slow_norm(block.norm, x, training) @ block.first.weight.T + block.first.bias)
    return x + block.scale * (hidden @ block.second.weight.T + block.second.bias)


def stacked(net: WaffleIron, clouds: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """(features, coords, mask) of a padded batch; the padding is not zeros."""
    longest = max(len(coords) for coords, _ in clouds)
    features, places = torch.full((len(clouds), longest, 5), 7.0), torch.full((len(clouds), longest, 3), 1.0)
    mask = torch.zeros(len(clouds), longest, dtype=torch.bool)
    for row, (coords, own) in enumerate(clouds):
        features[row, : len(own)], places[row, : len(own)], mask[row, : len(own)] = own, coords, True
    return features, places, mask


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    assert a.shape == b.shape
    a, b = a.detach(), b.detach()
    assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("settings", [{}, {"norm": "layer", "activation": "gelu"}, {"embedding_channels": 3}])
def test_every_block_is_its_definition(settings: dict[str, Any], training: bool) -> None:
    net = model(**settings, drop_path=0.0).train(training)
    clouds = [cloud(60, 1), cloud(35, 2)]
    features, coords, mask = stacked(net, clouds)
    extras = net._extras(features, coords, mask)
    voxels = Voxels(extras, features.shape[1], net.grid)
    x = features.flatten(0, 1)[voxels.point_V]
    found, wanted = (
        net.embedding(x, voxels.neighbours_VQ),
        slow_embedding(net.embedding, x, voxels.neighbours_VQ, training),
    )
    close(found, wanted)
    cells = [extras["cells"][row, :count].long() for row, count in enumerate(voxels.counts)]
    for layer, (spatial, channel) in enumerate(zip(net.spatial, net.channel, strict=True)):
        axes = PLANES[layer % 3]
        grid = (net.grid[axes[0]], net.grid[axes[1]])
        plane_cells = [own[:, list(axes)] for own in cells]
        found = spatial(wanted, voxels.plane(axes))
        wanted = slow_spatial(spatial, wanted, plane_cells, grid, training)
        close(found, wanted)
        found, wanted = channel(wanted), slow_channel(channel, wanted, training)
        close(found, wanted)
    logits = net(features, coords, mask)
    close(logits[mask], (wanted @ net.head.weight.T + net.head.bias)[voxels.answer_BN[mask]], 1e-4)


def test_the_gradient_is_that_of_finite_differences() -> None:
    net = model(channels=3, layers=3, drop_path=0.0).double().train()
    coords, features = cloud(25, 4)
    extras = net._extras(features[None], coords[None], None)
    names, values = zip(*net.named_parameters(), strict=True)

    def logits(x: Tensor, *weights: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (x, None, None, extras))
        return found

    x = features[None].double().requires_grad_()
    assert torch.autograd.gradcheck(logits, (x, *values), eps=1e-7, atol=1e-4, fast_mode=True)


def test_moments_and_sums_have_the_gradients_of_their_definitions() -> None:
    x = torch.randn(30, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: moments(rows)[:2], (x,))
    var, mean = torch.var_mean(x, dim=0, correction=0)
    assert all(torch.allclose(a, b) for a, b in zip(moments(x)[:2], (mean, var), strict=True))
    group = torch.tensor([2, 0, 1, 2, 2, 0] * 5)
    groups = Groups.of(group, torch.bincount(group))
    assert torch.allclose(groups.sum(x), torch.zeros(3, 4, dtype=x.dtype).index_add(0, group, x))
    assert torch.autograd.gradcheck(groups.sum, (x,))
    assert torch.autograd.gradcheck(groups.spread, (x[:3].detach().requires_grad_(),))


# ---- the published form ----------------------------------------------------------------------------------------------


def test_the_published_size() -> None:
    net = WaffleIron(5, 19).eval()
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert round(parameters / 1e6, 2) == 6.84
    with torch.no_grad():
        assert net(torch.rand(2, 300, 5), 20 * torch.rand(2, 300, 3)).shape == (2, 300, 19)


def published_state(channels: int, layers: int, classes: int, layer_norm: bool = False) -> dict[str, Tensor]:
    """Names and shapes as in the public files."""

    def norm(name: str, width: int, batch: bool = True) -> dict[str, Tensor]:
        both = {f"{name}.weight": torch.randn(width), f"{name}.bias": torch.randn(width)}
        running = {f"{name}.running_mean": torch.randn(width), f"{name}.running_var": torch.rand(width)}
        return both | ({**running, f"{name}.num_batches_tracked": torch.tensor(3)} if batch else {})

    def layer(name: str, *shape: int, bias: bool = True) -> dict[str, Tensor]:
        return {f"{name}.weight": torch.randn(shape)} | ({f"{name}.bias": torch.randn(shape[0])} if bias else {})

    c = channels
    state = norm("embed.norm", 5) | layer("embed.conv1", c, 5, 1) | norm("embed.conv2.0", 5)
    state |= layer("embed.conv2.1", c, 5, 1, 1, bias=False) | norm("embed.conv2.2", c)
    state |= layer("embed.conv2.4", c, c, 1, 1, bias=False) | layer("embed.final", c, 2 * c, 1)
    for number in range(layers):
        for mix, inner, shape in (("spatial_mix", "ffn", (c, 1, 3, 3)), ("channel_mix", "mlp", (c, c, 1))):
            name = f"waffleiron.{mix}.{number}"
            state |= norm(f"{name}.norm", c, batch=not layer_norm)
            state |= layer(f"{name}.{inner}.0", *shape) | layer(f"{name}.{inner}.2", *shape)
            state |= layer(f"{name}.scale", c, 1, 1, bias=False)
    return state | layer("classif", classes, c, 1)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_published_state_fits(norm: str, prefix: str) -> None:
    net = WaffleIron(5, 19, channels=6, layers=3, norm=norm)
    state = published_state(6, 3, 19, norm == "layer")
    assert set(published_names(net)) == set(state)
    net.load_state_dict(from_published(net, {prefix + name: value for name, value in state.items()}))
    for name, own in published_names(net).items():
        assert torch.equal(net.state_dict()[own].flatten(), state[name].flatten())


def test_the_names_of_an_mlp_head() -> None:
    names = published_names(WaffleIron(5, 19, channels=6, layers=1, head="mlp"))
    assert {name for name in names if name.startswith("classif")} == {
        f"classif.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")
    }


def test_a_published_state_of_another_size_is_refused_by_name() -> None:
    net = WaffleIron(5, 19, channels=6, layers=2)
    state = published_state(6, 3, 19) | {"classif.bias": torch.zeros(20)}
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(from_published(net, state))
    assert "size mismatch for head.bias" in str(error.value)
    assert "waffleiron.channel_mix.2.scale.weight" in str(error.value)


def test_a_published_state_of_random_weights_gives_the_logits_of_the_definition() -> None:
    """With other weights than `model`'s: a wrong pair of layers of the same shape would show."""
    torch.manual_seed(3)
    net = WaffleIron(5, 4, channels=6, layers=3, neighbours=3, grid=(20, 18, 5), voxel=0.5).eval()
    state = {
        name: 0.4 * value if value.is_floating_point() else value for name, value in published_state(6, 3, 4).items()
    }
    net.load_state_dict(from_published(net, state))
    coords, features = cloud(40, 5)
    extras = net._extras(features[None], coords[None], None)
    voxels = Voxels(extras, 40, net.grid)
    x = features[voxels.point_V]
    a = slow_norm_of(state, "embed.norm", x)
    d = torch.stack([a[voxels.neighbours_VQ[:, q]] - a for q in range(3)], dim=1).flatten(0, 1)
    d = slow_norm_of(state, "embed.conv2.0", d) @ state["embed.conv2.1.weight"][..., 0, 0].T
    d = torch.relu(slow_norm_of(state, "embed.conv2.2", d)) @ state["embed.conv2.4.weight"][..., 0, 0].T
    joined = torch.cat([conv(state, "embed.conv1", a), d.view(-1, 3, 6).max(dim=1).values], dim=1)
    x = conv(state, "embed.final", joined)
    for number in range(3):
        name, axes = f"waffleiron.spatial_mix.{number}", list(PLANES[number])
        cells, sizes = extras["cells"][0][:, axes].long(), [net.grid[axis] for axis in axes]
        flat = cells[:, 0] * sizes[1] + cells[:, 1]
        sums = torch.zeros(sizes[0] * sizes[1], 6).index_add(0, flat, slow_norm_of(state, f"{name}.norm", x))
        image = (sums / (torch.bincount(flat, minlength=len(sums))[:, None] + 1e-6)).T.reshape(1, 6, *sizes)
        for place in ("0", "2"):
            image = F.conv2d(image, state[f"{name}.ffn.{place}.weight"], state[f"{name}.ffn.{place}.bias"], 1, 1, 1, 6)
            image = torch.relu(image) if place == "0" else image
        x = x + state[f"{name}.scale.weight"][:, 0, 0] * image[0].flatten(1).T[flat]
        name = f"waffleiron.channel_mix.{number}"
        hidden = torch.relu(conv(state, f"{name}.mlp.0", slow_norm_of(state, f"{name}.norm", x)))
        x = x + state[f"{name}.scale.weight"][:, 0, 0] * conv(state, f"{name}.mlp.2", hidden)
    wanted = conv(state, "classif", x)[voxels.answer_BN[0]]
    close(net(features[None], coords[None])[0], wanted)


def slow_norm_of(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    running, affine = ("running_mean", "running_var"), ("weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{part}"] for part in (*running, *affine)))


def conv(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"][..., 0].T + state[f"{name}.bias"]


# ---- what changes nothing --------------------------------------------------------------------------------------------


def test_permuted_points_get_permuted_logits() -> None:
    """Where each voxel has one point: of several, the first in the cloud's order stands for all."""
    net = model(voxel=0.001).eval()
    coords, features = cloud(200, 6)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    close(net(features[order][None], coords[order][None])[0], net(features[None], coords[None])[0][order])


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_logit_gradient_or_statistic(training: bool) -> None:
    results = []
    coords, features = cloud(70, 7)
    for padding in (0, 30):
        net = model(drop_path=0.0).train(training)
        batch = [(coords, features), cloud(70 + padding, 8)] if padding else [(coords, features)]
        padded, places, mask = stacked(net, batch)
        logits = net.predicted(padded[:1], places[:1], mask[:1] if padding else None)
        (logits[0, :70] * torch.linspace(-1, 1, 4)).sum().backward()
        assert padding == 0 or not logits[0, 70:].any()
        state = {**net.state_dict(), **{f"{name}.grad": p.grad for name, p in net.named_parameters()}}
        results.append({**state, "logits": logits[0, :70].detach()})
    for name, value in results[0].items():
        close(results[1][name].double(), value.double(), 1e-4 if name.endswith("grad") else 1e-5)


def test_a_batch_of_clouds_of_different_sizes_is_each_cloud_alone() -> None:
    net = model().eval()
    clouds = [cloud(150, 1), cloud(1, 2), cloud(90, 3, reach=3.0)]
    features, coords, mask = stacked(net, clouds)
    logits = net.predicted(features, coords, mask)
    for row, (places, own) in enumerate(clouds):
        close(logits[row, : len(own)], net(own[None], places[None])[0])


@pytest.mark.parametrize("points", [1, 2, 100, 130_000])
@pytest.mark.parametrize("training", [False, True])
def test_clouds_of_any_size(points: int, training: bool) -> None:
    net = model(channels=4, layers=3).train(training)
    coords, features = cloud(points, 9)
    logits = net(features[None], coords[None])
    assert logits.shape == (1, points, 4)
    assert bool(logits.isfinite().all())
    logits.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("training", [False, True])
def test_a_cloud_outside_the_field_of_view_is_labelled(training: bool) -> None:
    net = model().train(training)
    coords, features = cloud(50, 10)
    logits = net(features[None], coords[None] + 500.0)
    assert bool(logits.isfinite().all())
    assert len(logits[0].unique(dim=0)) > 10


def test_half_precision_is_near() -> None:
    net = model().train()
    net.drop_path.p = 0.0
    coords, features = cloud(300, 11)
    exact = net(features[None], coords[None])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(features[None], coords[None])
    close(half.float(), exact, 0.05)


def test_half_precision_keeps_rows_apart_that_are_far_from_zero() -> None:
    torch.manual_seed(0)
    block = ChannelMix(8).train()
    x = torch.randn(500, 8) + 200.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = block(x)
    close(half - x, block(x) - x, 0.05)


# ---- stochastic depth ------------------------------------------------------------------------------------------------


def test_a_cloud_leaves_out_the_same_blocks_in_any_batch() -> None:
    drop = DropPath(0.4).train()

    def drawn(keys: list[int]) -> Tensor:
        drop.keys = keys
        return torch.stack([factor for factor in drop.factors(500, len(keys), torch.zeros(1)) if factor is not None])

    three = drawn([5, 6, 7])
    assert torch.equal(drawn([7])[:, 0], three[:, 2])
    assert three.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert float((three == 0).double().mean()) == pytest.approx(0.4, abs=0.05)
    drop.keys = None
    torch.manual_seed(0)
    free = drop.factors(9, 2, torch.zeros(1))
    torch.manual_seed(0)
    assert torch.equal(torch.stack(free), torch.stack(drop.factors(9, 2, torch.zeros(1))))  # type: ignore[arg-type]


def test_the_model_leaves_out_blocks_by_the_keys_that_it_is_given() -> None:
    net = model(drop_path=0.5, norm="layer", layers=6).train()
    coords, features = cloud(40, 12)
    net.embedding.eval()  # whose statistics would join the clouds

    def logits(*keys: int) -> Tensor:
        net.draw_by(keys)
        found: Tensor = net(features.expand(len(keys), -1, -1), coords.expand(len(keys), -1, -1))
        return found

    one = logits(1, 2)
    assert torch.equal(one, logits(1, 2))
    other = logits(1, 3)
    close(other[0], one[0])
    assert not torch.allclose(other[1], one[1], atol=1e-3)
    net.eval()
    assert torch.equal(logits(1)[0], logits(4)[0])


def test_a_block_that_is_left_out_changes_nothing() -> None:
    net = model(norm="layer").train()
    coords, features = cloud(40, 13)
    voxels = Voxels(net._extras(features[None], coords[None], None), 40, net.grid)
    x = torch.randn(len(voxels.cloud_V), 8)
    assert torch.equal(net.spatial[0](x, voxels.plane(PLANES[0]), torch.zeros(1)), x)
    assert torch.equal(net.channel[0](x, torch.zeros(len(x), 1)), x)
    twice = net.channel[0](x, torch.full((len(x), 1), 2.0))
    close(twice - x, 2 * (net.channel[0](x) - x))


# ---- as a model of the library ---------------------------------------------------------------------------------------


def test_it_is_described_and_built_again() -> None:
    net = model(sync_batchnorm=True).eval()
    described = describe_model(net)
    assert described["name"] == "WaffleIron"
    assert "sync_batchnorm" not in described
    again = rebuild_model(described)
    again.load_state_dict(net.state_dict())
    coords, features = cloud(50, 14)
    assert torch.equal(again.eval()(features[None], coords[None]), net(features[None], coords[None]))


def test_preparation_travels_without_weights() -> None:
    net = WaffleIron(5, 19, channels=64, layers=4)
    prepare = net.preparation()
    assert prepare is not None
    sent = pickle.dumps(prepare)
    assert len(sent) < 5000
    coords, features = cloud(30, 15)
    found, wanted = pickle.loads(sent)(coords, features), net.prepare(coords, features)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_it_needs_coordinates_or_what_it_prepared() -> None:
    with pytest.raises(TypeError, match="needs the coordinates"):
        model()(torch.rand(1, 4, 5))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"channels": 0}, "model.channels"),
        ({"layers": 0}, "model.layers"),
        ({"neighbours": 0}, "model.neighbours"),
        ({"voxel": 0.0}, "model.voxel"),
        ({"drop_path": 1.0}, "model.drop_path"),
        ({"norm": "group"}, "model.norm"),
        ({"activation": "tanh"}, "model.activation"),
        ({"head": "conv"}, "model.head"),
        ({"field_of_view": [[-50, 50], [-50, 50]]}, "model.field_of_view"),
        ({"field_of_view": [[-50, 50], [50, -50], [-3, 2]]}, "model.field_of_view"),
        ({"grid": [250, 250]}, "model.grid"),
        ({"grid": [250, 0, 12]}, "model.grid"),
    ],
)
def test_a_bad_setting_names_its_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        WaffleIron(5, 19, **{**SMALL, **settings})
