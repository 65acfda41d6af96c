"""The `prepare` verb: a synthetic data set on disk."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path

from pointseg.cli.building import plain, progress_bar
from pointseg.cli.entry import Job
from pointseg.data.synthetic import write_sequences
from pointseg.errors import ConfigError
from pointseg.files import check_writable
from pointseg.words import counted

__all__ = ["prepare_job"]

log = logging.getLogger(__name__)


def prepare_job(job: Job) -> None:
    """Write `synthetic.scans` scans below `output`.

    Raises:
        ConfigError: if no output folder is named, or a setting cannot be used.
        OutputError: if the folder cannot be written or holds other scans.
    """
    if not job.config.output:
        raise ConfigError("no output folder is given", where="output", remedy="Name it: output=DIR.")
    output = Path(str(job.config.output)).expanduser()
    check_writable(output, "output")
    settings = plain(job.config.synthetic)
    began = time.perf_counter()
    write_sequences(output, progress=progress_bar("writing"), **settings)
    seconds = time.perf_counter() - began
    size = sum(file.stat().st_size for file in output.rglob("*.bin"))
    log.info(
        "Wrote %s (%.0f MB of points) into %s in %.0f s, %.1f scans/s",
        counted(settings["scans"], "scan"),
        size / 1e6,
        output,
        seconds,
        settings["scans"] / seconds,
    )
    log.info("Train on them: python -m pointseg.train +experiment=kitti data.root=%s", shlex.quote(str(output)))
