"""Registered models as folders."""

from __future__ import annotations

import atexit
import re
from pathlib import Path

from pointseg.errors import TrackingError
from pointseg.tracking.store import connect, plain_errors, resolve_uri

__all__ = ["download_model", "find_model", "registered_version"]


def download_model(uri: str, tracking_uri: str | None, start_dir: Path) -> Path:
    """The folder of a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`: what `Predictor.load` takes,
    whichever of `packaging.FORMATS` it was registered in.

    It is a copy that lives as long as this process; changing it changes nothing in the registry.

    Raises:
        TrackingError: where the URI is malformed, tracking is off, the model, alias or its files do not exist, or a bundle
            is not the one that was registered.

    Example:
        >>> download_model("models:/pointnet@champion", "auto", Path.cwd())  # doctest: +SKIP
    """
    name, version, store = registered_version(uri, tracking_uri, start_dir)
    client = connect(store)
    import shutil
    import tempfile

    import mlflow.artifacts

    folder = Path(tempfile.mkdtemp(prefix="pointseg-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with plain_errors(f"{uri} in {store}"):
        source = client.get_model_version_download_uri(name, version)
        tags = client.get_model_version(name, version).tags
        found = find_model(Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=store)))
    _refuse_changed(found, tags.get("bundle.sha256"), uri)
    return found


def registered_version(uri: str, tracking_uri: str | None, start_dir: Path) -> tuple[str, str, str]:
    """Name, number of the version that is meant now, and the registry, of models:/NAME@ALIAS, models:/NAME/VERSION or
    models:/NAME/latest.

    Raises:
        TrackingError: where the URI is malformed, tracking is off, or the model or alias does not exist.

    Example:
        >>> registered_version("models:/pointnet@champion", "auto", Path("/data"))  # doctest: +SKIP
        ('pointnet', '3', 'sqlite:////data/mlruns.db')
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
    name, alias, version = match.groups()
    with plain_errors(f"{uri} in {store}"):
        if alias:
            version = connect(store).get_model_version_by_alias(name, alias).version
        elif version == "latest":
            versions = connect(store).search_model_versions(f"name = '{name}'")
            version = max((int(item.version) for item in versions), default=0)
    return name, str(version), store


def _refuse_changed(folder: Path, expected: str | None, uri: str) -> None:
    """Raises TrackingError if a bundle is not the one that was registered."""
    from pointseg.tracking.packaging import bundle_sha256

    if expected is None or not (folder / "weights.safetensors").is_file():
        return  # another's version, or an export, which has no hash of its own
    if bundle_sha256(folder) != expected:
        raise TrackingError(
            "the files of this version are not those that were registered",
            where=uri,
            remedy="They were damaged or changed in the store: register the model again.",
        )


def find_model(folder: Path) -> Path:
    """What `Predictor.load` takes within a folder of a registry: of MLflow's format the bundle inside, of a Triton
    repository its newest version, and any other folder as it is.

    Example:
        >>> find_model(Path("downloaded/model"))  # doctest: +SKIP
        PosixPath('downloaded/model/artifacts/bundle')
    """
    inside = sorted(folder.glob("artifacts/*/model.yaml"))
    if (folder / "MLmodel").is_file() and inside:
        return inside[0].parent
    exports = [path.parent for path in folder.glob("*/*/model.onnx") if path.parent.name.isdigit()]
    if exports and not (folder / "model.yaml").is_file():
        return max(exports, key=lambda path: int(path.name))
    return folder
