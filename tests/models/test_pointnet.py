"""PointNetSeg against an independent plain implementation of the paper, written here with Conv1d and concatenation."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.models import MODELS, PointNetSeg, describe_model, rebuild_model

CLASSES, FEATURES = 7, 5


class Reference(nn.Module):
    """PointNet segmentation as the paper draws it (Qi et al., CVPR 2017, figure 2), channels first: (B, C, N)."""

    def __init__(self) -> None:
        super().__init__()
        self.t_net_3 = ReferenceTNet(FEATURES, 3)
        self.t_net_64 = ReferenceTNet(64, 64)
        self.conv_1, self.norm_1 = nn.Conv1d(FEATURES, 64, 1), nn.BatchNorm1d(64)
        self.conv_2, self.norm_2 = nn.Conv1d(64, 64, 1), nn.BatchNorm1d(64)
        self.conv_3, self.norm_3 = nn.Conv1d(64, 64, 1), nn.BatchNorm1d(64)
        self.conv_4, self.norm_4 = nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128)
        self.conv_5, self.norm_5 = nn.Conv1d(128, 1024, 1), nn.BatchNorm1d(1024)
        self.conv_6, self.norm_6 = nn.Conv1d(1088, 512, 1), nn.BatchNorm1d(512)
        self.conv_7, self.norm_7 = nn.Conv1d(512, 256, 1), nn.BatchNorm1d(256)
        self.conv_8, self.norm_8 = nn.Conv1d(256, 128, 1), nn.BatchNorm1d(128)
        self.conv_9 = nn.Conv1d(128, CLASSES, 1)

    def forward(self, features_BNF: Tensor) -> Tensor:
        x = features_BNF.transpose(1, 2)
        turned = torch.einsum("bcn,bcd->bdn", x[:, :3], self.t_net_3(x))
        x = torch.cat([turned, x[:, 3:]], dim=1)
        x = F.relu(self.norm_1(self.conv_1(x)))
        x = F.relu(self.norm_2(self.conv_2(x)))
        local = torch.einsum("bcn,bcd->bdn", x, self.t_net_64(x))
        x = F.relu(self.norm_3(self.conv_3(local)))
        x = F.relu(self.norm_4(self.conv_4(x)))
        x = F.relu(self.norm_5(self.conv_5(x)))
        pooled = F.max_pool1d(x, x.shape[2]).expand(-1, -1, x.shape[2])
        x = torch.cat([local, pooled], dim=1)  # 1088 channels
        x = F.relu(self.norm_6(self.conv_6(x)))
        x = F.relu(self.norm_7(self.conv_7(x)))
        x = F.relu(self.norm_8(self.conv_8(x)))
        logits: Tensor = self.conv_9(x)
        return logits.transpose(1, 2)


class ReferenceTNet(nn.Module):
    """The mini-network of section 4.2: MLP 64-128-1024, max, 512-256, and the matrix as an offset from the identity."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.conv_1, self.norm_1 = nn.Conv1d(channels, 64, 1), nn.BatchNorm1d(64)
        self.conv_2, self.norm_2 = nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128)
        self.conv_3, self.norm_3 = nn.Conv1d(128, 1024, 1), nn.BatchNorm1d(1024)
        self.linear_4, self.norm_4 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.linear_5, self.norm_5 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.linear_6 = nn.Linear(256, size * size)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm_1(self.conv_1(x)))
        x = F.relu(self.norm_2(self.conv_2(x)))
        x = F.relu(self.norm_3(self.conv_3(x)))
        x = torch.amax(x, dim=2)
        x = F.relu(self.norm_4(self.linear_4(x)))
        x = F.relu(self.norm_5(self.linear_5(x)))
        offset: Tensor = self.linear_6(x)
        return offset.view(-1, self.size, self.size) + torch.eye(self.size, dtype=x.dtype)


def t_net_layers(name: str, reference: str) -> dict[str, str]:
    places = {"point_mlp.0": "conv_1", "point_mlp.1": "norm_1", "point_mlp.3": "conv_2", "point_mlp.4": "norm_2"}
    places |= {"point_mlp.6": "conv_3", "point_mlp.7": "norm_3", "cloud_mlp.0": "linear_4", "cloud_mlp.1": "norm_4"}
    places |= {"cloud_mlp.3": "linear_5", "cloud_mlp.4": "norm_5", "matrix": "linear_6"}
    return {f"{name}.{ours}": f"{reference}.{theirs}" for ours, theirs in places.items()}


