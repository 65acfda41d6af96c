"""Score a model on a split, to metrics.json and pictures; or check an archive for the benchmark's server."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pointseg.core.config import check_choices
from pointseg.core.files import check_writable, new_run_folder
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Progress, silent
from pointseg.core.text import counted
from pointseg.data.sources import ScanSource
from pointseg.engine.evaluation import Evaluation, evaluate_model, scores_table
from pointseg.engine.metrics import Scores
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.devices import choose_compute
from pointseg.engine.views import Views
from pointseg.pages.figures import write_figures
from pointseg.workflows.evaluation.scoring import start_tracking
from pointseg.workflows.model_location import fetched_checkpoint, required
from pointseg.workflows.run_data import build_data, data_name, readable_data_of_run
from pointseg.workflows.settings.evaluate import EvaluateConfig

__all__ = ["Evaluated", "evaluate"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation.

    Attributes:
        evaluation: scores, and the scans that are shown.
        files: that were written.
    """

    evaluation: Evaluation
    files: list[Path]

    @property
    def scores(self) -> Scores:
        """By the official rule."""
        return self.evaluation.scores


def evaluate(
    config: EvaluateConfig, *, folder: str | Path | None = None, progress: Progress = silent
) -> Evaluated | None:
    """Score `checkpoint` on `split` and write the result; None where an archive was checked instead.

    Args:
        folder: of this run, where `output` names none; None: outputs/DATE/TIME.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if a key is missing or cannot be used.
        CheckpointError, DataError: if the model, or the data, cannot be used.
        InvalidData: if the server would reject the archive.

    Example:
        >>> evaluate(EvaluateConfig(checkpoint="RUN_FOLDER", split="test")).scores.miou
    """
    check_choices(config)
    if config.submission:
        from pointseg.workflows.labelling.submission import check_archive  # on use: it is seldom asked for

        check_archive(config.submission, config.data.get("root"), progress)
        return None
    checkpoint = required(config.checkpoint, "checkpoint", "Name it: checkpoint=RUN_FOLDER.")
    views = Views(**asdict(config.views))
    compute = choose_compute(config.accelerator)
    where = Path(config.output).expanduser() if config.output else Path(folder or new_run_folder())
    check_writable(where, "output" if config.output else "hydra.run.dir")
    path = fetched_checkpoint(checkpoint, config.tracking, Path.cwd())
    predictor = Predictor.load(path, compute.device, views=views, models=config.models)
    section = readable_data_of_run(config.data, checkpoint, config.models)
    data = build_data(section, predictor.trained.features, config.seed)
    source = data.source(config.split, progress(f"{config.split} scans"))
    named = data_name(section, config.split)
    log.info("Evaluating %s on %s of %s, on %s", path, counted(len(source), "scan"), named, compute.reason)
    began = time.perf_counter()
    result = evaluate_model(predictor, source, label_map=data.label_map, progress=progress("scoring"))
    seconds = time.perf_counter() - began
    written = [result.write(where), *write_figures(result, where)]
    log.info("\n%s\n", scores_table(result.scores, result.label_map, result.scans))
    if views.count > 1:
        plain = Predictor.load(path, compute.device, models=config.models)
        _log_gain(plain, views, result, seconds, source, data.label_map, progress)
    for file in written:
        log.info("  %s", file)
    _track(config, section, result, written)
    return Evaluated(result, written)


def _log_gain(
    plain: Predictor,
    views: Views,
    result: Evaluation,
    seconds: float,
    source: ScanSource,
    label_map: LabelMap,
    progress: Progress,
) -> None:
    """Log what the views gained and cost, compared with the plain scans."""
    began = time.perf_counter()
    without = evaluate_model(plain, source, label_map=label_map, show=0, progress=progress("without views"))
    before, after = 100 * without.scores.miou, 100 * result.scores.miou
    log.info(
        "%d views: mIoU %.2f %% instead of %.2f %% (%+.2f), accuracy %+.2f, at %.1f times the time, %.2f s a scan\n",
        views.count,
        after,
        before,
        after - before,
        100 * (result.scores.accuracy - without.scores.accuracy),
        seconds / (time.perf_counter() - began),
        seconds / result.scans,
    )


def _track(config: EvaluateConfig, data: dict[str, object], result: Evaluation, written: list[Path]) -> None:
    params = {"checkpoint": str(config.checkpoint), "data": data}
    with start_tracking(config.tracking, "evaluate", config.split, params) as tracker:
        values = json.loads(json.dumps(result.scores.to_dict(result.label_map.class_names, result.scans)))
        tracker.log_metrics({f"test/{k}": values[k] for k in ("miou", "miou_present", "accuracy")})
        tracker.log_metrics({f"test/iou/{name}": value for name, value in values["iou"].items()})
        for file in written:
            tracker.log_artifact(file, "figures" if file.suffix == ".png" else None)
