"""The model registry: versions with their tags, and the aliases that select one.

The same calls for every server: files go into a run as artifacts, and the version names their place. MLflow's shorter ways
(`log_model`, `register_model`) need /logged-models, which Azure ML and other servers of MLflow's older API lack.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pointseg.core.errors import ConfigError, TrackingError
from pointseg.core.redaction import redact_text
from pointseg.tracking.aliases import holder_of, move_to
from pointseg.tracking.mlflow_run import base_tags
from pointseg.tracking.mlflow_values import flatten
from pointseg.tracking.store import experiment_for, open_store, patiently, plain_store_errors, resolve_uri, sqlite_path
from pointseg.tracking.store_limits import limits_of

__all__ = ["Registry", "Version", "check_alias", "check_name"]

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Version:
    """A version of a model.

    Attributes:
        number: as a string of digits.
        run_id: the run that holds its files; None if the registry does not say.
        source: the place of the files.
    """

    name: str
    number: str
    run_id: str | None
    source: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """The address for `Predictor.load` and `checkpoint=`."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """The registry of a tracking server or database.

    Args:
        uri: as `tracking.uri`: "auto", a SQLite file, a server, or azureml://...
        start_dir: relative paths count from it.
        experiment: of runs that must be created.

    Raises:
        TrackingError: if tracking is off or the store cannot be used.

    Example:
        >>> registry = Registry("auto", Path.cwd())  # doctest: +SKIP
        >>> registry.holder("pointnet-semseg", "champion")  # doctest: +SKIP
        '3'
    """

    def __init__(self, uri: str | None, start_dir: Path, experiment: str | None = None) -> None:
        store = resolve_uri(uri, start_dir)
        if store is None:
            raise TrackingError(
                "models are registered in a store, but tracking is off",
                where="tracking.uri",
                remedy="Name a SQLite file, a server's address or azureml://...",
            )
        self.uri, self.experiment = store, experiment
        self.client = open_store(store)

    def _find(self, call: Callable[[], Any]) -> Any:
        """The answer of the store, or None if it does not exist."""
        from mlflow.exceptions import MlflowException

        with plain_store_errors(self.uri):
            try:
                return patiently(call)
            except MlflowException as error:
                if error.error_code in NOT_FOUND:
                    return None
                raise

    def holder(self, name: str, alias: str) -> str | None:
        """The number of the version that has an alias; None if there is no such model or alias."""
        version = self._find(lambda: holder_of(self.client, self.uri, name, alias))
        return None if version is None else str(version.version)

    def version(self, name: str, number: str) -> Version:
        """A version by its number.

        Raises:
            TrackingError: if it does not exist.
        """
        with plain_store_errors(f"models:/{name}/{number} in {self.uri}"):
            return _version(patiently(lambda: self.client.get_model_version(name, number)))

    def find_run(self, run_id: str | None) -> str | None:
        """The run id if the run is in this store and was not deleted."""
        run = self._find(lambda: self.client.get_run(run_id)) if run_id else None
        return None if run is None or run.info.lifecycle_stage == "deleted" else str(run.info.run_id)

    def register(
        self,
        name: str,
        folder: Path,
        *,
        tags: Mapping[str, Any],
        description: str,
        run_id: str | None = None,
        alias: str | None = "candidate",
    ) -> Version:
        """Create a version of a model. It appears whole or not at all: files first, then the version with its tags in one
        request, then the alias.

        Args:
            folder: what `packaging.package` wrote.
            run_id: the run that it comes from, if that is in this store; else a run is created.
            alias: moved to the new version; None moves none.

        Raises:
            TrackingError: if the store refuses something.
        """
        check_name(name)
        longest = limits_of(self.uri).tag
        with plain_store_errors(self.uri), self._run(run_id, name) as run:
            place = f"model-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"  # a run may be registered twice
            patiently(lambda: self.client.log_artifacts(run.info.run_id, str(folder), place))
            source = f"{run.info.artifact_uri.rstrip('/')}/{place}"
            self._make_model(name)
            made = patiently(
                lambda: self.client.create_model_version(
                    name, source, run.info.run_id, tags=texts(tags, longest), description=redact_text(description)
                )
            )
        version = _version(made)
        if alias:
            try:
                self.set_alias(name, alias, version.number)
            except TrackingError as error:
                raise TrackingError(
                    f"version {version.number} is registered, but the alias {alias} could not be moved ({error.what})",
                    where=error.where,
                    remedy=error.remedy,
                ) from error
        return version

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Move an alias to a version, whichever had it before."""
        with plain_store_errors(self.uri):
            move_to(self.client, self.uri, name, alias, number, patiently)

    def move_alias(self, name: str, alias: str, number: str, expected: str | None) -> None:
        """Move an alias to a version if it is still at the `expected` one.

        In a SQLite file no other pointseg process can interfere. A server offers no atomic request: there, the check and the
        move are a few milliseconds apart.

        Raises:
            TrackingError: if another version has the alias now.
        """
        with self._locked():
            now = self.holder(name, alias)
            if now != expected:
                raise TrackingError(
                    f"{alias} was version {expected or 'none'} when the comparison began and is version {now or 'none'} now",
                    where=f"{name}@{alias}",
                    remedy="Someone else promoted a model meanwhile; run the command again to compare with that one.",
                )
            self.set_alias(name, alias, number)

    def replace_tags(self, version: Version, prefix: str, tags: Mapping[str, Any]) -> None:
        """Set tags of a version, and remove its other tags with this prefix, which an earlier call set."""
        new = {f"{prefix}{key}": text for key, text in texts(tags, limits_of(self.uri).tag).items()}
        with plain_store_errors(self.uri):
            present = patiently(lambda: self.client.get_model_version(version.name, version.number)).tags
            for key in present:
                if key.startswith(prefix) and key not in new:
                    self.client.delete_model_version_tag(version.name, version.number, key)
            for key, text in new.items():
                self.client.set_model_version_tag(version.name, version.number, key, text)

    def _make_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            patiently(lambda: self.client.create_registered_model(name))
        except MlflowException as error:  # two commands may create it at once
            if error.error_code != "RESOURCE_ALREADY_EXISTS" and "exist" not in str(error).lower():
                raise

    @contextmanager
    def _run(self, run_id: str | None, name: str) -> Iterator[Any]:
        """The run that holds the files; a run that is created here is also ended here."""
        if run_id:
            yield patiently(lambda: self.client.get_run(run_id))
            return
        experiment = patiently(lambda: experiment_for(self.client, self.uri, self.experiment))
        run = patiently(lambda: self.client.create_run(experiment, run_name=f"register-{name}", tags=base_tags()))
        try:
            yield run
        except BaseException:
            self.client.set_terminated(run.info.run_id, "FAILED")
            raise
        self.client.set_terminated(run.info.run_id, "FINISHED")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = sqlite_path(self.uri)
        try:
            with FileLock(f"{path}.promotion.lock", timeout=LOCK_SECONDS) if path else nullcontext():
                yield
        except Timeout as error:
            raise TrackingError(
                "another command has been promoting a model for a minute",
                where=f"{path}.promotion.lock",
                remedy="Wait for it to end.",
            ) from error


def check_name(name: object) -> None:
    """Raise a ConfigError for a name that a registry or a models:/ address does not accept."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", name):
        remedy = "Use letters and digits, and - _ . within it."
        raise ConfigError(f"{name!r} cannot be the name of a model", where="name", remedy=remedy)


def check_alias(alias: object) -> None:
    """Raise a ConfigError for an alias that MLflow takes for a version, or that registering sets."""
    plain = isinstance(alias, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,254}", alias)
    if not plain or re.fullmatch(r"(?i)latest|candidate|v\d+", str(alias)):
        raise ConfigError(
            f"{alias!r} cannot be promoted to",
            where="promote",
            remedy="Use promote=champion, or another alias that is not latest, candidate or v1.",
        )


def texts(tags: Mapping[str, Any], longest: int) -> dict[str, str]:
    """Tags as every server accepts them: texts without secrets, not too long; None is omitted."""
    flat = flatten({key: value for key, value in tags.items() if value is not None})
    return {key: text[:longest] for key, text in flat.items()}


def _version(found: Any) -> Version:
    return Version(str(found.name), str(found.version), found.run_id or None, str(found.source), dict(found.tags))
