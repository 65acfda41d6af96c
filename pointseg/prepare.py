"""Write a synthetic data set in SemanticKITTI's layout.

  python -m pointseg.prepare output=DIR synthetic.scans=200
  python -m pointseg.prepare output=DIR synthetic.scans=50 synthetic.seed=7 synthetic.beams=32 synthetic.azimuth_steps=1000

Then: python -m pointseg.train +experiment=kitti data.root=DIR
"""

from __future__ import annotations

from pointseg.cli import Job, run


def main() -> None:
    """Entry point of `python -m pointseg.prepare`."""
    run("prepare", prepare, __doc__ or "")


def prepare(job: Job) -> None:
    """Write the scans that the configuration asks for."""
    from pointseg.cli.preparing import prepare_job

    prepare_job(job)


if __name__ == "__main__":
    main()
