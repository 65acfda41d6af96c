"""FRNet against an independent implementation in the published order, with the published names, loops where they are plainer."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.models import FRNet, describe_model, rebuild_model
from pointseg.models.frnet import network
from pointseg.models.frnet.projection import Pixels, RangeImage
from pointseg.models.published import FORMATS, load_published
from pointseg.workflows.settings import train as settings

HEIGHT, WIDTH, CLASSES = 8, 16, 5
TINY = {
    "height": HEIGHT,
    "width": WIDTH,
    "point_widths": (4, 6, 8, 8),
    "image_channels": 3,
    "channels": 8,
    "blocks": (1, 2),
    "strides": (1, 2),
    "fused_widths": (10, 8),
    "auxiliary": (0, 2),
}


def cloud(points: int, seed: int = 0, clouds: int = 1) -> tuple[Tensor, Tensor]:
    """Features x, y, z, remission, range and coordinates around a sensor."""
    random = np.random.default_rng(seed)
    coords = random.uniform([-40, -40, -4], [40, 40, 1], (clouds, points, 3))
    remission = random.random((clouds, points, 1))
    distance = np.linalg.norm(coords, axis=2, keepdims=True)
    features = torch.from_numpy(np.concatenate([coords, remission, distance], axis=2))
    return features.float(), torch.from_numpy(coords).float()


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """With statistics and weights of BatchNorm as after a training."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return model.eval()


# ---- the reference -------------------------------------------------------------------------------------------------


def conv(a: int, b: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, size, stride, size // 2, bias=False), nn.BatchNorm2d(b, eps=1e-3)]


def mlp(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b, eps=1e-3), nn.ReLU())


