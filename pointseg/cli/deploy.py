"""`scripts/deploy.py` as a module, for jobs that run an installed wheel, which has no scripts."""

from __future__ import annotations

from pointseg.cli.deploying import deploy_job
from pointseg.cli.entry import run

if __name__ == "__main__":
    run("deploy", deploy_job, __doc__ or "")
