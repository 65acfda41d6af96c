"""Register a trained model, and promote it if it is not worse than the champion.

  python scripts/register_model.py run=RUN_FOLDER name=pointnet-semseg                     a version, NAME@candidate
  python scripts/register_model.py run=RUN_FOLDER name=pointnet-semseg promote=champion    and champion, if not worse
  python scripts/register_model.py promote=champion version=3 data=semantickitti data.root=DIR class_margin=0.02
  python scripts/register_model.py run=RUN_FOLDER format=triton_model tracking.uri=http://127.0.0.1:5000
  mlflow models serve -m models:/pointnet-semseg@champion --env-manager local              answers POST /invocations

Exit code 3: not promoted; the table says why. checkpoint=models:/NAME@champion works with every verb that takes one.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run


def main() -> None:
    """Entry point of `python scripts/register_model.py`."""
    run("register_model", __doc__ or "")


if __name__ == "__main__":
    main()
