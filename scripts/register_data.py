"""Make a folder of scans or tables a data asset of Azure ML, versioned by its content.

  python scripts/register_data.py path=semantickitti                              upload it as semantic-kitti:HASH
  python scripts/register_data.py path=STORE name=kitti-packed plan=true          say what would be done
  python scripts/register_data.py path=TABLES type=mltable                        tables of points, semantic-kitti-tabular
  python scripts/register_data.py path=azureml://datastores/NAME/paths/FOLDER version=1    point at that folder
  python -m pointseg.train +experiment=kitti compute=aml_gpu data.root=azureml:semantic-kitti:HASH

The same folder again finds its version, and nothing is uploaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run


def main() -> None:
    """Entry point of `python scripts/register_data.py`."""
    run("register_data", __doc__ or "")


if __name__ == "__main__":
    main()
