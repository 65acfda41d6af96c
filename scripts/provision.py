"""Make what jobs in Azure ML need, or change it: workspace, clusters, datastore, environments.

  python scripts/provision.py plan=true                                         what exists, what would be done
  python scripts/provision.py                                                   do it; a second run finds nothing to do
  python scripts/provision.py clusters.gpu-cluster.max_nodes=8 clusters.cpu-cluster=null
  python scripts/provision.py +clusters.spot.vm_size=Standard_NC24ads_A100_v4 +clusters.spot.tier=low_priority
  python scripts/provision.py +clusters.lab.kind=kubernetes +clusters.lab.resource_id=/subscriptions/...
  python scripts/provision.py workspace.create=true workspace.location=westeurope azure.workspace=NAME azure.group=GROUP

Nothing is deleted. A change that Azure cannot make to an existing cluster is refused before anything is sent.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run


def main() -> None:
    """Entry point of `python scripts/provision.py`."""
    run("provision", __doc__ or "")


if __name__ == "__main__":
    main()
