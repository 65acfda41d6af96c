"""A container group is started, tested with a scan, and removed or put back as it was if that fails."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.azure.containers.client import delete_group, find_group
from pointseg.azure.containers.group import (
    GROUP_CONTENT_TAG,
    SCORING,
    WantedGroup,
    group_definition,
    registry_credentials,
)
from pointseg.azure.errors import AzureError, completed, plain_errors
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG, made_by_pointseg
from pointseg.core.errors import ConfigError, ServiceError
from pointseg.core.optional_packages import needed
from pointseg.core.redaction import redact_text
from pointseg.serving.client import Client
from pointseg.serving.smoke import smoke_test

__all__ = ["GroupTest", "group_step"]

log = logging.getLogger(__name__)

LOG_LINES = 5
ENDED = ("Succeeded", "Failed", "Stopped")
BUSY = ("Pending", "Creating", "Repairing", "Updating", "Deleting")


@dataclass(frozen=True)
class GroupTest:
    """How a new group is tested.

    Attributes:
        wait_seconds: until it answers: its name and its certificate take minutes.
        pause: seconds between two attempts.
        expected: the model's labels of the sample scan, where it is known here.
        enabled: False where nobody outside its network reaches it.
    """

    wait_seconds: float
    pause: float = 5.0
    expected: NDArray[np.uint32] | None = None
    enabled: bool = True


def group_step(client: Any, resource_group: str, wanted: WantedGroup, trial: GroupTest) -> Step:
    """What to do so that the group exists and answers; nothing is sent but a question.

    Raises:
        ConfigError: if somebody else made a group of this name.
        AzureError: if Azure cannot be asked, or is changing the group.
    """
    existing = find_group(client, resource_group, wanted.name)
    rollout = _Rollout(client, resource_group, wanted, trial, existing)
    settings = wanted.settings
    cost = f"it costs as long as it exists: {settings.cpu:g} cores, {settings.memory:g} GB"
    cost += ", and 0.25 cores, 0.5 GB for TLS" if settings.tls == "caddy" else ""
    facts = (f"image {wanted.image}", f"ports {', '.join(map(str, settings.ports))}", f"tls {settings.tls}")
    if existing is None:
        notes = (cost, *_warnings(wanted))
        return Step("container group", wanted.name, "create", facts, rollout.create, notes, undo=rollout.remove)
    if not made_by_pointseg(existing.tags):
        text = "there is a container group of this name that was not made from here"
        raise ConfigError(text, where=f"endpoint={wanted.name}", remedy="Choose another name.")
    if existing.provisioning_state in BUSY:
        raise AzureError(f"it is busy ({existing.provisioning_state})", where=wanted.name, remedy="Try again later.")
    state = getattr(existing.instance_view, "state", None) or existing.provisioning_state
    succeeded = existing.provisioning_state == "Succeeded" and state == "Running"
    if succeeded and existing.tags.get(GROUP_CONTENT_TAG) == wanted.content:
        return Step("container group", wanted.name, "keep", notes=(cost,))
    differences = _differences(existing, wanted, state)
    notes = ("callers get no answer while its containers are replaced, for a minute or more", cost, *_warnings(wanted))
    if missing := _missing_secrets(existing, wanted):
        notes += (f"the present group cannot be put back if this fails: neither Azure nor this call gives {missing}",)
    undo = None if missing else rollout.put_back
    return Step("container group", wanted.name, "update", differences, rollout.update, notes, undo=undo)


def _warnings(wanted: WantedGroup) -> tuple[str, ...]:
    warnings = []
    if wanted.image.partition("/")[0].endswith(".azurecr.io") and registry_credentials(wanted) is None:
        warnings.append(
            "nothing is given that may pull the image: aci.registry_identity, or POINTSEG_REGISTRY_USERNAME"
        )
    if wanted.settings.tls == "none":
        warnings.append("without TLS the key can be read on its way")
    return tuple(warnings)


def _differences(existing: Any, wanted: WantedGroup, state: str) -> tuple[str, ...]:
    image = next((one.image for one in existing.containers if one.name == SCORING), None)
    changes = [] if image == wanted.image else [f"image {image} -> {wanted.image}"]
    changes += [] if state == "Running" else [f"it is {state}"]
    changes += [] if GROUP_CONTENT_TAG in existing.tags else ["it has not passed its test in this form: tested again"]
    return tuple(changes) or ("its settings or its key",)


def _missing_secrets(existing: Any, wanted: WantedGroup) -> str:
    """Secrets of the present group without which it could not be made again; "" where all are given."""
    missing = []
    if existing.volumes and wanted.secrets.certificate is None:
        missing.append("its certificate")
    if any(one.username for one in existing.image_registry_credentials or []) and wanted.secrets.registry is None:
        missing.append("the password of its registry")
    return " and ".join(missing)


class _Rollout:
    """One container group on its way to what is wanted."""

    def __init__(self, client: Any, resource_group: str, wanted: WantedGroup, trial: GroupTest, before: Any) -> None:
        self.client, self.resource_group, self.wanted = client, resource_group, wanted
        self.trial, self.before = trial, before
        self.changed = False  # whether Azure has taken anything of this

    def create(self) -> None:
        self._put(group_definition(self.wanted), "making")
        self._test()
        self._tag_as_passed()

    def update(self) -> None:
        self._replace(group_definition(self.wanted), _fixed(self.before), "changing")
        self._test()
        self._tag_as_passed()

    def remove(self) -> str:
        delete_group(self.client, self.resource_group, self.wanted.name)
        return f"the container group {self.wanted.name} is removed"

    def put_back(self) -> str:
        """The group as it was, with the secrets given here: Azure does not give those that it had."""
        if not self.changed:
            return f"the container group {self.wanted.name} was not touched"
        former, secrets = self.before, group_definition(self.wanted)
        # it has another key now
        former.tags = {name: value for name, value in former.tags.items() if name != GROUP_CONTENT_TAG}
        if former.ip_address is not None:
            former.ip_address.ip = None  # Azure chooses it
        for container in former.containers:
            for variable in container.environment_variables or []:
                if variable.name == "POINTSEG_API_KEY":
                    variable.secure_value = self.wanted.secrets.key
        if former.volumes:
            former.volumes = secrets.volumes
        if former.image_registry_credentials:
            former.image_registry_credentials = secrets.image_registry_credentials
        existing = find_group(self.client, self.resource_group, self.wanted.name)
        self._replace(former, None if existing is None else _fixed(existing), "putting back")
        return f"the container group {self.wanted.name} is as it was before, with the present key"

    def _replace(self, group: Any, present: object, doing: str) -> None:
        """Put a group, after deleting one whose cores, memory or network differ, or that has ended: Azure changes neither."""
        if present is not None and (_fixed(group) != present or self._has_ended()):
            self.changed = True
            delete_group(self.client, self.resource_group, self.wanted.name)
        self._put(group, doing)

    def _has_ended(self) -> bool:
        existing = find_group(self.client, self.resource_group, self.wanted.name)
        return getattr(getattr(existing, "instance_view", None), "state", None) in ENDED

    def _put(self, group: Any, doing: str) -> None:
        def put() -> Any:
            operation = self.client.container_groups.begin_create_or_update(
                self.resource_group, self.wanted.name, group
            )
            self.changed = True
            return operation

        completed(f"{doing} the container group {self.wanted.name}", put)

    def _tag_as_passed(self) -> None:
        """Where a command is cut off before this, the next one tests the group again."""
        models = needed("azure.mgmt.containerinstance.models", "azure", "Container Instances")
        tags = models.Resource(tags={**MADE_BY_TAG, GROUP_CONTENT_TAG: self.wanted.content})
        with plain_errors(f"tagging the container group {self.wanted.name}"):
            self.client.container_groups.update(self.resource_group, self.wanted.name, tags)

    def _test(self) -> None:
        """Send the scan to the address that callers use."""
        existing = find_group(self.client, self.resource_group, self.wanted.name)
        if existing is None:
            raise AzureError("it is gone", where=self.wanted.name)
        if not self.trial.enabled:
            log.info("Not tested: aci.test=false.")
            return
        url, key = self.wanted.url(existing.ip_address), self.wanted.secrets.key
        try:
            self._wait_until_ready(url)
            _refuses_without_key(url)
            passed = smoke_test(url, key, expected=self.trial.expected, timeout=self.trial.wait_seconds)
        except ServiceError as error:
            text = f"the test with a scan failed: {error.what} (the container's log ends: {self._log()})"
            raise ServiceError(text, where=error.where, remedy=error.remedy) from error
        log.info("Tested with a scan: %s", passed)

    def _wait_until_ready(self, url: str) -> None:
        end = time.monotonic() + self.trial.wait_seconds
        why = "it did not answer"
        with Client(url, None, retries=0) as client:
            while True:
                try:
                    if client.ready():
                        return
                except ServiceError as error:  # an old certificate, or another page than the service's
                    why = error.what
                if time.monotonic() > end:
                    text = f"{why} within {self.trial.wait_seconds:g} s"
                    raise ServiceError(text, where=url, remedy="Look at its events in the portal, or wait longer.")
                time.sleep(self.trial.pause)

    def _log(self) -> str:
        with suppress(AzureError), plain_errors("reading the log"):
            group, name = self.resource_group, self.wanted.name
            content = self.client.containers.list_logs(group, name, SCORING, tail=LOG_LINES).content or ""
            if lines := [line.strip() for line in content.splitlines() if line.strip()]:
                return redact_text(" / ".join(lines[-LOG_LINES:]))[-600:].rstrip(".")
        return "it says nothing"


def _fixed(group: Any) -> object:
    """What Container Instances cannot change on an existing group."""
    resources = {
        one.name: (one.resources.requests.cpu, one.resources.requests.memory_in_gb) for one in group.containers
    }
    address = group.ip_address
    public = (address.type, address.dns_name_label, sorted(port.port for port in address.ports)) if address else None
    subnets = [str(one.id).lower() for one in group.subnet_ids or []]
    return resources, public, subnets, group.location, str(group.restart_policy), str(group.os_type)


def _refuses_without_key(url: str) -> None:
    """A service that answers everybody would be worse than none."""
    with Client(url, None, retries=2) as client:
        try:
            client.score(np.array([[1.0, 2.0, -1.7, 0.3]], np.float32))
        except ServiceError as error:
            if error.status == 401:
                return
            raise
    raise ServiceError("it answers callers without a key", where=url, remedy="Check which image it holds.")
