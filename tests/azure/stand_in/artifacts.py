"""Artifacts of runs: the addresses, signed, where azureml-mlflow writes and reads their blobs."""

from __future__ import annotations

import re

from .blobs import Blobs
from .messages import Answer, AzureError, Request
from .store import Store

PATH = re.compile(
    r"/history/v1\.0(/subscriptions/.*/workspaces/[^/]+)/experiments/[^/]+/runs/([^/]+)/artifacts/?(.*)", re.IGNORECASE
)


class Artifacts:
    """Answers paths that `PATH` matches."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store, self._blobs = store, blobs

    def answer(self, request: Request) -> Answer:
        found = PATH.fullmatch(request.path)
        if found:
            workspace, run, rest = found[1], found[2], found[3]
            container = self._store.get(f"{workspace}/datastores/workspaceartifactstore")["properties"]["containerName"]
            prefix = f"ExperimentRun/dcid.{run}/"
            if rest == "batch/metadata":
                names = [entry["path"] for entry in request.body["paths"]]
                return Answer(
                    200, {"artifactContentInformation": {name: self._place(container, prefix, name) for name in names}}
                )
            if rest == "contentinfo":
                return Answer(
                    200, self._place(container, prefix, self._existing(container, prefix, request.query["path"]))
                )
            if rest == "":
                paths = [name[len(prefix) :] for name in self._blobs.list(container, prefix)]
                return Answer(
                    200,
                    {
                        "value": [
                            {"path": path, "container": f"dcid.{run}", "origin": "ExperimentRun"} for path in paths
                        ]
                    },
                )
        raise AzureError(501, "NotInStandIn", f"The stand-in does not know {request.method} {request.path}.")

    def _existing(self, container: str, prefix: str, name: str) -> str:
        if prefix + name not in self._blobs.list(container, prefix + name):
            raise AzureError(404, "NotFound", f"There is no artifact {name}.")
        return name

    def _place(self, container: str, prefix: str, name: str) -> dict[str, str]:
        address = f"{self._blobs.url}/{container}/{prefix}{name}?{self._blobs.sas(container)}"
        return {"contentUri": address, "origin": "ExperimentRun", "container": prefix.split("/")[1], "path": name}
