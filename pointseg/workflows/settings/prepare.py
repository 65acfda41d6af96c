"""What `prepare` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import READS, WRITES, key, section
from pointseg.workflows.settings.shared import ON_ERROR, SyntheticConfig

__all__ = ["PrepareConfig"]

FORMATS = ("auto", "packed", "raw", "parquet", "csv")
RECORDS = ("auto", "narrow", "wide")


@dataclass
class CheckConfig:
    """What values no working sensor gives."""

    max_range: float = key(250.0, "metres from the sensor, level")
    max_height: float = key(60.0, "metres, up or down")
    allow_gaps: bool = key(False, "whether frame numbers may leave some out")


@dataclass
class SurroundingsConfig:
    """What the features measure around a point."""

    ground_cell: float = key(1.0, "metres, as features.ground_cell of training")
    pillar_cells: list[float] = key([0.5, 1.0, 2.0], "metres, as features.pillar_cells")


@dataclass
class KeyframesConfig:
    """Which scans of a drive are kept."""

    distance: float | None = key(None, "metres: leave out scans that are nearer to the last one kept, along the poses")


@dataclass
class PrepareConfig:
    """Check raw scans and pack them for training; or convert them, or make a synthetic data set.

    Example:
        >>> PrepareConfig(input="semantickitti", output="store")
        >>> PrepareConfig(synthetic=SyntheticConfig(scans=200), output="streets")
    """

    input: str | None = key(
        None, "raw scans in SemanticKITTI's layout, or a packed store; or give synthetic.scans", READS
    )
    output: str | None = key(None, "the folder that receives the result", WRITES)
    format: str = key("auto", "auto: packed of input, raw (SemanticKITTI's layout) of synthetic scans", choices=FORMATS)
    sequences: list[int | str] | None = key(
        None, "such as [00, 08]; null: all there are", heading="How raw scans are read."
    )
    labels: str = key("semantickitti", "a shipped label map, or the path of your own .yaml", READS)
    columns: list[str] = key(
        ["x", "y", "z", "remission"], "of a .bin file, float32 each; further names for further columns"
    )
    remission_scale: float = key(1.0, "what remission is divided by: 255 for sensors that store 0..255")
    validate: bool = key(
        False, "only look and report, pack nothing", heading="What is checked. Errors end with exit code 2."
    )
    on_error: str = key("stop", "skip: pack the good scans and list the rest", choices=ON_ERROR)
    manifest: str | None = key(
        None, "the manifest.json of an earlier validation: every file is compared with it", READS
    )
    check: CheckConfig = section(CheckConfig, "what values no working sensor gives")
    record: str = key(
        "auto",
        "narrow: 8 bytes a point; auto: narrow if every value fits",
        choices=RECORDS,
        heading="What a packed store keeps.",
    )
    keep_raw: bool = key(False, "keep raw labels with instance ids")
    keep_order: bool = key(
        False, "keep the place of each point in its file: needed to write label files in the original order"
    )
    surroundings: SurroundingsConfig | None = section(
        SurroundingsConfig,
        "what the features measure around a point, kept so that training need not look at whole scans; null: nothing",
    )
    keyframes: KeyframesConfig = section(KeyframesConfig, "which scans of a drive are kept")
    shard_scans: int = key(256, "scans in one shard, which is what an interruption costs")
    processes: int | None = key(
        None, "processes that share the work; null: one for each core", heading="How it is done."
    )
    report: bool = key(True, "validation, class distributions and pictures as an HTML page beside the result")
    synthetic: SyntheticConfig = section(
        SyntheticConfig,
        "a synthetic data set that is made instead of reading input",
        heading="A synthetic data set instead of input.",
    )
