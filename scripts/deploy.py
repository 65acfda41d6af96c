"""Put a trained model to work: on Azure ML as a batch endpoint, for folders of scans, or a managed online endpoint; as a
container of Azure Container Instances; or as a service of this machine.

  python scripts/deploy.py target=batch checkpoint=RUN_FOLDER plan=true                     what would be done
  python scripts/deploy.py target=batch checkpoint=RUN_FOLDER endpoint=pointseg-batch       endpoint, deployment, default
  python scripts/deploy.py target=batch checkpoint=models:/pointnet-semseg@champion batch.cluster=cpu-cluster \\
      batch.instances=4 batch.concurrency=2
  python scripts/deploy.py target=batch checkpoint=azureml:street:3 delete_old=true         and the older deployments go
  python scripts/invoke.py endpoint=batch:pointseg-batch input=SCANS output=DIR wait=true   labels of a folder
  python scripts/deploy.py target=managed checkpoint=RUN_FOLDER endpoint=street plan=true   what would be done, and its cost
  python scripts/deploy.py target=managed checkpoint=RUN_FOLDER endpoint=street             tested, then traffic by steps
  python scripts/invoke.py endpoint=online:street input=SCANS output=DIR                    labels by requests

  python scripts/deploy.py target=aci checkpoint=RUN_FOLDER endpoint=street aci.registry=REGISTRY   image, group, https
  python scripts/deploy.py target=local checkpoint=RUN_FOLDER endpoint=street local.port=8000        in the background here
  python scripts/deploy.py target=local local.action=status                                 and local.action=stop

The same call again has nothing to do; another model or setting makes a deployment beside the old one, which stays the
default, or keeps its traffic, until the new one is ready. With target=aci the group is changed in place, and callers get no
answer meanwhile; target=local exchanges the model. scripts/teardown.py removes what was made in Azure.
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
    """Entry point of `python scripts/deploy.py`."""
    run("deploy", deploy, __doc__ or "")


def deploy(job: Job) -> None:
    """One deployment."""
    from pointseg.cli.deploying import deploy_job

    deploy_job(job)


if __name__ == "__main__":
    main()
