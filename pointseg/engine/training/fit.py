"""Train a SegmentationModule over a DataModule into a run folder: the function behind `pointseg.train`."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ProgressBar
from pytorch_lightning.loggers import Logger

from pointseg.core.errors import CheckpointError, DamagedCheckpoint, OutOfMemory, PeerLost
from pointseg.core.files import check_writable
from pointseg.core.memory import ran_out
from pointseg.core.progress import Progress, silent
from pointseg.core.text import counted
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine import bundle
from pointseg.engine.evaluation import Evaluation, evaluate_model
from pointseg.engine.predictor import Predictor
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.engine.training.callbacks import KeepBestAndLast, KeepWithinEpochs, StopOnSignal, WholeCheckpoints
from pointseg.engine.training.devices import Compute, compute_for
from pointseg.engine.training.estimate import estimate_run
from pointseg.engine.training.history import KeepHistory
from pointseg.engine.training.progress import TrainingProgress
from pointseg.engine.training.run_folder import RunFolder
from pointseg.engine.training.tracker import NullTracker, Tracker
from pointseg.engine.training.trainer_options import trainer_options
from pointseg.engine.training.trainer_settings import TrainerSettings

__all__ = ["fit", "newest_whole", "seed_everything"]

log = logging.getLogger(__name__)


def fit(
    module: SegmentationModule,
    data: ScanDataModule,
    folder: RunFolder,
    settings: TrainerSettings,
    *,
    tracker: Tracker | None = None,
    resume: Path | None = None,
    on_first_checkpoint: Callable[[], None] | None = None,
    progress: Progress = silent,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] | None = None,
    draw: Callable[[Evaluation, Path], list[Path]] | None = None,
) -> Evaluation | None:
    """Train, keep best and last checkpoint, score the best one on the validation split, and write the bundle.

    With several processes, the first one scores and writes; the others return None. So does a `fast_dev_run`, which keeps
    nothing.

    Args:
        folder: where everything goes (see `run_folder`).
        settings: their gradient clipping and accumulation, if given, take precedence over the module's.
        tracker: receives scores, figures and the checkpoint.
        resume: the checkpoint of the folder to resume from.
        on_first_checkpoint: called just before the first checkpoint of this call is written.
        progress: makes a progress callback for a named piece of work.
        callbacks: Lightning callbacks, in addition to those that keep checkpoints and history.
        loggers: Lightning loggers; None for that of the tracker.
        draw: draws the final scores into the folder, such as `pages.figures.write_figures`.

    Raises:
        ConfigError: for an option of the trainer that cannot be honoured.
        Interrupted: after Ctrl-C, with a last.ckpt to resume from.
        OutOfMemory: naming the settings to lower.
        CheckpointError: if the checkpoint to resume from is of another model, class set or feature set.

    Example:
        >>> fit(module, SyntheticDataModule(), RunFolder("run"), TrainerSettings(max_epochs=2)).scores.miou
    """
    settings.check()
    tracker, compute = tracker or NullTracker(), compute_for(settings)
    options = trainer_options(settings.options, compute, folder.path)
    check_writable(folder.checkpoints, "hydra.run.dir")
    trained = (0, 0) if resume is None else _trained_before(resume, module)
    if settings.accumulate_grad_batches > 1:
        module.accumulate = settings.accumulate_grad_batches
    stop, trial = StopOnSignal(folder.last, folder.path), bool(options.get("fast_dev_run"))
    history = KeepHistory(folder.history, resume=resume is not None)
    minutes = settings.checkpoint_minutes
    within = [] if minutes is None else [KeepWithinEpochs(folder.last, minutes)]
    kept = [] if trial else [history, KeepBestAndLast(folder.best, folder.last, settings.monitor), *within, stop]
    options["logger"] = not trial and _loggers(loggers, tracker)
    options["callbacks"] = [*_other_callbacks(callbacks, settings, options), *kept]
    options["plugins"] = [WholeCheckpoints(on_first_checkpoint), *options.get("plugins", ())]
    with _readable_errors(folder.last), _quiet_lightning():
        module.prepare_in(data)
        _place(data, compute, progress)
        if not trial:
            _log_estimate(module, data, folder, settings, compute, trained)
        trainer = _trainer(folder, settings, compute, options)
        with stop.listening():
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if trial:
        log.info("A trainer.fast_dev_run keeps nothing; training and validation work.")
    if trial or compute.ranks.rank > 0:
        return None
    evaluation, written = _score_best(folder, module, data, compute, progress, draw)
    _log_result(evaluation, written, folder, tracker, trainer)
    return evaluation


def _trained_before(checkpoint: Path, module: SegmentationModule) -> tuple[int, int]:
    """Whole epochs that a checkpoint has behind it, and steps of the epoch that it stopped in.

    Raises:
        CheckpointError: if it is of another model.
    """
    saved = bundle.read_checkpoint(checkpoint)
    bundle.check_same_model(saved[bundle.CHECKPOINT_KEY], module.trained().describe())
    loop = saved["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    return epochs["processed"], batches["ready"] if epochs["ready"] > epochs["processed"] else 0


def _score_best(
    folder: RunFolder,
    module: SegmentationModule,
    data: ScanDataModule,
    compute: Compute,
    progress: Progress,
    draw: Callable[[Evaluation, Path], list[Path]] | None,
) -> tuple[Evaluation, list[Path]]:
    """Score best.ckpt on every validation scan; write metrics.json, pictures and the bundle."""
    trained = bundle.load_checkpoint(folder.best, [type(module.model.network_called)])
    predictor = Predictor(trained, compute.device)
    evaluation = evaluate_model(predictor, data.source("val"), label_map=data.label_map, progress=progress("scoring"))
    written = [evaluation.write(folder.path), *(draw(evaluation, folder.path) if draw else [])]
    scores = evaluation.scores
    trained.provenance["validation"] = {"miou": scores.miou, "miou_present": scores.miou_present}
    bundle.save_bundle(folder.bundle, trained)
    return evaluation, written


def _log_result(
    evaluation: Evaluation, written: Sequence[Path], folder: RunFolder, tracker: Tracker, trainer: pl.Trainer
) -> None:
    """Log the final scores to the tracker and to all loggers, and the files to the tracker."""
    scores = evaluation.scores
    best = {"best/miou": scores.miou, "best/miou_present": scores.miou_present}
    tracker.log_metrics(best)
    for logger in trainer.loggers:
        belongs_to_tracker = tracker.client is not None and getattr(logger, "experiment", None) is tracker.client
        if not belongs_to_tracker:
            logger.log_metrics(best, step=trainer.global_step)
            logger.finalize("success")
    for path in written:
        tracker.log_artifact(path, "figures" if path.suffix == ".png" else None)
    tracker.log_artifact(folder.bundle, "bundle")
    tracker.log_artifact(folder.best, "checkpoints")


def seed_everything(seed: int) -> None:
    """Seed the initial weights, which are not drawn by a counter of their own."""
    pl.seed_everything(seed, verbose=False)


def newest_whole(folder: RunFolder) -> Path:
    """The newest checkpoint of a run that is whole; a preempted machine may have left one cut off.

    Raises:
        CheckpointError: if none is whole, or one brings code.
    """
    problem: DamagedCheckpoint | None = None
    for checkpoint in filter(Path.is_file, (folder.last, folder.best)):
        try:
            bundle.read_checkpoint(checkpoint)
        except DamagedCheckpoint as error:
            problem = problem or error
            continue
        if problem is not None:
            log.warning("%s; resuming from %s", problem, checkpoint.name)
        return checkpoint
    raise problem or CheckpointError("the run has no checkpoint", where=folder.path)


def _place(data: ScanDataModule, compute: Compute, progress: Progress) -> None:
    """Bring the training scans to where the model trains, and log where that is."""
    data.place(compute.device)
    residency, _ = data.table(progress("loading train"))
    places = {"disk": "read from disk", "memory": "in memory", "device": f"on {residency.device}"}
    log.info("Training scans: %s (%s)", places[residency.place], residency.reason)


def _log_estimate(
    module: SegmentationModule,
    data: ScanDataModule,
    folder: RunFolder,
    settings: TrainerSettings,
    compute: Compute,
    trained: tuple[int, int],
) -> None:
    expected = estimate_run(module, data, compute, settings, folder=folder.path, trained=trained)
    if not expected.steps_left:
        log.info("All %s are trained; for more, set trainer.max_epochs=N", counted(expected.epochs, "epoch"))
        return
    parameters = sum(p.numel() for p in module.model.parameters())
    log.info("Model: %s, %s parameters; on %s", module.model.title, f"{parameters:,}", compute.reason)
    log.info("Estimate: training and validation take %s", expected)


def _loggers(given: Sequence[Logger] | None, tracker: Tracker) -> Sequence[Logger] | Literal[False]:
    if given is None:
        own = tracker.lightning_logger()
        return [own] if own else False
    return list(given) or False


def _other_callbacks(given: Sequence[Callback], settings: TrainerSettings, options: dict[str, Any]) -> list[Callback]:
    """The given callbacks, the progress and the averaging of the weights; `options` get the matching progress bar."""
    own_bar = any(isinstance(callback, ProgressBar) for callback in given)
    shown = options.get("enable_progress_bar") is not False and not own_bar
    options["enable_progress_bar"] = own_bar
    averaging = [] if settings.ema_decay is None else [EMAWeightAveraging(decay=settings.ema_decay)]
    return [*given, TrainingProgress(shown=shown), *averaging]


def _trainer(folder: RunFolder, settings: TrainerSettings, compute: Compute, options: dict[str, Any]) -> pl.Trainer:
    # epochs are logged although steps are not
    defaults = {"num_sanity_val_steps": 0, "log_every_n_steps": 0, "enable_model_summary": False}
    return pl.Trainer(
        **{**defaults, **options},
        max_epochs=settings.max_epochs or -1,
        accelerator=compute.accelerator,
        devices=compute.ranks.local_world if compute.index is None else [compute.index],
        num_nodes=compute.ranks.nodes,
        precision=compute.precision,
        gradient_clip_val=settings.gradient_clip_val,
        check_val_every_n_epoch=settings.check_val_every_n_epoch,
        limit_train_batches=settings.limit_train_batches,
        limit_val_batches=settings.limit_val_batches,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )


@contextmanager
def _readable_errors(last: Path) -> Iterator[None]:
    """Raises OutOfMemory, or PeerLost if another process has ended, in place of torch's errors."""
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
            remedy = "Continue with resume=RUN_FOLDER." if last.is_file() else ""
            raise PeerLost("another process of this training has ended", where=first_line, remedy=remedy) from error
        raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's remarks about what is intended here, or what this library reports better."""
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
