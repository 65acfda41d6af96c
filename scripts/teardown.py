"""Remove what pointseg made in an Azure ML workspace and its resource group: whatever has the tag made_by: pointseg.

  python scripts/teardown.py plan=true                                  what exists, and what it costs
  python scripts/teardown.py                                            schedules, endpoints and containers; asks first
  python scripts/teardown.py endpoint=street yes=true                   only what has this name, without a question
  python scripts/teardown.py 'only=[endpoints]' clusters=true           endpoints and clusters
  python scripts/teardown.py assets=true                                and archives models, environments, data, components

Data, datastores, jobs, the workspace and things without the tag stay. After a failure, the same command continues.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run


def main() -> None:
    """Entry point of `python scripts/teardown.py`."""
    run("teardown", __doc__ or "")


if __name__ == "__main__":
    main()
