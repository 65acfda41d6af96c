"""The fast forms against the plain one: the same loss, gradient, running statistics and logits, in float64."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from pointseg.core.errors import ConfigError
from pointseg.models import PointNetSeg
from pointseg.models.layers import Rows
from pointseg.models.pointnet.network import IMPLEMENTATIONS
from pointseg.models.pointnet.products import parts_of
from pointseg.models.pointnet.sparse_max import WinnerSearch

CLASSES, FEATURES = 7, 5
PART = 512  # rows: that many go through the widest layers and through prediction at once
SMALL: dict[str, Any] = {"local_widths": (16, 16), "global_widths": (16, 24, 48), "head_widths": (40, 24, 12)}
NO_T_NETS = {"input_transform": False, "feature_transform": False}


def model_of(seed: int = 0, zero_scales: bool = False, **options: Any) -> PointNetSeg:
    """float64, T-Nets that are no identity, BatchNorm scales of both signs.

    Enough clouds are to be given: T-Nets normalise over clouds, and over two or three of them that is so ill-conditioned
    that any change of rounding shows.
    """
    torch.manual_seed(seed)
    model = PointNetSeg(FEATURES, CLASSES, **{**SMALL, **options}).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("matrix.weight"):
                parameter.normal_(std=0.01)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(-1.0, 1.5)
                module.bias.normal_(std=0.3)
                if zero_scales:
                    module.weight[::5] = 0.0
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2.0)
    return model


class Pass(NamedTuple):
    """What a training pass leaves."""

    loss: Tensor
    gradient: Tensor
    statistics: Tensor
    input_gradient: Tensor


def train(
    model: PointNetSeg, implementation: str, x: Tensor, mask: Tensor | None = None, steps: int = 1
) -> tuple[Pass, PointNetSeg]:
    model = copy.deepcopy(model).train()
    model.implementation = implementation
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = x.clone().requires_grad_()
    target = torch.randn(*x.shape[:2], CLASSES, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
    loss = x.new_zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        x.grad = None
        logits, penalty = model.logits_and_penalty(x, None, mask)
        error = (logits - target).square()
        loss = (error if mask is None else error[mask]).mean() + 0.01 * penalty
        loss.backward()
        if steps > 1:
            optimizer.step()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    statistics = torch.cat([b.double().flatten() for b in model.buffers()])
    assert x.grad is not None
    return Pass(loss.detach(), gradient, statistics, x.grad), model


def assert_equal(plain: Pass, fast: Pass, loss: float = 1e-12, gradient: float = 1e-10) -> None:
    assert len(plain.gradient) == len(fast.gradient)  # every parameter has one
    assert abs(float((plain.loss - fast.loss) / plain.loss)) < loss
    assert float((plain.gradient - fast.gradient).norm() / plain.gradient.norm()) < gradient
    assert float((plain.statistics - fast.statistics).abs().max()) < 1e-11
    assert float((plain.input_gradient - fast.input_gradient).norm()) <= gradient * float(plain.input_gradient.norm())


def cloud(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 0.5


FORMS = {
    "paper": {},
    "no T-Nets": NO_T_NETS,
    "input T-Net": {"feature_transform": False},
    "feature T-Net": {"input_transform": False},
    "single layers": {"local_widths": (6,), "global_widths": (9,), "head_widths": (5,)},
    "wide": {"local_widths": (64, 64), "global_widths": (64, 128, 256), "head_widths": (128, 64)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(8, 50), (1, 7), (8, PART + 13)])
def test_training_pass_is_the_plain_one(form: str, shape: tuple[int, int]) -> None:
    model = model_of(**FORMS[form])
    plain, fast = (train(model, name, cloud(*shape))[0] for name in ("plain", "fast"))
    assert_equal(plain, fast)


@pytest.mark.parametrize("form", FORMS)
def test_ten_steps_are_the_plain_ones(form: str) -> None:
    model = model_of(**FORMS[form])
    (plain, one), (fast, other) = (train(model, name, cloud(8, 60), steps=10) for name in ("plain", "fast"))
    assert_equal(plain, fast, loss=1e-11, gradient=1e-9)  # rounding grows step by step
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("empty", [False, True])
def test_padding_touches_nothing(form: str, empty: bool) -> None:
    model, x = model_of(**FORMS[form]), cloud(3, 40)
    mask = torch.rand(3, 40, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[1, 5:] = False
    if empty:
        mask[2] = False
    plain, fast = (train(model, name, x, mask)[0] for name in ("plain", "fast"))
    assert_equal(plain, fast)
    other = x.masked_fill(~mask[..., None], 1e3)
    assert_equal(train(model, "fast", other, mask)[0], fast)
    assert bool((fast.input_gradient[~mask] == 0).all())


def test_clouds_of_one_point() -> None:
    model = model_of()
    assert_equal(*(train(model, name, cloud(4, 1))[0] for name in ("plain", "fast")), gradient=1e-9)


def test_a_single_row_follows_the_rule_of_its_batchnorm() -> None:
    model = model_of(**NO_T_NETS)
    plain, fast = (train(model, name, cloud(1, 1))[0] for name in ("plain", "fast"))
    assert_equal(plain, fast)
    assert torch.equal(fast.statistics, torch.cat([b.double().flatten() for b in model.buffers()]))


def test_scales_of_exactly_zero() -> None:
    model = model_of(zero_scales=True)
    assert_equal(*(train(model, name, cloud(3, 50))[0] for name in ("plain", "fast")))


def test_duplicate_points_share_no_gradient() -> None:
    """Of equal points the first one wins, in both forms."""
    model, x = model_of(**NO_T_NETS), cloud(2, 20).repeat(1, 3, 1)
    plain, fast = (train(model, name, x)[0] for name in ("plain", "fast"))
    assert_equal(plain, fast)


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=draw))

    widths = {
        key: [number(3, 40) for _ in range(number(1, 3))] for key in ("local_widths", "global_widths", "head_widths")
    }
    t_nets = {key: bool(number(0, 1)) for key in ("input_transform", "feature_transform")}
    x = cloud(number(1, 4), number(2, 90), seed=seed)
    mask = torch.rand(x.shape[:2], generator=draw) < 0.8 if number(0, 1) else None
    if mask is not None:
        mask[:, :2] = True
    model = model_of(seed, **widths, **t_nets)
    assert_equal(*(train(model, name, x, mask)[0] for name in ("plain", "fast")), gradient=1e-9)


# ---- winners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 5, PART, PART + 1, 3 * PART + 7])
def test_winners_are_the_first_of_the_largest(points: int) -> None:
    draw = torch.Generator().manual_seed(points)
    x = torch.randint(-2, 3, (points, 4), generator=draw).double()  # whole numbers: many ties
    weight = torch.randint(-2, 3, (30, 4), generator=draw).double()
    products = x @ weight.T
    expected = [int((column == column.max()).nonzero()[0]) for column in products.T]
    rows = Rows((1, points), None)
    search = WinnerSearch(weight, rows)
    for part in parts_of(rows, x.device, 4):
        search.look(part, part.of(x))
    assert search.places().tolist() == [expected]


# ---- prediction --------------------------------------------------------------------------------------------------------


def predict(model: PointNetSeg, implementation: str, x: Tensor, mask: Tensor | None = None) -> Tensor:
    model = copy.deepcopy(model).eval()
    model.implementation = implementation
    with torch.no_grad():
        return model(x, None, mask)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(3, 50), (1, 1), (1, PART), (2, 2 * PART + 13)])
def test_prediction_is_the_plain_one(form: str, shape: tuple[int, int]) -> None:
    model, x = model_of(**FORMS[form]), cloud(*shape)
    assert torch.allclose(predict(model, "plain", x), predict(model, "fast", x), rtol=1e-10, atol=1e-10)


def test_prediction_with_padding_is_the_plain_one() -> None:
    model, x = model_of(), cloud(3, 40)
    mask = torch.rand(3, 40, generator=torch.Generator().manual_seed(2)) < 0.5
    mask[2] = False
    plain, fast = (predict(model, name, x, mask) for name in ("plain", "fast"))
    assert torch.allclose(plain, fast, rtol=1e-10, atol=1e-10)
    assert bool((fast[~mask] == 0).all())


def test_trained_float32_weights_agree() -> None:
    """Argmax agreement of at least 0.9999 and logits within 1e-4, after some training in float32."""
    torch.manual_seed(0)
    model = PointNetSeg(4, 19).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(15):
        x = torch.randn(4, 256, 4, generator=draw)
        labels = (x[..., 0] * 3).round().long().clamp(-9, 9) + 9
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x).flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
    x = torch.randn(1, 20_000, 4, generator=draw)
    plain, fast = (predict(model, name, x) for name in ("plain", "fast"))
    assert float((plain - fast).abs().max()) < 1e-4
    assert float((plain.argmax(-1) == fast.argmax(-1)).double().mean()) >= 0.9999


def _halve(model: PointNetSeg) -> None:
    with torch.no_grad():
        model.classifier.weight.mul_(0.5)


def _halve_data(model: PointNetSeg) -> None:
    model.local_mlp[0].weight.data.mul_(0.5)  # type: ignore[operator]  # unseen by version counters


def _statistics(model: PointNetSeg) -> None:
    model.head_norm.running_var.data.add_(1.0)  # type: ignore[union-attr]


def _load(model: PointNetSeg) -> None:
    model.load_state_dict(model_of(seed=5).state_dict())


def _train(model: PointNetSeg) -> None:
    model.train()
    model(cloud(2, 30))
    model.eval()


def _replace(model: PointNetSeg) -> None:
    model.classifier = nn.Linear(12, CLASSES).double()


@pytest.mark.parametrize("change", [_halve, _halve_data, _statistics, _load, _train, _replace])
def test_folded_weights_are_never_stale(change: Any) -> None:
    model, x = model_of().eval(), cloud(2, 30)
    with torch.no_grad():
        before = model(x)
        change(model)
        after = model(x)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, predict(model, "plain", x), rtol=1e-10, atol=1e-10)


def test_gradients_flow_in_evaluation_mode() -> None:
    model, x = model_of().eval(), cloud(1, 9).requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None


def test_bfloat16_autocast_trains_and_predicts() -> None:
    torch.manual_seed(0)
    model, x = PointNetSeg(FEATURES, CLASSES, **SMALL), cloud(2, 64).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(x).float().square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model.eval()(x).float()
    assert torch.allclose(half, predict(model, "plain", x), atol=0.1)


MEMORY = """
import pathlib, sys, torch
from pointseg.models import PointNetSeg
torch.set_num_threads(1)
model, x = PointNetSeg(4, 19, implementation=sys.argv[1]).eval(), torch.randn(1, 130_000, 4)

