"""A picture of what was labelled: clouds from above, in the colours of their classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.files import check_writable, expanded, whole_file
from pointseg.data.formats import read_cloud
from pointseg.engine.evaluation import evenly_spaced
from pointseg.engine.labelling import predict_cloud
from pointseg.engine.prediction.inputs import Item
from pointseg.engine.predictor import Predictor
from pointseg.pages.figures import FILE_DPI, contact_sheet
from pointseg.quality.exploration_counts import Sample

__all__ = ["check_picture", "draw_labels"]

log = logging.getLogger(__name__)

CLOUDS = 9  # shown


def check_picture(file: str | None) -> Path | None:
    """Where the picture goes; None if none is wanted.

    Raises:
        ConfigError: for another kind of file.
        OutputError: if it cannot be written there.
    """
    if file is None:
        return None
    path = expanded(file)
    if path.suffix.lower() != ".png":
        raise ConfigError("the picture is a PNG", where=f"picture={file}", remedy="Name it so: picture=FILE.png.")
    check_writable(path.parent, "picture")
    return path


def draw_labels(
    predictor: Predictor,
    items: Sequence[Item],
    file: Path,
    *,
    remission_scale: float | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Draw some of the clouds, spread evenly over them; what cannot be read is left out.

    Args:
        remission_scale, columns: as for `predict_files`.

    Raises:
        OutputError: if the picture cannot be written.
    """
    samples = []
    for number in sorted(evenly_spaced(CLOUDS, len(items))):
        source = items[number].source
        try:
            cloud = read_cloud(source, remission_scale=remission_scale, extra=predictor.extra, columns=columns)
            raw_ids = predict_cloud(predictor, cloud).raw_ids
        except DataError:
            continue
        seen = cloud.finite
        samples.append(Sample(source.stem, cloud.points[seen], predictor.label_map.to_train(raw_ids[seen])))
    if samples:
        with whole_file(file) as temporary:
            contact_sheet(samples, predictor.label_map).savefig(temporary, format="png", dpi=FILE_DPI)
        log.info("  %s", file)