class ConvModule(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv, self.bn = conv(a, b)

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(self.bn(self.conv(x)))


class Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(a, b, 3, stride)
        self.conv2, self.bn2 = conv(b, b)
        self.downsample = nn.Sequential(*conv(a, b, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.hardswish(self.bn1(self.conv1(x)))))
        return F.hardswish(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [8, *TINY["point_widths"]]  # type: ignore[misc]
        self.pre_norm = nn.BatchNorm1d(8, eps=1e-3)
        layers: list[nn.Module] = [mlp(a, b) for a, b in pairwise(widths[:4])]
        self.ffe_layers = nn.ModuleList([*layers, nn.Linear(widths[3], widths[4])])
        self.compression_layers = nn.Sequential(nn.Linear(widths[4], 3), nn.ReLU())


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv(3, 4), nn.Hardswish(), *conv(4, 8), nn.Hardswish(), *conv(8, 8), nn.Hardswish())
        self.point_stem = mlp(16, 8)
        self.fusion_stem = nn.Sequential(*conv(16, 8), nn.Hardswish())
        self.layer1 = nn.Sequential(Block(8, 8, 1))
        self.layer2 = nn.Sequential(Block(8, 8, 2), Block(8, 8, 1))
        self.point_fusion_layers = nn.ModuleList(mlp(16, 8) for _ in range(2))
        self.pixel_fusion_layers = nn.ModuleList(nn.Sequential(*conv(16, 8), nn.Hardswish()) for _ in range(2))
        self.attention_layers = nn.ModuleList(
            nn.Sequential(*conv(8, 8), nn.Hardswish(), *conv(8, 8), nn.Sigmoid()) for _ in range(2)
        )
        self.fuse_layer1, self.fuse_layer2 = ConvModule(24, 10), ConvModule(10, 8)
        self.point_fuse_layer1, self.point_fuse_layer2 = mlp(24, 10), mlp(10, 8)


class Head(nn.Module):
    def __init__(self, seg: nn.Module) -> None:
        super().__init__()
        self.conv_seg = seg


class Published(nn.Module):
    """One scan (N, 5) -> logits (N, CLASSES + 1) and those of the auxiliary heads."""

    def __init__(self) -> None:
        super().__init__()
        self.voxel_encoder, self.backbone = Encoder(), Backbone()
        self.decode_head = Head(nn.Linear(4, CLASSES + 1))
        self.decode_head.mlps = nn.ModuleList([mlp(8, 8), mlp(8, 8), mlp(8, 6), mlp(6, 4)])
        self.auxiliary_head = nn.ModuleList(Head(nn.Conv2d(8, CLASSES + 1, 1)) for _ in range(2))

    def forward(self, points: Tensor) -> tuple[Tensor, list[Tensor]]:
        rows, columns = zip(*(pixel_of(point.tolist()) for point in points[:, :3]), strict=True)

        def largest(values: Tensor, stride: int) -> Tensor:
            image = torch.zeros(1, values.shape[1], -(-HEIGHT // stride), -(-WIDTH // stride))
            for v in range(image.shape[2]):
                for u in range(image.shape[3]):
                    own = [i for i in range(len(points)) if rows[i] // stride == v and columns[i] // stride == u]
                    if own:
                        image[0, :, v, u] = values[own].max(dim=0).values
            return image

        def at_points(image: Tensor, stride: int) -> Tensor:
            return torch.stack([image[0, :, v // stride, u // stride] for v, u in zip(rows, columns, strict=True)])

        offsets = torch.stack(
            [
                points[i, :3]
                - points[[j for j in range(len(points)) if (rows[j], columns[j]) == (rows[i], columns[i])], :3].mean(0)
                for i in range(len(points))
            ]
        )
        encoder, net = self.voxel_encoder, self.backbone
        x, kept = encoder.pre_norm(torch.cat([points, offsets], dim=1)), []
        for layer in encoder.ffe_layers:
            x = layer(x)
            kept.append(x)
        image = largest(x, 1)
        filled = largest(torch.ones(len(points), 1), 1)
        small = encoder.compression_layers(image[0].permute(1, 2, 0)).permute(2, 0, 1)[None] * filled
        image = net.stem(small)
        x = net.point_stem(torch.cat([at_points(image, 1), x], dim=1))
        image = net.fusion_stem(torch.cat([largest(x, 1), image], dim=1))
        images, all_points = [image], [x]
        for number, (layer, stride) in enumerate(((net.layer1, 1), (net.layer2, 2))):
            image = layer(image)
            x = net.point_fusion_layers[number](torch.cat([at_points(image, stride), x], dim=1))
            fused = net.pixel_fusion_layers[number](torch.cat([largest(x, stride), image], dim=1))
            image = fused * net.attention_layers[number](fused) + image
            images.append(image)
            all_points.append(x)
        images = [F.interpolate(i, (HEIGHT, WIDTH), mode="bilinear", align_corners=True) for i in images]
        images[0] = net.fuse_layer2(net.fuse_layer1(torch.cat(images, dim=1)))
        x = net.point_fuse_layer2(net.point_fuse_layer1(torch.cat(all_points, dim=1)))
        y = self.decode_head.mlps[0](at_points(images[0], 1)) + x
        for layer, skip in zip(self.decode_head.mlps[1:], (kept[2], kept[1], kept[0]), strict=True):
            y = layer(y) + skip
        heads = [head.conv_seg(images[i]) for head, i in zip(self.auxiliary_head, (0, 2), strict=True)]
        return self.decode_head.conv_seg(y), heads


def pixel_of(point: list[float]) -> tuple[int, int]:
    x, y, z = point
    yaw, pitch = -math.atan2(y, x), math.asin(z / math.sqrt(x * x + y * y + z * z))
    up, down = math.radians(3), math.radians(25)
    u = math.floor(0.5 * (yaw / math.pi + 1) * WIDTH)
    v = math.floor((1 - (pitch + down) / (up + down)) * HEIGHT)
    return min(max(v, 0), HEIGHT - 1), min(max(u, 0), WIDTH - 1)


@pytest.fixture(scope="module")
def published() -> Published:
    torch.manual_seed(0)
    return settled(Published())  # type: ignore[return-value]


@pytest.fixture
def tiny(published: Published, tmp_path: Path) -> FRNet:
    path = f"{tmp_path}/published.pth"
    torch.save({"state_dict": published.state_dict(), "meta": {"epoch": 3}}, path)
    model = FRNet(5, CLASSES, **TINY)  # type: ignore[arg-type]
    load_published(model, path, "frnet")
    return model.eval()


def test_the_published_weights_give_the_published_logits(published: Published, tiny: FRNet) -> None:
    features, coords = cloud(150, 1)
    with torch.no_grad():
        logits, heads = published(features[0])
        outputs = tiny.training_outputs(features, coords)
    assert torch.allclose(outputs.logits[0], logits[:, :CLASSES], atol=1e-5)
    for image, head in zip(outputs.images, heads, strict=True):
        assert torch.allclose(image.logits, head[:, :CLASSES], atol=1e-5)


def test_it_has_the_published_number_of_parameters() -> None:
    assert round(sum(p.numel() for p in FRNet(5, 20).parameters()) / 1e6, 2) == 10.03  # 10.02 without auxiliary heads
    assert round(sum(p.numel() for p in FRNet(5, 20, auxiliary=()).parameters()) / 1e6, 2) == 10.02


# ---- published files -----------------------------------------------------------------------------------------------


def test_weights_of_another_size_are_refused_with_the_differences(published: Published, tmp_path: Path) -> None:
    path = f"{tmp_path}/published.pth"
    torch.save(published.state_dict(), path)
    model = FRNet(4, CLASSES, **TINY)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        CheckpointError,
        match=r"encoder\.norm\.weight has shape \(8,\) instead of \(7,\); .*encoder\.layers\.0\.0\.weight",
    ):
        load_published(model, path, "frnet")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Trap:
    """Unpickling it in the usual way writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_of_a_file_are_left_out_and_not_executed(published: Published, tmp_path: Path, zipped: bool) -> None:
    content = {
        "state_dict": published.state_dict(),
        "meta": {"hook": Trap(str(tmp_path / "ran")), "numbers": np.ones(3)},
    }
    torch.save(content, tmp_path / "objects.pth", _use_new_zipfile_serialization=zipped)
    model = FRNet(5, CLASSES, **TINY)  # type: ignore[arg-type]
    load_published(model, tmp_path / "objects.pth", "frnet")
    assert torch.equal(model.encoder.last.weight, published.voxel_encoder.ffe_layers[3].weight)
    assert not (tmp_path / "ran").exists()


def test_a_state_dict_of_objects_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": Trap(str(tmp_path / "ran"))}}, tmp_path / "objects.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        load_published(FRNet(5, CLASSES, **TINY), tmp_path / "objects.pth", "frnet")  # type: ignore[arg-type]
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_is_refused(published: Published, tmp_path: Path) -> None:
    torch.save(published.state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    for name, said in (("cut.pth", "cannot be read"), ("none.pth", "no such file")):
        with pytest.raises(CheckpointError, match=said):
            load_published(FRNet(5, CLASSES, **TINY), tmp_path / name, "frnet")  # type: ignore[arg-type]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="those of a WaffleIron, and the model is a FRNet: format"):
        load_published(FRNet(5, CLASSES, **TINY), tmp_path / "any.pth", "waffleiron")  # type: ignore[arg-type]


def test_the_formats_are_those_that_train_takes() -> None:
    assert tuple(FORMATS) == settings.FORMATS


# ---- projection ----------------------------------------------------------------------------------------------------


def test_points_fall_into_the_pixels_of_the_formula() -> None:
    _, coords = cloud(3000, 2)
    rows, columns = RangeImage(HEIGHT, WIDTH).rows_and_columns(coords[0])
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [pixel_of(point) for point in coords[0].tolist()]


def test_beams_of_a_table_are_the_nearest_ones() -> None:
    beams = [15.0, 5.0, 2.0, 0.0, -1.0, -4.0, -20.0]
    elevations = np.random.default_rng(0).uniform(-30, 30, 500)
    coords = torch.tensor([[math.cos(math.radians(e)), 0.0, math.sin(math.radians(e))] for e in elevations]) * 20
    rows, _ = RangeImage(7, WIDTH, beams=beams).rows_and_columns(coords)
    assert rows.tolist() == [min(range(7), key=lambda i: abs(beams[i] - e)) for e in elevations.tolist()]


def test_the_origin_has_a_pixel() -> None:
    rows, columns = RangeImage(HEIGHT, WIDTH).rows_and_columns(torch.zeros(1, 3))
    assert 0 <= int(rows) < HEIGHT
    assert 0 <= int(columns) < WIDTH


def test_the_largest_in_a_pixel_has_the_gradient_of_scatter_reduce() -> None:
    _, coords = cloud(400, 3)
    pixels = Pixels(RangeImage(HEIGHT, WIDTH), coords[0], torch.zeros(400, dtype=torch.int64), 1)
    values = torch.randint(1, 5, (400, 3)).double().requires_grad_()  # with ties
    index = pixels.index()[:, None].expand(400, 3)
    expected = torch.zeros(HEIGHT * WIDTH, 3).double().scatter_reduce(0, index, values, "amax", include_self=False)
    weights = torch.rand(HEIGHT * WIDTH, 3).double()
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), values)
    largest = pixels.maximum(values).permute(0, 2, 3, 1).reshape(-1, 3)
    (gradient,) = torch.autograd.grad((largest * weights).sum(), values)
    assert torch.equal(largest, expected)
    assert torch.allclose(gradient, expected_gradient)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beams": [1.0, 2.0]}, "model.beams"),
        ({"field_of_view": (-25.0, 3.0)}, "model.field_of_view"),
        ({"width": 0}, "model.width"),
        ({"auxiliary": (5,)}, "model.auxiliary"),
        ({"strides": (1,)}, "model.strides"),
        ({"act": "swish"}, "model.act"),
        ({"fuse_kernel": 5}, "model.fuse_kernel"),
        ({"point_widths": (8,)}, "model.point_widths"),
    ],
)
def test_what_cannot_be_built_names_its_key(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        FRNet(5, CLASSES, **{**TINY, **changes})  # type: ignore[arg-type]


# ---- points and clouds ---------------------------------------------------------------------------------------------

VARIANTS = [{}, {"fusion": False, "fuse_kernel": 1, "act": "relu"}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuting_the_points_permutes_the_logits(variant: dict[str, object]) -> None:
    model = settled(FRNet(5, CLASSES, **{**TINY, **variant}))  # type: ignore[arg-type]
    features, coords = cloud(300, 4)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(features[:, order], coords[:, order]), model(features, coords)[:, order], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, object]) -> None:
    features, coords = cloud(90, 5, clouds=2)
    mask = torch.ones(2, 90, dtype=torch.bool)
    mask[0, 60:] = False
    results = []
    for padding in (0, 25):
        torch.manual_seed(0)
        model = FRNet(5, CLASSES, **{**TINY, **variant}).train()  # type: ignore[arg-type]
        padded = [F.pad(x, (0, 0, 0, padding), value=7.0) for x in (features, coords)]
        real = F.pad(mask, (0, padding))
        outputs = model.training_outputs(*padded, real)
        (outputs.logits[:, :90].square().sum() + sum(i.logits.square().mean() for i in outputs.images)).backward()
        assert not outputs.logits[~real].any()
        assert (outputs.images[0].pixel[~real] == -1).all()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((outputs.logits[:, :90], [*gradients, *model.buffers()]))
    (logits, others), (padded_logits, padded_others) = results
    assert torch.allclose(logits, padded_logits, atol=1e-5)
    assert len(others) > 40
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(others, padded_others, strict=True))


def test_a_batch_is_its_scans_one_by_one(tiny: FRNet) -> None:
    features, coords = cloud(120, 6, clouds=3)
    mask = torch.arange(120) < torch.tensor([[120], [40], [1]])
    with torch.no_grad():
        together = tiny(features, coords, mask)
        for row, real in enumerate(mask):
            alone = tiny(features[row : row + 1, real], coords[row : row + 1, real])
            assert torch.allclose(together[row, real], alone[0], atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("points", [1, 100, 130_000])
def test_clouds_of_any_size(points: int, training: bool, tiny: FRNet) -> None:
    features, coords = cloud(points, 7)
    with torch.no_grad():
        logits = tiny.train(training)(features, coords)
    assert logits.shape == (1, points, CLASSES)
    assert torch.isfinite(logits).all()


def test_points_of_one_pixel_may_differ(tiny: FRNet) -> None:
    coords = torch.tensor([[[10.0, 0.0, -1.0], [20.0, 0.0, -2.0]]])
    features = torch.cat([coords, torch.tensor([[[0.1], [0.9]]]), coords.norm(dim=2, keepdim=True)], dim=2)
    with torch.no_grad():
        near, far = tiny(features, coords)[0]
    assert not torch.allclose(near, far, atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_wanted_points_are_computed(variant: dict[str, object]) -> None:
    model = settled(FRNet(5, CLASSES, **{**TINY, **variant}))  # type: ignore[arg-type]
    features, coords = cloud(80, 8, clouds=2)
    mask = torch.arange(80) < torch.tensor([[80], [50]])
    wanted = mask & (torch.rand(2, 80, generator=torch.Generator().manual_seed(1)) < 0.3)
    with torch.no_grad():
        logits = model.training_outputs(features, coords, mask, None, wanted).logits
        everything = model(features, coords, mask)
    assert torch.allclose(logits[wanted], everything[wanted], atol=1e-5)
    assert not logits[~wanted].any()


def test_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    small = {**TINY, "channels": 4, "point_widths": (3, 4), "fused_widths": (4, 4), "height": 4, "width": 4}
    model = settled(FRNet(5, CLASSES, **small)).double()  # type: ignore[arg-type]
    features, coords = cloud(12, 9)
    assert torch.autograd.gradcheck(
        lambda x: model(x, coords.double()), features.double().requires_grad_(), eps=1e-7, atol=1e-4
    )


def test_it_is_described_and_built_again(tiny: FRNet) -> None:
    again = rebuild_model(describe_model(tiny))
    again.load_state_dict(tiny.state_dict())
    features, coords = cloud(50, 10)
    with torch.no_grad():
        assert torch.equal(again.eval()(features, coords), tiny(features, coords))


def test_it_predicts_in_bfloat16_where_asked(tiny: FRNet, monkeypatch: pytest.MonkeyPatch) -> None:
    features, coords = cloud(2000, 11)
    with torch.no_grad():
        exact = tiny(features, coords)
        tiny.predict_in = "bfloat16"
        rounded = tiny(features, coords)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert float((rounded.argmax(dim=2) == exact.argmax(dim=2)).float().mean()) > 0.95


@pytest.mark.parametrize(("channels", "native", "rounded"), [(8, True, False), (64, True, True), (64, False, False)])
def test_bfloat16_is_for_wide_networks_on_processors_that_have_it(
    channels: int, native: bool, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "has_native_bfloat16", lambda: native)
    model = settled(FRNet(5, CLASSES, **{**TINY, "channels": channels}))  # type: ignore[arg-type]
    features, coords = cloud(200, 12)
    with torch.no_grad():
        logits = model(features, coords)
        model.predict_in = "float32"
        assert torch.equal(logits, model(features, coords)) is not rounded