def peak():  # ru_maxrss would be inherited from the parent
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

with torch.no_grad():
    model(x[:, :2000])
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    logits = model(x)
print(peak() - before - logits.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    ("form", "least", "most"), [("fast", 0, 60), pytest.param("plain", 200, 4000, marks=pytest.mark.slow)]
)
def test_whole_scan_is_predicted_in_constant_memory(form: str, least: int, most: int) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, form], capture_output=True, text=True, check=True, timeout=300)
    assert least <= int(done.stdout) / 2**20 < most  # the plain form shows that the measurement sees what there is


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_implementation_is_no_part_of_the_model(name: str) -> None:
    model = PointNetSeg(4, 3, implementation=name, **SMALL)
    assert "implementation" not in model.hyperparameters
    assert set(model.state_dict()) == set(PointNetSeg(4, 3, **SMALL).state_dict())


def test_unknown_implementation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.implementation"):
        PointNetSeg(4, 3, implementation="faster")


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["plain", "fast"])
def test_compiled_model_is_the_same_function(implementation: str) -> None:
    """With torch.compile's tracer and autograd, without the C++ compiler that not every machine has."""
    model, x = model_of().train(), cloud(6, 30)
    model.implementation = implementation
    compiled = copy.deepcopy(model)
    torch._dynamo.reset()
    logits = [model(x), torch.compile(compiled, backend="aot_eager")(x)]
    for answer in logits:
        answer.square().mean().backward()
    assert torch.allclose(*logits, rtol=1e-10, atol=1e-10)
    one, other = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model, compiled)
    )
    assert float((one - other).norm() / one.norm()) < 1e-10
