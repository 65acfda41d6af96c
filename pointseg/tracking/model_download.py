"""Download registered models."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from pointseg.core.addresses import split_registered_model
from pointseg.core.errors import TrackingError
from pointseg.tracking.aliases import holder_of
from pointseg.tracking.store import open_store, plain_store_errors, resolve_uri

__all__ = ["download_model", "find_model", "registered_version"]


def download_model(uri: str, tracking_uri: str | None, start_dir: Path) -> Path:
    """Copy a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`, into a folder for `Predictor.load`.

    The copy is removed when this process ends.

    Raises:
        TrackingError: if the URI is malformed, tracking is off, the model, alias or its files do not exist, or a bundle is
            not the one that was registered.
    """
    name, version, store = registered_version(uri, tracking_uri, start_dir)
    client = open_store(store)
    import mlflow.artifacts

    folder = Path(tempfile.mkdtemp(prefix="pointseg-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with plain_store_errors(f"{uri} in {store}"):
        source = client.get_model_version_download_uri(name, version)
        tags = client.get_model_version(name, version).tags
        downloaded = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=store))
    model = find_model(downloaded)
    _refuse_changed(model, tags.get("bundle.sha256"), uri)
    return model


def registered_version(uri: str, tracking_uri: str | None, start_dir: Path) -> tuple[str, str, str]:
    """Name, current version number and registry of models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest.

    Raises:
        TrackingError: if the URI is malformed, tracking is off, or the model or alias does not exist.

    Example:
        >>> registered_version("models:/pointnet@champion", "auto", Path("/data"))  # doctest: +SKIP
        ('pointnet', '3', 'sqlite:////data/mlruns.db')
    """
    name, alias, version = split_registered_model(uri)
    store = resolve_uri(tracking_uri, start_dir)
    if store is None:
        remedy = "Set tracking.uri to the registry's address."
        raise TrackingError("a registered model needs a registry, but tracking is off", where=uri, remedy=remedy)
    with plain_store_errors(f"{uri} in {store}"):
        if alias:
            holder = holder_of(open_store(store), store, name, alias)
            if holder is None:
                remedy = "Give it with register_model promote=ALIAS, or name a version."
                raise TrackingError(
                    f"no version of {name} has the alias {alias}", where=f"{uri} in {store}", remedy=remedy
                )
            version = holder.version
        elif version == "latest":
            versions = open_store(store).search_model_versions(f"name = '{name}'")
            version = str(max((int(item.version) for item in versions), default=0))
    return name, str(version), store


def _refuse_changed(folder: Path, expected: str | None, uri: str) -> None:
    """Raises TrackingError if a bundle is not the registered one."""
    from pointseg.tracking.packaging import bundle_sha256

    if expected is None or not (folder / "weights.safetensors").is_file():
        return  # registered by other software, or an export, which has no hash
    if bundle_sha256(folder) != expected:
        raise TrackingError(
            "the files of this version are not those that were registered",
            where=uri,
            remedy="They were damaged or changed in the store: register the model again.",
        )


def find_model(folder: Path) -> Path:
    """What `Predictor.load` takes within a registered folder: the bundle inside MLflow's format, the newest version of a
    Triton repository, or any other folder as it is."""
    inside = sorted(folder.glob("artifacts/*/model.yaml"))
    if (folder / "MLmodel").is_file() and inside:
        return inside[0].parent
    exports = [path.parent for path in folder.glob("*/*/model.onnx") if path.parent.name.isdigit()]
    if exports and not (folder / "model.yaml").is_file():
        return max(exports, key=lambda path: int(path.name))
    return folder
