"""A bundle whose large tensors are in half precision: half the size, for what is sent or shipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pointseg.core.labels import LabelMap
from pointseg.data.sources import ScanSource
from pointseg.engine.bundle import TrainedModel, load_bundle, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.exporting.compare import Comparison, compare, refuse_changed

__all__ = ["BUNDLE", "export_half_bundle"]

BUNDLE = "bundle"


def export_half_bundle(
    trained: TrainedModel,
    folder: str | Path,
    source: ScanSource,
    *,
    label_map: LabelMap,
    scans: int = 4,
    min_agreement: float = 0.97,
    max_miou_loss: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Comparison]:
    """Write `bundle/` into a folder: matrices and convolutions in half precision, everything else as it is.

    What is loaded from it computes in float32, as from any other bundle.

    Args:
        source: labelled scans on which it is compared with the model.
        scans, min_agreement, max_miou_loss: as for `export_int8`.

    Raises:
        ConfigError: if the model changes more than the limits allow; nothing is left behind.
        OutputError: if it cannot be written.
    """
    place = Path(folder) / BUNDLE
    written = save_bundle(place.with_name(f".{BUNDLE}.compared"), trained, half=True)
    try:
        kinds = [type(trained.model.network_called)]
        pair = ("float32", Predictor(trained)), ("float16", Predictor(load_bundle(written, kinds)))
        comparison = compare(*pair, source, label_map=label_map, scans=scans, progress=progress)
        refuse_changed(comparison, "half precision", min_agreement, max_miou_loss)
        return save_bundle(place, trained, half=True), comparison
    finally:
        shutil.rmtree(written, ignore_errors=True)
