"""A command as a job, and where it runs."""

from __future__ import annotations

from pointseg.compute.local import run_locally
from pointseg.compute.spec import JobSpec

__all__ = ["JobSpec", "run_locally"]
