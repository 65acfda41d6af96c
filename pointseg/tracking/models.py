"""Registered models as folders."""

from __future__ import annotations

import atexit
import re
from pathlib import Path

from pointseg.errors import TrackingError
from pointseg.tracking.store import connect, plain_errors, resolve_uri

__all__ = ["download_model"]


def download_model(uri: str, tracking_uri: str | None, start_dir: Path) -> Path:
    """The folder of a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    It is a copy that lives as long as this process; changing it changes nothing in the registry.

    Raises:
        TrackingError: where the URI is malformed, tracking is off, or the model, alias or its files do not exist.

    Example:
        >>> download_model("models:/pointnet@champion", "auto", Path.cwd())  # doctest: +SKIP
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/([0-9]+|latest))", uri)
    if not match:
        raise TrackingError(
            "this does not name a registered model", where=uri, remedy="Write models:/NAME@ALIAS or models:/NAME/1."
        )
    store = resolve_uri(tracking_uri, start_dir)
    if store is None:
        raise TrackingError("a registered model needs a registry, but tracking is off", where=uri,
                            remedy="Set tracking.uri to the registry's address.")  # fmt: skip
    client = connect(store)
    import shutil
    import tempfile

    import mlflow.artifacts

    name, alias, version = match.groups()
    folder = Path(tempfile.mkdtemp(prefix="pointseg-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with plain_errors(f"{uri} in {store}"):
        if alias:
            version = client.get_model_version_by_alias(name, alias).version
        elif version == "latest":
            found = client.search_model_versions(f"name = '{name}'")
            version = max((int(item.version) for item in found), default=0)
        source = client.get_model_version_download_uri(name, str(version))
        return Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=store))
