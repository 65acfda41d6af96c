"""SegmentationModule: a segmentation model, its loss, its optimizer and its official scores, for Lightning.

The loss of a step is normalised once over the whole global batch: the sum over all points of all ranks and accumulated
parts, divided by the sum of their weights. So neither the number of ranks nor accumulation changes it. This is why the
optimization is manual: a step's batch is split into parts here, after its normalisers are known.

Legend: B clouds, N points, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from pointseg import losses
from pointseg.bundle import CHECKPOINT_KEY, TrainedModel, load_checkpoint
from pointseg.data.clouds import Batch, Cloud
from pointseg.data.seen import joined
from pointseg.errors import CheckpointError, ConfigError
from pointseg.features import FeatureSpec
from pointseg.inference import check_inference, cloud_logits
from pointseg.labels import LabelMap
from pointseg.metrics import Scores, confusion_matrix, score
from pointseg.models import SegmentationModel
from pointseg.randomness import Purpose, key

__all__ = ["SegmentationModule"]


class SegmentationModule(pl.LightningModule):
    """Trains any `SegmentationModel` on batches of clouds and scores it on whole scans.

    Args:
        model: takes len(features) features and gives label_map.num_classes classes.
        label_map: what the classes are.
        features: what the model sees; the DataModule must use the same.
        class_weights: (K,) weights of the cross-entropy, from `losses.class_weights` of the training split; None for 1.
        label_smoothing: of the cross-entropy.
        lovasz: weight of the Lovasz-softmax term (a mean over clouds).
        penalty: weight of the model's own regulariser; 0.001 in the PointNet paper.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW, on matrices only, not on biases and BatchNorm.
        warmup_steps: linear warm-up from 0.
        total_steps: where the cosine ends; None asks the trainer.
        final_lr_ratio: learning rate at the end, relative to the peak.
        gradient_clip: largest norm of the whole gradient; None for no limit.
        accumulate: in how many parts a step's batch goes through the model.
        points_per_pass, votes: how scans are predicted (see `inference.cloud_logits`).
        remission_mean: of the training points; stands in for remission when a scan has none.
        provenance: plain values for the bundle.
        input_statistics: what the training scans look like, for the bundle (see `pointseg.data.statistics`).

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
        class_weights: Sequence[float] | Tensor | None = None,
        label_smoothing: float = 0.0,
        lovasz: float = 0.0,
        penalty: float = 0.001,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
        total_steps: int | None = None,
        final_lr_ratio: float = 0.01,
        gradient_clip: float | None = 1.0,
        accumulate: int = 1,
        points_per_pass: int | None = None,
        votes: int = 1,
        remission_mean: float = 0.0,
        provenance: dict[str, Any] | None = None,
        input_statistics: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.class_weights: Tensor
        self.automatic_optimization = False
        _check_settings(model, label_map, features, lr=lr, label_smoothing=label_smoothing, accumulate=accumulate)
        check_inference(points_per_pass, votes)
        self.model, self.label_map, self.feature_spec = model, label_map, features
        self.register_buffer("class_weights", _weights(class_weights, label_map.num_classes))
        self.label_smoothing, self.lovasz, self.penalty = label_smoothing, lovasz, penalty
        self.lr, self.weight_decay = lr, weight_decay
        self.warmup_steps, self.total_steps, self.final_lr_ratio = warmup_steps, total_steps, final_lr_ratio
        self.gradient_clip, self.accumulate = gradient_clip, accumulate
        self.inference: dict[str, Any] = {"points_per_pass": points_per_pass, "votes": votes}
        self.remission_mean, self.provenance = float(remission_mean), dict(provenance or {})
        self.input_statistics = input_statistics
        # no buffer: weight averaging swaps and averages those
        self.confusion: Tensor | None = None
        self.scores: Scores | None = None  # of the last validation or test

    def forward(self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Logits (B, N, K)."""
        logits: Tensor = self.model(features, coords, mask)
        return logits

    # ---- training --------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One optimizer step on a whole batch, in `accumulate` parts."""
        optimizer, scheduler = self._optimizer(), self.lr_schedulers()
        optimizer.zero_grad()
        terms = self.backward_parts(batch)
        if self.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        optimizer.step()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        scheduler.step()
        return self._log_step(_sum_over_ranks(terms), batch)

    def _optimizer(self) -> LightningOptimizer:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def backward_parts(self, batch: Batch) -> Tensor:
        """Add the gradient of the global loss; returns this rank's share of its terms (3,), see `_loss`."""
        normalisers = self._normalisers(batch.labels)
        terms = torch.zeros(3, device=batch.features.device)
        for part in _split(batch, self.accumulate):
            loss, part_terms = self._loss(part, normalisers)
            if self._trainer is None:
                loss.backward()
            else:
                self.manual_backward(loss)
            terms += part_terms
        return terms

    def _normalisers(self, labels_BN: Tensor) -> Tensor:
        """(2,) over the global batch: the sum of the labelled points' weights, and the number of clouds."""
        weights = torch.cat([self.class_weights.new_zeros(1), self.class_weights])[labels_BN].sum()
        clouds = torch.full_like(weights, len(labels_BN))
        return _sum_over_ranks(torch.stack([weights, clouds])).clamp(min=1e-12)

    def _loss(self, part: Batch, normalisers: Tensor) -> tuple[Tensor, Tensor]:
        """This part's share of the global loss, and of its terms: cross-entropy, Lovasz-softmax, penalty."""
        if (
            part.keys is not None
        ):  # what is dropped depends on the cloud alone, not on who trains it or when it is resumed
            self.model.draw_by([key(own, Purpose.NETWORK_DROPOUT) for own in part.keys.tolist()])
        logits_BNK, penalty = self.model.logits_and_penalty(part.features, part.coords, part.mask)
        cross_entropy, _ = losses.cross_entropy_sum(
            logits_BNK.flatten(0, 1), part.labels.flatten(), self.class_weights, label_smoothing=self.label_smoothing
        )
        cross_entropy = cross_entropy / normalisers[0]
        lovasz = torch.zeros_like(cross_entropy)
        if self.lovasz:
            lovasz = losses.lovasz_sum(logits_BNK, part.labels) / normalisers[1]
        penalty = penalty * len(part.labels) / normalisers[1]
        loss = cross_entropy + self.lovasz * lovasz + self.penalty * penalty
        # DDP averages gradients over ranks; the loss is a share of a global sum, so that average is undone
        world_size = self.trainer.world_size if self._trainer is not None else 1
        return loss * world_size, torch.stack([cross_entropy, lovasz, penalty]).detach()

    def _log_step(self, terms: Tensor, batch: Batch) -> dict[str, Tensor]:
        cross_entropy, lovasz, penalty = terms
        loss = cross_entropy + self.lovasz * lovasz + self.penalty * penalty
        log: dict[str, Tensor] = {"train/loss": loss, "train/cross_entropy": cross_entropy}
        if self.lovasz:
            log["train/lovasz"] = lovasz
        if self.penalty:
            log["train/penalty"] = penalty
        self.log_dict(log, on_step=False, on_epoch=True, batch_size=len(batch.labels))
        return {"loss": loss}

    def on_train_epoch_end(self) -> None:
        self.log("train/lr", self._optimizer().param_groups[0]["lr"], rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and a cosine (Loshchilov and Hutter, ICLR 2017 and 2019)."""
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)

        def factor(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / (self.warmup_steps + 1)
            progress = 0.0
            if (
                step > self.warmup_steps
            ):  # asking earlier would set up the training data before a resumed run's place in it
                total = self.total_steps or int(self.trainer.estimated_stepping_batches)
                progress = min(1.0, (step - self.warmup_steps) / max(1, total - self.warmup_steps))
            return self.final_lr_ratio + (1 - self.final_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, factor)]

    # ---- scoring: exactly as deployed ------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        size = self.label_map.num_classes + 1
        self.confusion = torch.zeros(size, size, dtype=torch.int64, device=self.device)
        if dist.is_available() and dist.is_initialized():
            for (
                buffer
            ) in self.model.buffers():  # what is scored is what a checkpoint keeps: the first process's statistics
                dist.broadcast(buffer, 0)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, scan: Cloud, batch_idx: int) -> Tensor:
        """Predict a whole scan; returns the training ids (N,). One without points counts nothing."""
        if len(scan.points) == 0:
            return scan.labels
        logits_NK = cloud_logits(self.model, self.feature_spec, scan.points, **self.inference)
        prediction_N = logits_NK.argmax(dim=1) + 1
        assert self.confusion is not None
        self.confusion += confusion_matrix(scan.labels, prediction_N, self.label_map.num_classes)
        return prediction_N

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        assert self.confusion is not None
        self.scores = score(_sum_over_ranks(self.confusion))
        summary = {
            f"{split}/miou": self.scores.miou,
            f"{split}/miou_present": self.scores.miou_present,
            f"{split}/accuracy": self.scores.accuracy,
        }
        self.log_dict(summary, rank_zero_only=False)
        names = self.label_map.class_names
        self.log_dict({f"{split}/iou/{n}": float(v) for n, v in zip(names, self.scores.iou, strict=True)})

    # ---- what a checkpoint keeps -----------------------------------------------------------------------------

    def trained(self) -> TrainedModel:
        """The model as it is now, with all that prediction needs."""
        inference = {**self.inference, "remission_mean": self.remission_mean}
        return TrainedModel(
            self.model, self.feature_spec, self.label_map, inference, dict(self.provenance), self.input_statistics
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CHECKPOINT_KEY] = self.trained().describe()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture, class set or feature set; remember what its weights have seen.

        Raises:
            CheckpointError: naming what differs.
        """
        saved = checkpoint.get(CHECKPOINT_KEY)
        check_same_model(saved, self.trained().describe())
        self.provenance = joined(self.provenance, (saved or {}).get("provenance") or {})

    @classmethod
    def from_checkpoint(cls, path: str, **settings: Any) -> SegmentationModule:
        """A module with a checkpoint's model, features and label map, e.g. to fine-tune it; no code is executed."""
        trained = load_checkpoint(path)
        if settings.get("provenance"):
            settings["provenance"] = joined(settings["provenance"], trained.provenance)
        return cls(trained.model.train(), trained.label_map, trained.features, **settings)


def check_same_model(saved: Any, present: dict[str, Any]) -> None:
    """Refuse to go on with weights that belong to another model, other classes or other features.

    Args:
        saved, present: `TrainedModel.describe()` of the checkpoint and of what is configured.

    Raises:
        CheckpointError: naming what differs.
    """
    for part in ("architecture", "label_map", "features"):
        before, now = (saved or {}).get(part), present[part]
        if part == "label_map" and before is not None:
            before, now = LabelMap.from_dict(before).hash, LabelMap.from_dict(now).hash
        if before != now:
            raise CheckpointError(
                f"the checkpoint has another {part.replace('_', ' ')}{_difference(before, now)}",
                where=part,
                remedy="Resume with the run's own settings, or start a new run.",
            )


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return " (" + "; ".join(f"{key}: {before.get(key)} in it, {now.get(key)} here" for key in keys) + ")"


def _weights(given: Sequence[float] | Tensor | None, num_classes: int) -> Tensor:
    weights = torch.ones(num_classes) if given is None else torch.as_tensor(given, dtype=torch.float32).clone()
    if weights.shape != (num_classes,):
        raise ConfigError(f"{len(weights)} class weights for {num_classes} classes", where="class_weights")
    return weights


def _check_settings(
    model: SegmentationModel,
    label_map: LabelMap,
    features: FeatureSpec,
    *,
    lr: float,
    label_smoothing: float,
    accumulate: int,
) -> None:
    if model.num_classes != label_map.num_classes:
        raise ConfigError(
            f"the model has {model.num_classes} classes and label map {label_map.name!r} {label_map.num_classes}",
            where="model.num_classes",
        )
    if model.in_features != len(features):
        raise ConfigError(
            f"the model takes {model.in_features} features and there are {len(features)} ({', '.join(features.use)})",
            where="model.in_features",
        )
    if not lr > 0:
        raise ConfigError(f"{lr} is not positive", where="optimizer.lr")
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"{label_smoothing} is not in [0, 1)", where="loss.label_smoothing")
    if accumulate < 1:
        raise ConfigError(f"{accumulate} is less than 1", where="trainer.accumulate_grad_batches")


def _split(batch: Batch, parts: int) -> list[Batch]:
    """A batch as at most `parts` smaller ones, along the clouds."""
    if parts == 1:
        return [batch]
    masks, keys = (t.chunk(parts) if t is not None else [None] * parts for t in (batch.mask, batch.keys))
    columns = zip(batch.features.chunk(parts), batch.coords.chunk(parts), batch.labels.chunk(parts), strict=True)
    return [Batch(*column, *more) for column, *more in zip(columns, masks, keys, strict=False)]


def _sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values
