"""The registry of Azure ML's tracking server: MLflow's REST interface of version 2 without aliases, models and versions in memory."""

from __future__ import annotations

import re
from typing import Any

from .shapes import complete
from .store import Store


class Missing(Exception):
    """What is asked for is not there."""


class Exists(Exception):
    """What is to be made is there already."""


class Registry:
    """Actions named as their paths are. `models` holds, by name, versions, which are models of the workspace as well."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.models: dict[str, dict[str, Any]] = {}

    def _registered_models_create(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        if words["name"] in self.models:
            raise Exists(f"Registered Model (name={words['name']}) already exists.")
        self.models[words["name"]] = {"versions": {}}
        return {"registered_model": {"name": words["name"]}}

    def _registered_models_get(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        self._model(words)
        return {"registered_model": {"name": words["name"]}}

    def _model_versions_search(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        found = re.fullmatch(r"name ?= ?'([^']+)'", str(words.get("filter", "")))
        versions = self.models.get(found[1], {"versions": {}})["versions"] if found else {}
        return {"model_versions": list(reversed(versions.values()))}

    def _model_versions_create(self, workspace: str, words: dict[str, Any]) -> dict[str, Any]:
        versions = self._model(words)["versions"]
        number = str(len(versions) + 1)
        kept = {key: words.get(key, "") for key in ("name", "source", "run_id", "description")}
        versions[number] = {**kept, "version": number, "tags": words.get("tags", []), "status": "READY"}
        below = f"models/{words['name']}/versions/{number}"
        asset = {
            "modelUri": kept["source"],
            "modelType": "mlflow_model",
            "isArchived": False,
            "tags": {},
            "properties": {},
        }
        self._store.put(f"{workspace}/{below}", complete(below, {"properties": asset}))
        return {"model_version": versions[number]}

    def _model_versions_get(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        return {"model_version": self._version(words)}

    def _model_versions_get_download_uri(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        return {"artifact_uri": self._version(words)["source"]}

    def _model_versions_set_tag(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        version = self._version(words)
        others = [tag for tag in version["tags"] if tag["key"] != words["key"]]
        version["tags"] = [*others, {"key": words["key"], "value": words["value"]}]
        return {}

    def _model(self, words: dict[str, Any]) -> dict[str, Any]:
        if words.get("name") not in self.models:
            raise Missing(f"Registered Model with name={words.get('name')} not found")
        return self.models[words["name"]]

    def _version(self, words: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] | None = self._model(words)["versions"].get(str(words.get("version")))
        if found is None:
            raise Missing(f"Model Version (name={words['name']}, version={words.get('version')}) not found")
        return found
