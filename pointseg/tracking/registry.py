"""The model registry: versions with all that is known of them, and the aliases that say which one counts.

One route for every server: files go into a run as artifacts, and the version names their place. MLflow's shorter ways
(`log_model`, `register_model`) need /logged-models, which Azure ML and other servers of MLflow's older API do not have.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.errors import ConfigError, TrackingError
from pointseg.redact import redact_text
from pointseg.tracking.run import base_tags
from pointseg.tracking.store import connect, experiment_for, patiently, plain_errors, resolve_uri, sqlite_path
from pointseg.tracking.values import flatten

__all__ = ["Registry", "Version", "check_alias", "check_name"]

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
LONGEST_TAG = 4000  # characters; servers take 5,000
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Version:
    """A version in the registry.

    Attributes:
        name, number: of the model, and of its version, as a text of digits.
        run_id: the run that its files lie in; None where the registry does not say.
        source: where they lie.
        tags: what is known of it.
    """

    name: str
    number: str
    run_id: str | None
    source: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """What `Predictor.load` and `checkpoint=` take."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """The registry of a tracking server or database.

    Args:
        uri: as `tracking.uri`: "auto", a SQLite file, a server, or azureml://...
        start_dir: what relative paths count from.
        experiment: of runs that have to be made.

    Raises:
        TrackingError: where tracking is off or the store cannot be used.

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
        self.client = connect(store)

    # ---- looking -----------------------------------------------------------------------------------------------

    def holder(self, name: str, alias: str) -> str | None:
        """The number of the version that has an alias; None where there is no model or no alias of these names."""
        from mlflow.exceptions import MlflowException

        with plain_errors(self.uri):
            try:
                return str(patiently(lambda: self.client.get_model_version_by_alias(name, alias)).version)
            except MlflowException as error:
                if error.error_code in NOT_FOUND:
                    return None
                raise

    def version(self, name: str, number: str) -> Version:
        """A version by its number.

        Raises:
            TrackingError: if it is not there.
        """
        with plain_errors(f"models:/{name}/{number} in {self.uri}"):
            found = patiently(lambda: self.client.get_model_version(name, number))
        return _version(found)

    def find_run(self, run_id: str | None) -> str | None:
        """The run id if the run is in this store and was not deleted."""
        from mlflow.exceptions import MlflowException

        if not run_id:
            return None
        with plain_errors(self.uri):
            try:
                run = patiently(lambda: self.client.get_run(run_id))
            except MlflowException as error:
                if error.error_code in NOT_FOUND:
                    return None
                raise
        return None if run.info.lifecycle_stage == "deleted" else str(run.info.run_id)

    # ---- writing -----------------------------------------------------------------------------------------------

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
        """A new version of a model. It appears whole or not at all: files first, then the version with its tags in one
        request, then the alias.

        Args:
            folder: what `packaging.package` wrote.
            run_id: the run that it comes from, if it is in this store; else a run is made for it.
            alias: moved to the new version; None for none.

        Raises:
            TrackingError: where the store refuses something.

        Example:
            >>> registry.register("pointnet-semseg", folder, tags={}, description="")  # doctest: +SKIP
        """
        check_name(name)
        with plain_errors(self.uri), self._run(run_id, name) as run:
            place = f"model-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"  # a run may be registered twice
            patiently(lambda: self.client.log_artifacts(run.info.run_id, str(folder), place))
            source = f"{run.info.artifact_uri.rstrip('/')}/{place}"
            self._make_model(name)
            made = patiently(
                lambda: self.client.create_model_version(
                    name, source, run.info.run_id, tags=texts(tags), description=redact_text(description)
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
        """Give an alias to a version, whoever had it."""
        with plain_errors(self.uri):
            patiently(lambda: self.client.set_registered_model_alias(name, alias, number))

    def move_alias(self, name: str, alias: str, number: str, expected: str | None) -> None:
        """Give an alias to a version if it still is where it was.

        In a SQLite file nobody of ours can come between the look and the move. A server has no such request: there
        the two are a few milliseconds apart.

        Raises:
            TrackingError: if another version has it by now.
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
        """Set tags of a version, and take away others that begin alike: those of an earlier time."""
        new = {f"{prefix}{key}": text for key, text in texts(tags).items()}
        with plain_errors(self.uri):
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
        except MlflowException as error:  # also where two commands make it at once
            if error.error_code != "RESOURCE_ALREADY_EXISTS" and "exist" not in str(error).lower():
                raise

    @contextmanager
    def _run(self, run_id: str | None, name: str) -> Iterator[Any]:
        """The run that holds the files; one that is made here is ended here."""
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
        from filelock import FileLock, Timeout

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
    """Refuse a name that a registry or a models:/ address does not take.

    Raises:
        ConfigError: saying what may be in it.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", name):
        raise ConfigError(
            f"{name!r} is no name of a model", where="name", remedy="Use letters, digits, and - _ . within it."
        )


def check_alias(alias: object) -> None:
    """Refuse what MLflow takes for a version, and what is set by registering.

    Raises:
        ConfigError: saying what to use.
    """
    plain = isinstance(alias, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,254}", alias)
    if not plain or re.fullmatch(r"(?i)latest|candidate|v\d+", str(alias)):
        raise ConfigError(
            f"{alias!r} cannot be promoted to",
            where="promote",
            remedy="Use promote=champion, or another alias that is not latest, candidate or v1.",
        )


def texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as every server takes them: texts without secrets and not too long; None is left out."""
    return {
        key: text[:LONGEST_TAG]
        for key, text in flatten({key: value for key, value in tags.items() if value is not None}).items()
    }


def _version(found: Any) -> Version:
    return Version(str(found.name), str(found.version), found.run_id or None, str(found.source), dict(found.tags))
