"""A command as a job, and where it runs."""

from __future__ import annotations

from pointseg.jobs.local import run_locally
from pointseg.jobs.spec import JobSpec

__all__ = ["JobSpec", "run_locally"]
