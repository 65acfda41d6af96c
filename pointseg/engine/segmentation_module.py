"""SegmentationModule: a segmentation model with its loss, optimizer and official scores, for Lightning.

The loss of a step is normalised once over the global batch: the sum over all points of all ranks and accumulated parts,
divided by the sum of their weights. So it depends neither on the number of ranks nor on accumulation. This is why the
optimization is manual: a step's batch is split into parts after its normalisers are known.

Legend: B clouds, N points, K classes, T terms of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, cast

import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.core.randomness import Purpose, random_key
from pointseg.data.batches import Batch
from pointseg.data.features import FeatureSpec
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.data.scan_hashes import joined
from pointseg.engine.bundle import CHECKPOINT_KEY, TrainedModel, check_same_model, load_checkpoint
from pointseg.engine.finite_steps import FiniteSteps
from pointseg.engine.gradient_clipping import GradientClipping
from pointseg.engine.inference import inference_settings
from pointseg.engine.losses import LossTerm, WeightedLoss, default_loss
from pointseg.engine.optimization import (
    OptimizerMaker,
    Schedule,
    adamw,
    freeze,
    make_optimizer,
    relative_rates,
    warmup_cosine,
)
from pointseg.engine.scoring_module import ScoringModule
from pointseg.models import ModelClasses, SegmentationModel

__all__ = ["SegmentationModule"]


class SegmentationModule(ScoringModule):
    """Trains any `SegmentationModel` on batches of clouds and scores it on whole scans.

    `Trainer(gradient_clip_val=...)` and `gradient_clip_algorithm` take precedence over `gradient_clip`.

    Args:
        model: takes len(features) features and gives label_map.num_classes classes.
        features: the model's input; the DataModule must use the same.
        loss: name -> term; None for cross-entropy and the model's own penalty with the next four settings.
        class_weights: (K,) weights of the cross-entropy, from `losses.class_weights` of the training split; 1.
        label_smoothing: of the cross-entropy; 0.
        lovasz: weight of the Lovasz-softmax term; 0.
        penalty: weight of the model's own regulariser; 0.001, as in the PointNet paper.
        optimizer: makes one from parameter groups, such as `functools.partial(torch.optim.SGD, lr=0.1)`; None for AdamW
            with the next two settings.
        lr: peak learning rate of AdamW; 0.001.
        weight_decay: of AdamW; 0.01.
        decay_all: weight decay on every parameter; otherwise on matrices only, not on biases and BatchNorm.
        rates: relative learning rates by patterns of names of the model's parameters; 0: frozen, as is BatchNorm of it.
        scheduler: of the learning rate; None for `WarmupCosine` with the next two settings.
        warmup_steps: linear warm-up from 0; 100.
        final_lr_ratio: last learning rate relative to the peak; 0.01.
        total_steps: where the schedule ends; None asks the trainer.
        gradient_clip: largest norm of the whole gradient; None for no limit.
        accumulate: number of parts in which a step's batch goes through the model.
        points_per_pass, votes: how scans are predicted (see `inference.cloud_logits`); "auto" for the model's own choice.
        remission_mean: of the training points; replaces the remission of scans that have none.
        provenance: plain values for the bundle.
        input_statistics: of the training scans, for the bundle (see `pointseg.quality.input_statistics`).

    Raises:
        ConfigError: naming the setting that cannot be used.

    Example:
        >>> labels, features = LabelMap.load("semantickitti"), FeatureSpec()
        >>> module = SegmentationModule(PointNetSeg(len(features), labels.num_classes), labels, features)
        >>> pl.Trainer(max_epochs=1).fit(module, SyntheticDataModule(features=features))
    """

    def __init__(
        self,
        model: SegmentationModel,
        label_map: LabelMap,
        features: FeatureSpec,
        *,
        loss: Mapping[str, LossTerm] | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        label_smoothing: float | None = None,
        lovasz: float | None = None,
        penalty: float | None = None,
        optimizer: OptimizerMaker | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        decay_all: bool = False,
        rates: Mapping[str, float] | None = None,
        scheduler: Schedule | None = None,
        warmup_steps: int | None = None,
        final_lr_ratio: float | None = None,
        total_steps: int | None = None,
        gradient_clip: float | None = 1.0,
        accumulate: int = 1,
        points_per_pass: int | str | None = None,
        votes: int | str = 1,
        remission_mean: float = 0.0,
        provenance: dict[str, Any] | None = None,
        input_statistics: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model, label_map, features, inference_settings(model, points_per_pass, votes))
        self.automatic_optimization = False
        if accumulate < 1:
            raise ConfigError(f"{accumulate} is less than 1", where="trainer.accumulate_grad_batches")
        loss_settings = {"class_weights": class_weights, "label_smoothing": label_smoothing, "lovasz": lovasz}
        terms = _given_or_default(
            "loss", loss, partial(default_loss, label_map.num_classes), **loss_settings, penalty=penalty
        )
        self.loss = WeightedLoss(terms)
        self.loss.check(model)
        self.optimizer_maker = _given_or_default("optimizer", optimizer, adamw, lr=lr, weight_decay=weight_decay)
        self.decay_all = decay_all
        self.rates = relative_rates(model.state_dict(), rates or {})
        self._at_rest = freeze(model, self.rates)
        cosine = {"warmup_steps": warmup_steps, "final_lr_ratio": final_lr_ratio}
        self.schedule: Schedule = _given_or_default("scheduler", scheduler, warmup_cosine, **cosine)
        self.schedule.scheduler(self.make_optimizer(), lambda: 1000)  # refuses wrong settings now, not in training
        self.total_steps, self.accumulate, self.clip = total_steps, accumulate, GradientClipping(gradient_clip)
        self.finite = FiniteSteps()
        self.remission_mean, self.provenance = float(remission_mean), dict(provenance or {})
        self.input_statistics = input_statistics
        self._validated = False

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ScanDataModule):
            self.prepare_in(data)

    def prepare_in(self, data: ScanDataModule) -> None:
        """Run the model's `prepare` in the data loading processes."""
        data.prepare_with(self.model.preparation(), scans=self.inference["points_per_pass"] is None)

    # ---- training --------------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[Callback]:
        """No callbacks; Lightning calls this just before it checks the trainer's settings."""
        if self.trainer.state.fn == "fit":
            self.clip.take_over(self.trainer)
        return []

    def on_fit_start(self) -> None:
        self.clip.give_back(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One optimizer step on a whole batch, in `accumulate` parts."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer.zero_grad()
        self.finite.remember(self)
        terms = _sum_over_ranks(self.backward_parts(batch))
        self.clip(self, optimizer)
        self.finite(self, terms)
        optimizer.step()  # without a gradient it changes nothing, but the step counts
        if self.schedule.interval == "step":
            cast(LRScheduler, self.lr_schedulers()).step()
        return self._log_step(terms, batch)

    def backward_parts(self, batch: Batch) -> Tensor:
        """Add the gradient of the global loss; returns this rank's share of its terms (T,), see `WeightedLoss`."""
        normalisers_T = _sum_over_ranks(self.loss.normalisers(batch)).clamp(min=1e-12)
        total_T = torch.zeros(len(normalisers_T), device=batch.features.device)
        # DDP averages gradients over ranks; the loss is a share of a global sum, so the average is undone
        world_size = self.trainer.world_size if self._trainer is not None else 1
        for part in batch.split(self.accumulate):
            shares_T = self._shares(part, normalisers_T)
            loss = self.loss.total(shares_T) * world_size
            if self._trainer is None:
                loss.backward()
            else:
                self.manual_backward(loss)
            total_T += shares_T.detach()
        return total_T

    def _shares(self, part: Batch, normalisers_T: Tensor) -> Tensor:
        if part.keys is not None:  # dropout depends on the cloud alone, not on the rank or on resuming
            self.model.draw_by([random_key(own, Purpose.NETWORK_DROPOUT) for own in part.keys.tolist()])
        wanted_BN = part.labels > 0
        outputs = self.model.training_outputs(part.features, part.coords, part.mask, part.extras, wanted_BN)
        return self.loss.shares(outputs, part, normalisers_T)

    def _log_step(self, terms_T: Tensor, batch: Batch) -> dict[str, Tensor]:
        loss = self.loss.total(terms_T)
        terms = {f"train/{name}": term for name, term in zip(self.loss.weights, terms_T, strict=True)}
        self.log_dict({"train/loss": loss, **terms}, on_step=False, on_epoch=True, batch_size=len(batch.labels))
        if getattr(self.trainer, "log_every_n_steps", 0):
            self.log("train/loss_step", loss, on_step=True, on_epoch=False, batch_size=len(batch.labels))
        return {"loss": loss}

    def on_train_epoch_end(self) -> None:
        optimizer = cast(LightningOptimizer, self.optimizers())
        self.log("train/lr", optimizer.param_groups[0]["lr"], rank_zero_only=True)
        if self.schedule.interval == "epoch":
            scheduler: Any = self.lr_schedulers()
            if not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
            elif self._validated:
                scheduler.step(self._monitored())
        self._validated = False

    def on_train_end(self) -> None:
        self.finite.refuse(self)

    def _monitored(self) -> Tensor:
        metrics, name = self.trainer.callback_metrics, self.schedule.monitor
        if name not in metrics:
            remedy = f"There is: {', '.join(sorted(metrics))}."
            raise ConfigError(f"{name!r} is not logged", where="scheduler.monitor", remedy=remedy)
        return metrics[name]

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer of all parameters."""
        rates = {f"model.{name}": rate for name, rate in self.rates.items()}
        return make_optimizer(self, self.optimizer_maker, decay_all=self.decay_all, rates=rates)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; what is frozen keeps its statistics."""
        super().train(mode)
        for module in self._at_rest:
            module.eval()
        return self

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        scheduler = self.schedule.scheduler(optimizer, self._planned_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule.interval}}

    def check_optimization(self) -> None:
        """Make optimizer and schedule once and discard them: what cannot be made is refused before the data are read.

        Raises:
            ConfigError: naming the section or key.
        """
        self.schedule.scheduler(self.make_optimizer(), lambda: 1000)  # any number of steps

    def _planned_steps(self) -> int:
        steps = self.total_steps or self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ConfigError(
                "the learning rate schedule needs the number of steps, and this training has no end",
                where="Trainer(max_epochs=-1)",
                remedy="Set max_epochs or max_steps, or SegmentationModule(total_steps=N).",
            )
        return int(steps)

    def on_validation_epoch_end(self) -> None:
        self._validated = not self.trainer.sanity_checking
        super().on_validation_epoch_end()

    # ---- what a checkpoint keeps -----------------------------------------------------------------------------

    def trained(self) -> TrainedModel:
        """The model as it is now, with everything that prediction needs."""
        inference = {**self.inference, "remission_mean": self.remission_mean}
        return TrainedModel(
            self.model, self.feature_spec, self.label_map, inference, dict(self.provenance), self.input_statistics
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CHECKPOINT_KEY] = self.trained().describe()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture, class set or feature set; merge its provenance.

        Raises:
            CheckpointError: naming what differs.
        """
        for state in ("state_dict", "current_model_state"):
            checkpoint.get(state, {}).pop("class_weights", None)  # of version 0.1
        saved = checkpoint.get(CHECKPOINT_KEY)
        check_same_model(saved, self.trained().describe())
        self.provenance = joined(self.provenance, (saved or {}).get("provenance") or {})

    @classmethod
    def from_checkpoint(cls, path: str, *, models: ModelClasses = (), **settings: Any) -> SegmentationModule:
        """A module with a checkpoint's model, features and label map, e.g. to fine-tune it; `models` as for `bundle.load`."""
        trained = load_checkpoint(path, models)
        if settings.get("provenance"):
            settings["provenance"] = joined(settings["provenance"], trained.provenance)
        return cls(trained.model.train(), trained.label_map, trained.features, **settings)


def _given_or_default(name: str, given: Any, default: Callable[..., Any], **settings: Any) -> Any:
    """`given`, or the default with its settings; both are a contradiction."""
    settings = {key: value for key, value in settings.items() if value is not None}
    if given is None:
        return default(**settings)
    if settings:
        key = next(iter(settings))
        raise ConfigError(f"both {name} and {key} are given", where=key, remedy=f"Set it in {name}.")
    return given


def _sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values