LAYERS = {
    "local_mlp.0": "conv_1", "local_mlp.1": "norm_1", "local_mlp.3": "conv_2", "local_mlp.4": "norm_2",
    "global_mlp.0": "conv_3", "global_mlp.1": "norm_3", "global_mlp.3": "conv_4", "global_mlp.4": "norm_4",
    "global_mlp.6": "conv_5", "global_mlp.7": "norm_5", "head_first": "conv_6", "head_norm": "norm_6",
    "head_mlp.0": "conv_7", "head_mlp.1": "norm_7", "head_mlp.3": "conv_8", "head_mlp.4": "norm_8",
    "classifier": "conv_9",
    **t_net_layers("input_transform", "t_net_3"),
    **t_net_layers("feature_transform", "t_net_64"),
}  # fmt: skip


def copy_weights(model: PointNetSeg, reference: Reference) -> None:
    theirs = reference.state_dict()
    for name, value in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        target = f"{LAYERS[layer]}.{kind}"
        if LAYERS[layer].endswith("linear_6") and kind == "bias":
            value = value - torch.eye(int(len(value) ** 0.5), dtype=value.dtype).flatten()
        theirs[target] = value.clone().view(theirs[target].shape)
    reference.load_state_dict(theirs)


def random_model(seed: int = 0, **options: Any) -> PointNetSeg:
    """float64, with T-Nets and BatchNorm layers that are no identity any more."""
    torch.manual_seed(seed)
    model = PointNetSeg(FEATURES, CLASSES, **options).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("matrix.weight"):
                parameter.normal_(std=0.02)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
                module.running_mean.normal_(std=0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return model


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(3, 40, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def pair() -> tuple[PointNetSeg, Reference]:
    model, reference = random_model(), Reference().double()
    copy_weights(model, reference)
    return model, reference


def close(one: Tensor | None, other: Tensor | None) -> bool:
    assert one is not None
    assert other is not None
    return torch.allclose(one, other.view(one.shape), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_paper(pair: tuple[PointNetSeg, Reference], features: Tensor, training: bool) -> None:
    model, reference = (network.train(training) for network in pair)
    assert close(model(features), reference(features))


@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_the_paper(
    pair: tuple[PointNetSeg, Reference], features: Tensor, training: bool
) -> None:
    for network in pair:
        network.train(training)(features).square().sum().backward()
    theirs = dict(pair[1].named_parameters())
    for name, parameter in pair[0].named_parameters():
        layer, _, kind = name.rpartition(".")
        expected = theirs[f"{LAYERS[layer]}.{kind}"].grad
        assert expected is not None
        scale = max(1.0, float(expected.abs().max()))
        assert close(parameter.grad / scale, expected / scale), name


def test_running_statistics_are_those_of_the_paper(pair: tuple[PointNetSeg, Reference], features: Tensor) -> None:
    for network in pair:
        network.train()(features)
    theirs = pair[1].state_dict()
    for name, value in pair[0].state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind.startswith("running"):
            assert close(value, theirs[f"{LAYERS[layer]}.{kind}"]), name


def padded(features: Tensor) -> tuple[Tensor, Tensor]:
    """The same clouds, their points scattered among padding that is far from any point."""
    batch = torch.full((len(features), 65, FEATURES), 1e6, dtype=features.dtype)
    mask = torch.zeros(len(features), 65, dtype=torch.bool)
    for row, cloud in enumerate(features):
        places = torch.randperm(65, generator=torch.Generator().manual_seed(row))[: len(cloud)].sort().values
        batch[row, places], mask[row, places] = cloud, True
    return batch, mask


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_logit(features: Tensor, training: bool) -> None:
    model = random_model().train(training)
    batch, mask = padded(features)
    assert close(copy.deepcopy(model)(features).flatten(0, 1), model(batch, mask=mask)[mask])


def test_padded_points_get_logits_0(features: Tensor) -> None:
    batch, mask = padded(features)
    assert not random_model().eval()(batch, mask=mask)[~mask].any()


def test_padding_changes_no_gradient(features: Tensor) -> None:
    plain = random_model().train()
    other = copy.deepcopy(plain)
    batch, mask = padded(features)
    plain(features).square().mean().backward()
    other(batch, mask=mask)[mask].square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert close(a.grad, b.grad), name


def test_padding_changes_no_running_statistic(features: Tensor) -> None:
    plain = random_model().train()
    other = copy.deepcopy(plain)
    batch, mask = padded(features)
    plain(features)
    other(batch, mask=mask)
    for (name, a), b in zip(plain.named_buffers(), other.buffers(), strict=True):
        assert close(a.double(), b.double()), name


def test_padding_changes_no_penalty(features: Tensor) -> None:
    model = random_model().eval()
    batch, mask = padded(features)
    assert close(model.logits_and_penalty(features)[1], model.logits_and_penalty(batch, mask=mask)[1])


def test_cloud_without_a_point_spoils_nothing(features: Tensor) -> None:
    model = random_model().eval()
    batch, mask = padded(features)
    mask[1] = False
    logits = model(batch, mask=mask)
    assert bool(torch.isfinite(logits).all())
    assert close(model(features)[2], logits[2][mask[2]])


def test_permuted_points_get_permuted_logits(features: Tensor) -> None:
    model = random_model().eval()
    order = torch.randperm(features.shape[1], generator=torch.Generator().manual_seed(2))
    assert close(model(features)[:, order], model(features[:, order]))


def test_clouds_do_not_see_each_other_in_eval_mode(features: Tensor) -> None:
    model = random_model().eval()
    assert close(model(features)[1:2], model(features[1:2]))


def test_single_cloud_trains(features: Tensor) -> None:
    model = random_model().train()
    model(features[:1]).square().mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_single_cloud_leaves_the_cloud_statistics_of_the_t_nets(features: Tensor) -> None:
    model = random_model().train()
    before = {name: value.clone() for name, value in model.named_buffers() if ".cloud_mlp." in name}
    model(features[:1])
    after = dict(model.named_buffers())
    assert len(before) == 12
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_single_cloud_informs_the_point_statistics(features: Tensor) -> None:
    model = random_model().train()
    before = model.get_buffer("local_mlp.1.running_mean").clone()
    model(features[:1])
    assert not torch.equal(before, model.get_buffer("local_mlp.1.running_mean"))


def test_penalty_is_the_distance_from_orthogonal(features: Tensor) -> None:
    model = random_model().eval()
    matrices: list[Tensor] = []
    assert model.feature_transform is not None
    model.feature_transform.register_forward_hook(lambda _, __, output: matrices.append(output))
    penalty = model.logits_and_penalty(features)[1]
    expected = [np.linalg.norm(np.eye(64) - a @ a.T, "fro") ** 2 for a in matrices[0].detach().numpy()]
    assert float(penalty.detach()) == pytest.approx(np.mean(expected), rel=1e-12)


def test_t_nets_begin_as_the_identity(features: Tensor) -> None:
    torch.manual_seed(0)
    model = PointNetSeg(FEATURES, CLASSES).double().eval()
    matrices: list[Tensor] = []
    for t_net in (model.input_transform, model.feature_transform):
        assert t_net is not None
        t_net.register_forward_hook(lambda _, __, output: matrices.append(output))
    model(features)
    assert all(torch.equal(matrix, torch.eye(matrix.shape[1]).double().expand_as(matrix)) for matrix in matrices)


def test_model_without_t_nets_has_none_of_their_weights(features: Tensor) -> None:
    model = random_model(input_transform=False, feature_transform=False)
    assert not any("transform" in name for name in model.state_dict())
    assert float(model.logits_and_penalty(features)[1]) == 0.0


@pytest.mark.parametrize("options", [{"input_transform": False}, {"feature_transform": False}])
def test_one_t_net_can_be_left_out(features: Tensor, options: dict[str, Any]) -> None:
    assert random_model(**options)(features).shape == (3, 40, CLASSES)


def test_widths_are_the_users() -> None:
    model = PointNetSeg(4, 3, local_widths=[6], global_widths=[7, 9], head_widths=[5], feature_transform=False)
    widths = {name: tuple(value.shape) for name, value in model.state_dict().items() if name.endswith(".weight")}
    assert widths["head_first.weight"] == (5, 6 + 9)
    assert widths["classifier.weight"] == (3, 5)
    assert model(torch.rand(2, 11, 4)).shape == (2, 11, 3)


def test_dropout_acts_in_training_only(features: Tensor) -> None:
    model = random_model(dropout=0.5).eval()
    assert torch.equal(model(features), model(features))
    assert model.train().dropout.training


def test_coordinates_are_not_used(features: Tensor) -> None:
    model = random_model().eval()
    assert torch.equal(model(features), model(features, torch.randn(3, 40, 3)))


def test_state_dict_names_are_plain() -> None:
    assert {name.rpartition(".")[0] for name in PointNetSeg(4, 3).state_dict()} == set(LAYERS)


def test_input_t_net_needs_three_coordinates() -> None:
    with pytest.raises(ConfigError, match="input T-Net needs"):
        PointNetSeg(2, 3)


def test_description_builds_an_equal_architecture() -> None:
    model = random_model(local_widths=(16, 8), feature_transform=False, dropout=0.3)
    other = rebuild_model(describe_model(model)).double()
    other.load_state_dict(model.state_dict())
    assert describe_model(other) == describe_model(model)


def test_unknown_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no model 'os\.system'.*PointNetSeg"):
        rebuild_model({"name": "os.system"})


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(CheckpointError, match="colour"):
        rebuild_model({"name": "PointNetSeg", "colour": "red"})


def test_registered_names_are_class_names() -> None:
    assert all(name == model.__name__ for name, model in MODELS.items())
