"""A loss or gradient that is not finite: its step is left out, and a training that stays so ends without a bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from verbs import SMALL_WORLD, run, succeed

from pointseg.core.errors import Diverged
from pointseg.data import SyntheticDataModule
from pointseg.data.features import FeatureSpec
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.models import PointNetSeg, SegmentationModel


class Sometimes(SegmentationModel):
    """A PointNet whose forward pass, or only whose gradient, is not finite in some steps."""

    def __init__(self, in_features: int, num_classes: int, bad: tuple[int, ...] = (), where: str = "logits") -> None:
        super().__init__()
        widths: dict[str, Any] = {"local_widths": (8,), "global_widths": (8,), "head_widths": (8,)}
        self.network = PointNetSeg(in_features, num_classes, dropout=0.0, implementation="plain", **widths)
        self.bad, self.where, self.step = bad, where, 0

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.step += 1
        now = self.training and self.step in self.bad
        if now and self.where == "features":  # BatchNorm sees it too
            features = features * float("nan")
        logits = self.network(features)
        if now and self.where == "logits":
            logits = logits * float("inf")
        if now and self.where == "gradient":
            logits.register_hook(lambda gradient: gradient * float("nan"))
        return logits


def fitted(bad: tuple[int, ...], where: str = "logits", epochs: int = 2) -> SegmentationModule:
    pl.seed_everything(0, verbose=False)
    features = FeatureSpec(use=("x", "y", "z"), knots=())
    data = SyntheticDataModule(
        scans={"train": 4, "val": 1}, beams=16, azimuth_steps=64, points=100, batch_size=2, features=features
    )
    model = Sometimes(len(features), data.label_map.num_classes, bad, where)
    module = SegmentationModule(model, data.label_map, features, warmup_steps=1)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, data)
    return module


def all_finite(module: torch.nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values())


@pytest.mark.parametrize("where", ["logits", "features", "gradient"])
def test_a_step_is_left_out_of_weights_and_statistics(where: str) -> None:
    module = fitted((2,), where)
    assert module.finite.left_out == 1
    assert module.finite.in_a_row == 0
    assert all_finite(module)
    assert module.trainer.global_step == module.model.step  # it counts: the schedule and resuming go by it


def test_weights_and_statistics_are_those_of_before() -> None:
    seen: list[dict[str, Tensor]] = []
    plain = SegmentationModule.training_step

    def recording(self: SegmentationModule, *given: Any) -> Any:
        result = plain(self, *given)
        seen.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", recording)
        fitted((3,), "features")
    before, after, later = seen[1:4]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(after[name], later[name]) for name in after)


def test_a_good_training_is_not_touched() -> None:
    assert fitted(()).finite.left_out == 0


def test_ten_in_a_row_end_the_training() -> None:
    with pytest.raises(Diverged, match=r"the last 10 steps.*epoch 5"):
        fitted(tuple(range(1, 100)), epochs=20)


def test_a_training_that_ends_so_has_no_result() -> None:
    with pytest.raises(Diverged, match="the last 2 steps"):
        fitted((3, 4))  # of four


def test_a_single_bad_step_at_the_end_keeps_the_training() -> None:
    module = fitted((4,))  # of four; it is left out, so the weights are those of the third
    assert module.finite.left_out == 1
    assert all_finite(module)


@pytest.mark.parametrize("rate", ["1e20", "1e30"])
def test_a_learning_rate_beyond_all_measure_leaves_no_bundle(rate: str, tmp_path: Path) -> None:
    words = [*SMALL_WORLD, "data.points=200", f"optimizer.lr={rate}", "scheduler.warmup_steps=0"]
    done = run("train", *words, "trainer.max_epochs=30", "tracking=off", "hydra.run.dir=run", cwd=tmp_path)
    assert done.code != 0
    assert "loss or gradient that is not finite" in done.message
    assert "Lower optimizer.lr" in done.message
    assert not (tmp_path / "run/bundle").exists()


def test_a_model_that_is_not_finite_is_not_used(tmp_path: Path) -> None:
    words = [*SMALL_WORLD, "data.points=200", "trainer.max_epochs=1", "tracking=off"]
    succeed(run("train", *words, "hydra.run.dir=run", cwd=tmp_path))
    file = tmp_path / "run/bundle/weights.safetensors"
    weights = load_file(file)
    name = sorted(name for name, tensor in weights.items() if tensor.is_floating_point())[0]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, file)
    described = tmp_path / "run/bundle/model.yaml"  # as if it had been written so
    described.write_text(re.sub(r"weights_sha256: .*", "weights_sha256: null", described.read_text()))
    torch.rand(50, 4).numpy().tofile(tmp_path / "a.bin")
    registry = "tracking.uri=sqlite:///r.db"
    for verb, *rest in (
        ["predict", "checkpoint=run/bundle", "input=a.bin", "output=out"],
        ["evaluate", "checkpoint=run/bundle", *SMALL_WORLD, "output=scores"],
        ["register_model", "run=run", "name=m", "promote=champion", registry],
    ):
        done = run(verb, *rest, cwd=tmp_path)
        assert done.code != 0, verb
        assert f"not finite, the first is {name}" in done.message, verb
