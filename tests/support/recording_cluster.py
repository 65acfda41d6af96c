"""A place where jobs run, as a user would write one: a shell script is submitted that records its call and runs it, as
Slurm's `srun` would on a node."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pointseg.jobs.spec import JobSpec

SCRIPT = """#!/bin/sh
echo "$@" >> calls.txt
exec "$@"
"""


@dataclass
class RecordingCluster:
    """One node of a cluster that shares this machine's files."""

    partition: str = "short"
    nodes: int = 1
    processes: int = 1

    def run(self, job: JobSpec, folder: Path) -> int:
        home = folder / "cluster"
        job.write_config(home)
        (home / "srun").write_text(SCRIPT)
        words = [sys.executable, "-m", job.module, *job.words(home)]
        done = subprocess.run(["sh", str(home / "srun"), *words], check=False)
        return done.returncode
