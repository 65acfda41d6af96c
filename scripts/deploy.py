"""Deploy a trained model: to Azure ML as a batch endpoint, for folders of scans, or as a managed online endpoint; to Azure
Container Instances; or as a service of this machine.

  python scripts/deploy.py target=batch checkpoint=RUN_FOLDER plan=true                     what would be done
  python scripts/deploy.py target=batch checkpoint=RUN_FOLDER endpoint=pointseg-batch       endpoint, deployment, default
  python scripts/deploy.py target=batch checkpoint=models:/pointnet-semseg@champion batch.cluster=cpu-cluster \\
      batch.instances=4 batch.concurrency=2
  python scripts/deploy.py target=batch checkpoint=azureml:street:3 delete_old=true         and deletes the older deployments
  python scripts/invoke.py endpoint=batch:pointseg-batch input=SCANS output=DIR wait=true   labels of a folder
  python scripts/deploy.py target=managed checkpoint=RUN_FOLDER endpoint=street plan=true   what would be done, and its cost
  python scripts/deploy.py target=managed checkpoint=RUN_FOLDER endpoint=street             tested, then traffic by steps
  python scripts/invoke.py endpoint=online:street input=SCANS output=DIR                    labels by requests

  python scripts/deploy.py target=aci checkpoint=RUN_FOLDER endpoint=street aci.registry=REGISTRY   image, group, https
  python scripts/deploy.py target=local checkpoint=RUN_FOLDER endpoint=street local.port=8000        in the background here
  python scripts/deploy.py target=local local.action=status                                 and local.action=stop

The same command again has nothing to do. Another model or setting makes a deployment beside the old one, which stays the
default, or keeps its traffic, until the new one is ready. target=aci changes the group in place, and callers get no answer
in the meantime; target=local replaces the model. scripts/teardown.py removes what was made in Azure.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the checkout that this file lies in comes before an installed version
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pointseg.cli import run


def main() -> None:
    """Entry point of `python scripts/deploy.py`."""
    run("deploy", __doc__ or "")


if __name__ == "__main__":
    main()
