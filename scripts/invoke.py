"""Label point clouds with a scoring service: python -m pointseg.serve, its container, or an Azure ML endpoint.

  python scripts/invoke.py url=http://127.0.0.1:8000 input=street.laz output=DIR       a classified copy of the file
  POINTSEG_KEY=KEY python scripts/invoke.py url=https://NAME.REGION.inference.ml.azure.com/score input=SCANS output=DIR
  python scripts/invoke.py url=URL input='SCANS/**/*.bin'                              counts and latency alone, no files
  python scripts/invoke.py url=URL input=KITTI output=DIR deployment=blue              sequences/SS/predictions/*.label
  python scripts/invoke.py endpoint=online:NAME input=SCANS output=DIR                 of the workspace; its key is fetched
  python scripts/invoke.py endpoint=batch:NAME input=SCANS output=DIR wait=true        a folder, as a job in Azure ML
  python scripts/invoke.py endpoint=batch:NAME input=azureml:kitti:1                   of a data asset; does not wait
  python scripts/invoke.py endpoint=batch:NAME job=JOB output=DIR                      what a job has written

The files are the same as python -m pointseg.predict writes with the service's model. Exit code 2: some files failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run


def main() -> None:
    """Entry point of `python scripts/invoke.py`."""
    run("invoke", __doc__ or "")


if __name__ == "__main__":
    main()
