"""SegmentationModule: the loss of a step however it is split, the schedule, the scores, and what a checkpoint keeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.batches import Batch, Cloud
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import check_same_model
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.models import PointNetSeg, SegmentationModel

FEATURES = FeatureSpec(use=("x", "y"), offset={"x": 0, "y": 0}, scale={"x": 1, "y": 1})


class Linear(SegmentationModel):
    """One layer: no statistics, so that a cloud's gradient does not depend on the others. Its penalty is a mean."""

    def __init__(self, in_features: int = 2, num_classes: int = 3) -> None:
        super().__init__()
        self.in_features, self.num_classes = in_features, num_classes
        self.hyperparameters = {"in_features": in_features, "num_classes": num_classes}
        self.layer = nn.Linear(in_features, num_classes)

    def logits_and_penalty(
        self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        logits_BNK = self.layer(features)
        return logits_BNK, logits_BNK[:, 0].square().sum(dim=1).mean()


def module_of(small_map: LabelMap, **settings: Any) -> SegmentationModule:
    torch.manual_seed(0)
    return SegmentationModule(Linear(), small_map, FEATURES, **settings).double()


def batch_of(clouds: int, seed: int = 0) -> Batch:
    """Clouds of unequal size, padded; a third of the points is ignored."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(clouds, 30, 2, generator=generator, dtype=torch.float64)
    sizes = torch.randint(5, 31, (clouds, 1), generator=generator)
    mask = torch.arange(30) < sizes
    labels = torch.randint(0, 4, (clouds, 30), generator=generator)
    labels[torch.rand(clouds, 30, generator=generator) < 0.2] = 0
    return Batch(features, torch.zeros(clouds, 30, 3), labels.masked_fill(~mask, 0), mask)


def gradient(module: SegmentationModule, batch: Batch) -> Tensor:
    module.zero_grad()
    module.backward_parts(batch)
    return torch.cat([p.grad.flatten() for p in module.model.parameters() if p.grad is not None])


LOSSES: list[dict[str, Any]] = [
    {"penalty": 0.0},
    {"penalty": 0.0, "class_weights": [0.2, 3.0, 1.0]},
    {"penalty": 0.0, "label_smoothing": 0.2, "class_weights": [0.2, 3.0, 1.0]},
    {"penalty": 0.0, "lovasz": 1.0},
    {"penalty": 0.7},
    {"penalty": 0.7, "lovasz": 0.5, "class_weights": [0.2, 3.0, 1.0], "label_smoothing": 0.1},
]


@pytest.mark.parametrize("settings", LOSSES)
@pytest.mark.parametrize("clouds", [5, 8, 3])
def test_gradient_does_not_depend_on_accumulation(small_map: LabelMap, clouds: int, settings: dict[str, Any]) -> None:
    batch = batch_of(clouds)
    whole = gradient(module_of(small_map, **settings), batch)
    parts = gradient(module_of(small_map, accumulate=4, **settings), batch)
    assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", LOSSES)
def test_loss_does_not_depend_on_accumulation(small_map: LabelMap, settings: dict[str, Any]) -> None:
    batch = batch_of(7)
    whole = module_of(small_map, **settings).backward_parts(batch)
    parts = module_of(small_map, accumulate=4, **settings).backward_parts(batch)
    assert torch.allclose(whole, parts, rtol=1e-6, atol=1e-7)  # terms are added up in float32, for the log


def test_accumulation_needs_no_mask(small_map: LabelMap) -> None:
    batch = batch_of(5)._replace(mask=None)
    whole, parts = (gradient(module_of(small_map, accumulate=a), batch) for a in (1, 4))
    assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-14)


def test_gradient_is_that_of_torchs_weighted_mean(small_map: LabelMap) -> None:
    weights = [0.2, 3.0, 1.0]
    module = module_of(small_map, class_weights=weights, label_smoothing=0.1, penalty=0.7, accumulate=3)
    batch = batch_of(6)
    ours = gradient(module, batch)
    module.zero_grad()
    logits, penalty = module.model.logits_and_penalty(batch.features)
    targets, kept = batch.labels.flatten() - 1, batch.labels.flatten() > 0
    given = torch.tensor(weights).double()
    loss = F.cross_entropy(logits.flatten(0, 1)[kept], targets[kept], given, label_smoothing=0.1)
    (loss + 0.7 * penalty).backward()
    expected = torch.cat([p.grad.flatten() for p in module.model.parameters() if p.grad is not None])
    assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-8)


def test_batch_without_a_label_has_no_gradient(small_map: LabelMap) -> None:
    batch = batch_of(3)
    batch = batch._replace(labels=torch.zeros_like(batch.labels))
    assert float(gradient(module_of(small_map, penalty=0.0, lovasz=1.0), batch).abs().max()) == 0.0


# ---- the schedule ------------------------------------------------------------------------------------------------


def learning_rates(module: SegmentationModule, steps: int) -> list[float]:
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_learning_rate_warms_up_linearly(small_map: LabelMap) -> None:
    module = module_of(small_map, lr=0.5, warmup_steps=4, total_steps=20)
    assert learning_rates(module, 5) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_learning_rate_follows_a_cosine(small_map: LabelMap) -> None:
    module = module_of(small_map, lr=2.0, warmup_steps=0, total_steps=8, final_lr_ratio=0.1)
    expected = [0.2 + 1.8 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    assert learning_rates(module, 9) == pytest.approx(expected)


def test_learning_rate_stays_at_its_end(small_map: LabelMap) -> None:
    module = module_of(small_map, lr=2.0, warmup_steps=0, total_steps=8, final_lr_ratio=0.1)
    assert learning_rates(module, 12)[8:] == pytest.approx([0.2] * 4)


def test_weight_decay_is_on_matrices_only(small_map: LabelMap) -> None:
    module = module_of(small_map, weight_decay=0.3, total_steps=8)
    optimizer = module.make_optimizer()
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in module.model.named_parameters()} == {
        "layer.weight": 0.3,
        "layer.bias": 0.0,
    }


# ---- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"lr": 0.0}, r"optimizer\.lr"),
        ({"lr": float("nan")}, r"optimizer\.lr"),
        ({"label_smoothing": 1.0}, r"loss\.cross_entropy\.label_smoothing"),
        ({"accumulate": 0}, "accumulate"),
        ({"class_weights": [1.0, 2.0]}, "class_weights"),
        ({"points_per_pass": 0}, r"inference\.points_per_pass"),
        ({"votes": 0}, r"inference\.votes"),
    ],
)
def test_bad_setting_names_its_key(small_map: LabelMap, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        module_of(small_map, **settings)


def test_model_of_other_classes_is_refused(small_map: LabelMap) -> None:
    with pytest.raises(ConfigError, match="the model has 5 classes and label map 'small' 3"):
        SegmentationModule(Linear(2, 5), small_map, FEATURES)


def test_model_of_other_features_is_refused(small_map: LabelMap) -> None:
    with pytest.raises(ConfigError, match="the model takes 4 features and there are 2"):
        SegmentationModule(Linear(4, 3), small_map, FEATURES)


# ---- with a real Trainer -------------------------------------------------------------------------------------------


def trainer_of(**settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet, **settings)


def scan_of(classes: list[int], labels: list[int], index: int) -> Cloud:
    """Points for which `sign_model` predicts these classes."""
    x = torch.tensor([{1: -5.0, 2: 0.0, 3: 5.0}[k] for k in classes])
    return Cloud(torch.stack([x, x * 0, x * 0, x * 0], dim=1), torch.tensor(labels), index)


def sign_model() -> Linear:
    """Class 1 for x = -5, class 2 for x = 0, class 3 for x = 5."""
    model = Linear()
    with torch.no_grad():
        model.layer.weight.copy_(torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
        model.layer.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    return model


SCANS = [
    scan_of([1, 1, 2, 3, 3], [1, 2, 2, 0, 3], 0),
    scan_of([1, 2, 2], [1, 1, 2], 1),
]
# point by point, without the ignored one: (truth, prediction) 11 21 22 33 | 11 12 22
# class 1: TP 2, FP 1, FN 1; class 2: TP 2, FP 1, FN 1; class 3: TP 1
EXPECTED = {"miou": (0.5 + 0.5 + 1.0) / 3, "accuracy": 5 / 7, "iou/car": 0.5, "iou/road": 0.5, "iou/building": 1.0}


@pytest.mark.parametrize("name", EXPECTED)
def test_validation_scores_are_those_computed_by_hand(small_map: LabelMap, name: str) -> None:
    module = SegmentationModule(sign_model(), small_map, FEATURES)
    trainer = trainer_of()
    trainer.validate(module, DataLoader(SCANS, batch_size=None), verbose=False)  # type: ignore[arg-type]
    assert float(trainer.callback_metrics[f"val/{name}"]) == pytest.approx(EXPECTED[name])


def test_second_validation_starts_anew(small_map: LabelMap) -> None:
    module = SegmentationModule(sign_model(), small_map, FEATURES)
    for _ in range(2):
        trainer_of().validate(module, DataLoader(SCANS, batch_size=None), verbose=False)  # type: ignore[arg-type]
    assert module.scores is not None
    assert module.scores.points == 7


def test_test_scores_are_named_so(small_map: LabelMap) -> None:
    module, trainer = SegmentationModule(sign_model(), small_map, FEATURES), trainer_of()
    trainer.test(module, DataLoader(SCANS, batch_size=None), verbose=False)  # type: ignore[arg-type]
    assert float(trainer.callback_metrics["test/miou"]) == pytest.approx(EXPECTED["miou"])


class Batches(pl.LightningDataModule):
    """The same batch some times."""

    def train_dataloader(self) -> DataLoader[Any]:
        batch = batch_of(4)
        return DataLoader([batch._replace(features=batch.features.float())] * 6, batch_size=None)  # type: ignore[arg-type]


def small_pointnet(classes: int = 3) -> PointNetSeg:
    widths: dict[str, Any] = {"local_widths": (4,), "global_widths": (4,), "head_widths": (4,)}
    return PointNetSeg(2, classes, input_transform=False, feature_transform=False, **widths)


@pytest.fixture(scope="module")
def fitted(
    small_map: LabelMap, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SegmentationModule, Path, pl.Trainer]:
    torch.manual_seed(0)
    module = SegmentationModule(small_pointnet(), small_map, FEATURES, lr=0.01, warmup_steps=1, points_per_pass=9)
    trainer, path = trainer_of(max_epochs=3), tmp_path_factory.mktemp("fitted") / "last.ckpt"
    trainer.fit(module, Batches())
    trainer.save_checkpoint(path)
    return module, path, trainer


def test_training_lowers_the_loss(fitted: tuple[SegmentationModule, Path, pl.Trainer], small_map: LabelMap) -> None:
    torch.manual_seed(0)
    fresh = SegmentationModule(small_pointnet(), small_map, FEATURES)
    batch = batch_of(4)
    batch = batch._replace(features=batch.features.float())
    trained = SegmentationModule.from_checkpoint(str(fitted[1]))
    losses = [float(module.train().backward_parts(batch)[0]) for module in (fresh, trained)]
    assert losses[1] < losses[0]


def test_one_batch_is_one_step(fitted: tuple[SegmentationModule, Path, pl.Trainer]) -> None:
    assert fitted[2].global_step == 18


def test_fine_tuning_starts_with_the_checkpoints_weights(fitted: tuple[SegmentationModule, Path, pl.Trainer]) -> None:
    module = SegmentationModule.from_checkpoint(str(fitted[1]), lr=0.5)
    rates = {group["lr"] for group in module.make_optimizer().param_groups}
    saved = torch.load(fitted[1], weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in module.model.state_dict().items())
    assert (rates, module.model.training, module.label_map.name) == ({0.5}, True, "small")


def test_checkpoint_keeps_how_to_infer(fitted: tuple[SegmentationModule, Path, pl.Trainer]) -> None:
    content = torch.load(fitted[1], weights_only=True)
    assert content["pointseg"]["inference"]["points_per_pass"] == 9


# ---- refusing another model's checkpoint ---------------------------------------------------------------------------


@pytest.fixture
def description(small_map: LabelMap) -> dict[str, Any]:
    return SegmentationModule(small_pointnet(), small_map, FEATURES).trained().describe()


def test_same_model_is_accepted(description: dict[str, Any]) -> None:
    check_same_model(description, description)


def test_other_architecture_is_named(description: dict[str, Any]) -> None:
    other = {**description, "architecture": {**description["architecture"], "dropout": 0.5}}
    with pytest.raises(CheckpointError, match=r"another architecture \(dropout: 0\.5 in it, 0\.0 here\)"):
        check_same_model(other, description)


def test_other_features_are_named(description: dict[str, Any]) -> None:
    other = {**description, "features": {**description["features"], "ground_cell": 3.0}}
    with pytest.raises(CheckpointError, match=r"another features \(ground_cell: 3\.0 in it, 1\.0 here\)"):
        check_same_model(other, description)


def test_other_classes_are_named(description: dict[str, Any]) -> None:
    classes = description["label_map"]["classes"]
    other = {**description, "label_map": {**description["label_map"], "classes": classes[::-1]}}
    with pytest.raises(CheckpointError, match="another label map"):
        check_same_model(other, description)


def test_other_colours_do_not_matter(description: dict[str, Any]) -> None:
    labels = {raw: [name, [1, 2, 3]] for raw, (name, _) in description["label_map"]["labels"].items()}
    check_same_model({**description, "label_map": {**description["label_map"], "labels": labels}}, description)


def test_foreign_checkpoint_is_refused(description: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="another architecture"):
        check_same_model(None, description)


def test_resuming_with_other_features_is_refused(
    fitted: tuple[SegmentationModule, Path, pl.Trainer], small_map: LabelMap
) -> None:
    features = FeatureSpec(use=("x", "z"))
    module = SegmentationModule(small_pointnet(), small_map, features)
    with pytest.raises(CheckpointError, match="another features"):
        trainer_of(max_epochs=4).fit(module, Batches(), ckpt_path=str(fitted[1]), weights_only=True)
