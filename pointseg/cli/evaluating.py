"""The `evaluate` verb: a checkpoint on a split, to metrics.json and figures."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pointseg import tracking
from pointseg.cli import checks, saved, submitting
from pointseg.cli.building import build_data
from pointseg.cli.entry import Job
from pointseg.cli.values import plain, progress_bar, refused_values
from pointseg.data.sources import ScanSource
from pointseg.errors import ConfigError, DataError
from pointseg.evaluation import Evaluation, evaluate, scores_table
from pointseg.files import check_writable, expanded, is_file
from pointseg.labels import LabelMap
from pointseg.predictor import Predictor
from pointseg.tracking.models import find_model
from pointseg.training.devices import choose_compute
from pointseg.training.run_folder import RunFolder
from pointseg.views import Views
from pointseg.words import counted

__all__ = ["data_name", "data_of_run", "evaluate_job", "fetch_checkpoint", "views_of", "with_data_of_run"]

log = logging.getLogger(__name__)


def evaluate_job(job: Job) -> None:
    """Score `checkpoint` on `split` and write the result.

    Raises:
        ConfigError: if no checkpoint is named.
        CheckpointError, DataError: if it, or the data, cannot be used.
    """
    config = job.config
    if config.submission:
        submitting.check_archive(config)
        return
    if not config.checkpoint:
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy="Name it: checkpoint=RUN_FOLDER.")
    views = views_of(config)
    compute = choose_compute(config.accelerator)
    folder = Path(str(config.output)).expanduser() if config.output else job.folder
    check_writable(folder, "output" if config.output else "hydra.run.dir")
    path = fetch_checkpoint(config, job)
    predictor = Predictor.load(path, compute.device, views=views)
    config = with_data_of_run(config)
    checks.check_targets(config)
    data = build_data(config, predictor.trained.features)
    source = data.source(config.split, progress_bar(f"{config.split} scans"))
    log.info("Evaluating %s on %s of %s, on %s", path, counted(len(source), "scan"), data_name(config), compute.reason)
    began = time.perf_counter()
    result = evaluate(predictor, source, label_map=data.label_map, progress=progress_bar("scoring"))
    seconds = time.perf_counter() - began
    written = result.write(folder)
    log.info("\n%s\n", scores_table(result.scores, result.label_map, result.scans))
    if views.count > 1:
        _say_gain(path, views, result, seconds, source, data.label_map, compute.device)
    for file in written:
        log.info("  %s", file)
    _track(config, job, result.scores.to_dict(result.label_map.class_names, result.scans), written)


def views_of(config: DictConfig) -> Views:
    """The `views` section."""
    with refused_values("views"):
        return Views(**plain(config.views))


def _say_gain(
    path: str | Path,
    views: Views,
    result: Evaluation,
    seconds: float,
    source: ScanSource,
    label_map: LabelMap,
    device: torch.device,
) -> None:
    """What the views brought and what they cost, against the same scans as they are."""
    began = time.perf_counter()
    plainly = evaluate(
        Predictor.load(path, device), source, label_map=label_map, show=0, progress=progress_bar("without views")
    )
    before, after = 100 * plainly.scores.miou, 100 * result.scores.miou
    times = seconds / (time.perf_counter() - began)
    log.info(
        "%d views: mIoU %.2f %% instead of %.2f %% (%+.2f), accuracy %+.2f, at %.1f times the time, %.2f s a scan\n",
        views.count,
        after,
        before,
        after - before,
        100 * (result.scores.accuracy - plainly.scores.accuracy),
        times,
        seconds / result.scans,
    )


def fetch_checkpoint(config: DictConfig, job: Job, key: str = "checkpoint") -> str | Path:
    """Where the model lies that a key names; one of a registry is downloaded, and in a folder of one it is looked for."""
    checkpoint = str(config[key])
    if checkpoint.startswith("models:/"):
        # that nothing is recorded does not say that there is no registry
        registry = tracking.resolve_uri(config.tracking.uri, job.start_dir) or "auto"
        return tracking.download_model(checkpoint, registry, job.start_dir)
    folder = expanded(checkpoint)
    return find_model(folder) if is_file(folder / "MLmodel") else checkpoint


def with_data_of_run(config: DictConfig, key: str = "checkpoint") -> DictConfig:
    """The same as `data_of_run`, where they can be read.

    Raises:
        DataError: if the run's data are not on this machine.
    """
    found = data_of_run(config, key)
    path, root = saved.run_config_of(str(config[key])), found.data.get("root")
    if path is None or not root or root == config.data.get("root") or Path(str(root)).expanduser().exists():
        return found
    asset = RunFolder(path.parent).describe().get("inputs", {}).get("data.root")
    raise DataError(
        f"the run was made in Azure ML, of {asset}" if asset else "the data that the run was made of are not here",
        where=f"data.root={root}",
        remedy="Name a copy on this machine: data=semantickitti data.root=DIR.",
    )


def data_of_run(config: DictConfig, key: str = "checkpoint") -> DictConfig:
    """Where the checkpoint that a key names lies in a run folder and no other data is chosen: the data of that run, plus
    overrides."""
    overrides = list(HydraConfig.get().overrides.task)
    path = saved.run_config_of(str(config[key]))
    if path is None or saved.names_data(overrides):
        return config
    earlier = saved.load_config(path)
    if any(o.startswith("data=") for o in overrides) and earlier.data.get("_target_") != config.data._target_:
        return config  # named in quotes
    only_data = OmegaConf.create({"data": OmegaConf.to_container(earlier.data)})
    assert isinstance(only_data, DictConfig)
    data_overrides = [o for o in overrides if o.startswith("data.")]
    return saved.with_overrides(only_data, config, data_overrides, key)


def data_name(config: DictConfig) -> str:
    """Which data are scored, in words."""
    root = config.data.get("root")
    kind = str(config.data._target_).rsplit(".", 1)[-1].removesuffix("DataModule")
    return f"{kind} {config.split}" + (f" in {root}" if root else "")


def _track(config: DictConfig, job: Job, scores: dict[str, object], written: list[Path]) -> None:
    settings = config.tracking
    with tracking.start(
        settings.uri,
        settings.experiment,
        settings.run_name or f"evaluate-{config.split}",
        start_dir=job.start_dir,
        params={"checkpoint": str(config.checkpoint), "split": config.split, "data": plain(config.data)},
        tags={**plain(settings.tags), "verb": "evaluate"},
        system_metrics=settings.system_metrics,
    ) as tracker:
        values = json.loads(json.dumps(scores))
        tracker.log_metrics({f"test/{k}": values[k] for k in ("miou", "miou_present", "accuracy")})
        tracker.log_metrics({f"test/iou/{name}": value for name, value in values["iou"].items()})
        for file in written:
            tracker.log_artifact(file, "figures" if file.suffix == ".png" else None)
