"""Products by either library against float64, whatever this processor would choose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.models import PointNetSeg
from pointseg.models.pointnet import products


@pytest.fixture(params=[False, True], ids=["MKL", "oneDNN"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    return bool(request.param)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(found: Tensor, exact: Tensor) -> bool:
    return bool((found - exact).abs().max() <= 2e-6 * exact.abs().max())


SHAPES = [(512, 4, 64), (1024, 512, 256), (512, 128, 1024), (4096, 64, 64), (700, 64, 128), (1, 4, 64), (0, 4, 64)]


@pytest.mark.parametrize(("n", "c", "o"), SHAPES)
@pytest.mark.parametrize("place", ["anywhere", "room", "out", "a part of out"])
def test_linear(n: int, c: int, o: int, place: str, library: bool) -> None:
    x, weight, bias = numbers(n, c), numbers(o, c), numbers(o)
    exact = (x.double() @ weight.double().T + bias.double()).relu()
    whole = torch.full((n + 2, o), 7.0)
    given = {
        "room": {"room": torch.empty(n, o)},
        "out": {"out": torch.empty(n, o)},
        "a part of out": {"out": whole[1:-1]},
    }
    found = products.linear(x, weight, bias, relu=True, **given.get(place, {}))
    assert n == 0 or close(found, exact)
    assert found.shape == (n, o)
    if "out" in place:
        assert found.data_ptr() == given[place]["out"].data_ptr()
    if "part" in place:
        assert torch.equal(whole[[0, -1]], torch.full((2, o), 7.0))


@pytest.mark.parametrize(("n", "c", "o"), SHAPES[:-1])
def test_products_that_have_no_bias(n: int, c: int, o: int, library: bool) -> None:
    x, grad, weight, total = numbers(n, c), numbers(n, o), numbers(o, c), numbers(o, c)
    assert close(products.linear(x, weight), x.double() @ weight.double().T)
    assert close(products.channels_first(weight, x), weight.double() @ x.double().T)
    assert close(products.product(grad, weight), grad.double() @ weight.double())
    exact = total.double() + grad.double().T @ x.double()
    products.add_outer(total, grad, x)
    assert close(total, exact)


def test_views_of_a_larger_matrix(library: bool) -> None:
    """The head's first layer is a part of a matrix; transposed weights are views as well."""
    whole, x = numbers(512, 1088), numbers(1024, 64)
    weight, _ = whole.split([64, 1024], dim=1)
    assert close(products.linear(x, weight), x.double() @ weight.double().T)
    assert close(products.product(numbers(1024, 512), weight), numbers(1024, 512).double() @ weight.double())


@pytest.mark.parametrize("c", [4, 64, 128])
def test_equal_rows_have_equal_products(c: int, library: bool) -> None:
    """The first of equal points is to win the max, whichever row of a kernel's block each is."""
    x, weight = numbers(1, c).repeat(1536, 1), numbers(1024, c)
    product = products.channels_first(weight, x)
    assert torch.equal(product, product[:, :1].expand_as(product))


@pytest.mark.parametrize("points", [512, 700])
def test_training_by_either_library(points: int, library: bool) -> None:
    """Gradients of the fast form in float32 against those of the plain one in float64."""
    x, y = numbers(2, points, 4), torch.arange(2 * points) % 5
    gradients = []
    for implementation, dtype in (("plain", torch.float64), ("fast", torch.float32)):
        torch.manual_seed(0)
        model = PointNetSeg(4, 5, implementation=implementation).to(dtype).train()
        F.cross_entropy(model(x.to(dtype)).flatten(0, 1), y).backward()
        gradients.append(torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None]))
    exact, found = gradients
    assert (found - exact).norm() <= 2e-3 * exact.norm()


@pytest.mark.parametrize(
    ("capability", "vendor", "expected"),
    [("AVX512", "AuthenticAMD", True), ("AVX2", "AuthenticAMD", False), ("AVX512", "GenuineIntel", False)],
)
def test_which_processors_have_onednn(
    capability: str, vendor: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose: Callable[[], bool] = products.onednn_is_faster.__wrapped__
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products.Path, "is_file", lambda path: True)
    monkeypatch.setattr(products.Path, "read_text", lambda path, **how: f"processor : 0\nvendor_id : {vendor}\n")
    assert choose() is expected
