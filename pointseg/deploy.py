"""`scripts/deploy.py` as a module, for jobs that run an installed wheel, which has no scripts."""

from __future__ import annotations

from pointseg.cli import run

if __name__ == "__main__":
    run("deploy", __doc__ or "")
