"""Train a SegmentationModule over a DataModule into a run folder: the library function behind `pointseg.train`."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging

from pointseg import bundle
from pointseg.data.datamodule import ScanDataModule
from pointseg.errors import CheckpointError, ConfigError, OutOfMemory, PeerLost
from pointseg.evaluation import Evaluation, evaluate
from pointseg.files import check_writable
from pointseg.memory import ran_out
from pointseg.module import SegmentationModule, check_same_model
from pointseg.predictor import Predictor
from pointseg.tracking import NullTracker, Tracker
from pointseg.training import estimate
from pointseg.training.callbacks import KeepBestAndLast, StopOnSignal, WholeCheckpoints
from pointseg.training.devices import Compute, choose_compute
from pointseg.training.history import KeepHistory
from pointseg.training.progress import TrainingProgress
from pointseg.training.run_folder import RunFolder
from pointseg.words import counted

__all__ = ["TrainerSettings", "fit", "newest_whole"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainerSettings:
    """How long and on what to train; the `trainer` group of the configuration.

    Args:
        max_epochs: epochs in all, also when a run is resumed.
        accelerator, precision: see `devices.choose_compute`.
        check_val_every_n_epoch: epochs from one validation to the next.
        monitor: the validation figure that chooses best.ckpt, the larger the better; None takes the last epoch's, where
            the validation split must only be scored and not chosen on.
        ema_decay: keep an exponential moving average of the weights, scored and saved in their place; None for none.
        limit_train_batches, limit_val_batches: at most so many batches an epoch; None for all.
    """

    max_epochs: int = 10
    accelerator: str = "auto"
    precision: str = "auto"
    check_val_every_n_epoch: int = 1
    monitor: str | None = "val/miou"
    ema_decay: float | None = None
    limit_train_batches: int | None = None
    limit_val_batches: int | None = None

    compute: Compute = field(init=False)

    def __post_init__(self) -> None:
        for key in ("max_epochs", "check_val_every_n_epoch", "limit_train_batches", "limit_val_batches"):
            value = getattr(self, key)
            if value is None and not key.startswith("limit"):
                raise ConfigError("a number is needed", where=f"trainer.{key}")
            if value is not None and value < 1:
                raise ConfigError(f"{value} is less than 1", where=f"trainer.{key}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"{self.ema_decay} is not between 0 and 1", where="trainer.ema_decay")
        monitors = ("val/miou", "val/miou_present", "val/accuracy")
        if self.monitor is not None and self.monitor not in monitors:
            raise ConfigError(
                f"{self.monitor!r} is not a validation score",
                where="trainer.monitor",
                remedy=f"Use {', '.join(monitors)} or null.",
            )
        object.__setattr__(self, "compute", choose_compute(self.accelerator, self.precision))


def fit(
    module: SegmentationModule,
    data: ScanDataModule,
    folder: RunFolder,
    settings: TrainerSettings,
    *,
    tracker: Tracker | None = None,
    resume: Path | None = None,
    on_first_checkpoint: Callable[[], None] | None = None,
    progress: Callable[[str], Callable[[int, int], None]] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Evaluation | None:
    """Train, keep best and last checkpoint, score the best one on the validation split, and write the bundle.

    Where several processes train, the first one scores and writes; None for the others.

    Args:
        folder: where all of it goes (see `run_folder`).
        tracker: receives scores, figures and the checkpoint.
        resume: go on from this checkpoint of the folder.
        on_first_checkpoint: called just before the first checkpoint of this call takes its place.
        progress: makes a progress callback for a named piece of work.
        callbacks: of Lightning, beside those that keep checkpoints and history.

    Raises:
        Interrupted: after Ctrl-C, with a last.ckpt to go on from.
        OutOfMemory: naming the settings to lower.
        CheckpointError: if the checkpoint to go on from is of another model, class set or feature set.

    Example:
        >>> fit(module, SyntheticDataModule(), RunFolder("run"), TrainerSettings(max_epochs=2)).scores.miou
    """
    tracker = tracker or NullTracker()
    check_writable(folder.checkpoints, "hydra.run.dir")
    trained = (0, 0)
    if resume is not None:
        saved = bundle.read_checkpoint(resume)
        check_same_model(saved[bundle.CHECKPOINT_KEY], module.trained().describe())
        trained = _epochs_and_steps(saved)
    with _readable_errors(folder.last), _quiet():
        _place(data, settings, progress)
        _say_estimate(module, data, folder, settings, trained)
        stop = StopOnSignal(folder.last, folder.path)
        all_callbacks: list[Callback] = [*callbacks, TrainingProgress(), *_averaging(settings)]
        all_callbacks += [KeepHistory(folder.history, resume=resume is not None)]
        all_callbacks += [KeepBestAndLast(folder.best, folder.last, settings.monitor), stop]
        trainer = _trainer(folder, settings, tracker, on_first_checkpoint, all_callbacks)
        with stop.listening():
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if settings.compute.ranks.rank > 0:
        return None
    return finish(folder, data, settings.compute, tracker, progress=progress)


def finish(
    folder: RunFolder,
    data: ScanDataModule,
    compute: Compute,
    tracker: Tracker,
    *,
    progress: Callable[[str], Callable[[int, int], None]] | None = None,
) -> Evaluation:
    """Score best.ckpt on every validation scan, write metrics.json, figures and bundle, and track them."""
    trained = bundle.load_checkpoint(folder.best)
    predictor = Predictor(trained, compute.device)
    evaluation = evaluate(
        predictor, data.source("val"), label_map=data.label_map, progress=progress("scoring") if progress else None
    )
    written = evaluation.write(folder.path)
    scores = evaluation.scores
    trained.provenance["validation"] = {"miou": scores.miou, "miou_present": scores.miou_present}
    bundle.save_bundle(folder.bundle, trained)
    tracker.log_metrics({"best/miou": scores.miou, "best/miou_present": scores.miou_present})
    for path in written:
        tracker.log_artifact(path, "figures" if path.suffix == ".png" else None)
    tracker.log_artifact(folder.bundle, "bundle")
    tracker.log_artifact(folder.best, "checkpoints")
    return evaluation


def newest_whole(folder: RunFolder) -> Path:
    """The newest checkpoint of a run that can be read; a machine that was taken away may have left one cut off.

    Raises:
        CheckpointError: if none can.
    """
    problem: CheckpointError | None = None
    for checkpoint in filter(Path.is_file, (folder.last, folder.best)):
        try:
            bundle.read_checkpoint(checkpoint)
        except CheckpointError as error:
            problem = problem or error
            continue
        if problem is not None:
            log.warning("%s; going on from %s", problem, checkpoint.name)
        return checkpoint
    raise problem or CheckpointError("the run has no checkpoint", where=folder.path)


def _epochs_and_steps(saved: dict[str, Any]) -> tuple[int, int]:
    """Whole epochs that a checkpoint has behind it, and steps of the one it stopped in."""
    loop = saved["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    return epochs["processed"], batches["ready"] if epochs["ready"] > epochs["processed"] else 0


def _place(
    data: ScanDataModule, settings: TrainerSettings, progress: Callable[[str], Callable[[int, int], None]] | None
) -> None:
    """Bring the training scans to where the model trains, and say where that is."""
    data.place(settings.compute.device)
    residency, _ = data.table(progress("loading train") if progress else None)
    places = {"disk": "read from disk", "memory": "in memory", "device": f"on {residency.device}"}
    log.info("Training scans: %s (%s)", places[residency.place], residency.reason)


def _say_estimate(
    module: SegmentationModule,
    data: ScanDataModule,
    folder: RunFolder,
    settings: TrainerSettings,
    trained: tuple[int, int],
) -> None:
    every = settings.check_val_every_n_epoch
    expected = estimate.measure(
        module,
        data,
        settings.compute,
        epochs=settings.max_epochs,
        validations=settings.max_epochs // every - trained[0] // every,
        folder=folder.path,
        steps_per_epoch=settings.limit_train_batches,
        trained=trained,
    )
    if not expected.steps_left:
        log.info("All %s are trained; more: trainer.max_epochs=N", counted(settings.max_epochs, "epoch"))
        return
    parameters = sum(p.numel() for p in module.model.parameters())
    log.info("Model: %s, %s parameters; on %s", type(module.model).__name__, f"{parameters:,}", settings.compute.reason)
    log.info("Estimate: training and validation take %s", expected)


def _averaging(settings: TrainerSettings) -> list[Callback]:
    return [] if settings.ema_decay is None else [EMAWeightAveraging(decay=settings.ema_decay)]


def _trainer(
    folder: RunFolder,
    settings: TrainerSettings,
    tracker: Tracker,
    on_first_checkpoint: Callable[[], None] | None,
    callbacks: list[Callback],
) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.compute.accelerator,
        devices=settings.compute.ranks.local_world,
        num_nodes=settings.compute.ranks.nodes,
        precision=settings.compute.precision,
        check_val_every_n_epoch=settings.check_val_every_n_epoch,
        limit_train_batches=settings.limit_train_batches,
        limit_val_batches=settings.limit_val_batches,
        callbacks=callbacks,
        logger=tracker.lightning_logger(),
        plugins=[WholeCheckpoints(on_first_checkpoint)],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        default_root_dir=folder.path,
    )


@contextmanager
def _readable_errors(last: Path) -> Iterator[None]:
    """Raises OutOfMemory, or PeerLost where another process is lost, in place of what torch raises then."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        first_line = text.splitlines()[0][:160] if text else None
        if ran_out(error):
            raise OutOfMemory(
                "training does not fit into memory",
                where=first_line,
                remedy="Lower data.batch_size or data.points, or raise trainer.accumulate_grad_batches.",
            ) from error
        if isinstance(error, torch.distributed.DistError) or re.search(r"[Cc]onnection (closed|reset)|gloo", text):
            remedy = "Go on with resume=RUN_FOLDER." if last.is_file() else ""
            raise PeerLost("another process of this training has ended", where=first_line, remedy=remedy) from error
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's remarks that are no use here: what it says is said better by this library, or is meant so."""
    names = ("pytorch_lightning", "lightning_fabric", "lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*LeafSpec.*", ".*Checkpoint directory .* exists.*"):
            warnings.filterwarnings("ignore", message)
        warnings.filterwarnings("ignore", ".*number of training batches.*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # what is logged is summed over the processes already
        warnings.filterwarnings("ignore", ".*_check_data_source.*|.*batch_sampler.*|.*lr_scheduler.step.*")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
