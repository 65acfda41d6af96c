"""`scripts/register_model.py` as a module, for jobs that run an installed wheel, which has no scripts."""

from __future__ import annotations

from pointseg.cli.entry import run
from pointseg.cli.registering import register_job

if __name__ == "__main__":
    run("register_model", register_job, __doc__ or "")
