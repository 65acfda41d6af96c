"""Make a folder of scans or tables a data asset of Azure ML, versioned by its content.

  python scripts/register_data.py path=semantickitti                              upload it as semantic-kitti:HASH
  python scripts/register_data.py path=STORE name=kitti-packed plan=true          say what would be done
  python scripts/register_data.py path=TABLES type=mltable                        tables of points, semantic-kitti-tabular
  python scripts/register_data.py path=azureml://datastores/NAME/paths/FOLDER version=1    point at what lies there
  python -m pointseg.train +experiment=kitti compute=aml_gpu data.root=azureml:semantic-kitti:HASH

The same folder again finds its version and uploads nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run

if TYPE_CHECKING:
    from pointseg.cli import Job


def main() -> None:
    """Entry point of `python scripts/register_data.py`."""
    run("register_data", register_data, __doc__ or "")


def register_data(job: Job) -> None:
    """One data asset."""
    from pointseg.cli.data_registering import register_data_job

    register_data_job(job)


if __name__ == "__main__":
    main()
