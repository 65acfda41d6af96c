"""A container group comes up, is tried with a scan, and is removed or put back as it was where that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.azure.container_client import delete_group, find_group
from pointseg.azure.container_group import CONTENT, SCORING, WantedGroup, definition, registry_credentials
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.ours import TAG, is_ours
from pointseg.azure.plan import Step
from pointseg.client import Client
from pointseg.errors import ConfigError, ServiceError
from pointseg.extras import needed
from pointseg.redact import redact_text
from pointseg.serving.smoke import smoke_test

__all__ = ["Trial", "group_step"]

log = logging.getLogger(__name__)

LOG_LINES = 5
ENDED = ("Succeeded", "Failed", "Stopped")
BUSY = ("Pending", "Creating", "Repairing", "Updating", "Deleting")


@dataclass(frozen=True)
class Trial:
    """How a new group is tried.

    Attributes:
        wait_seconds: until it answers: its name and its certificate take minutes.
        pause: seconds between two questions.
        expected: labels of the sample scan by the model, where it is known here.
        ask: False where nobody outside its network reaches it.
    """

    wait_seconds: float
    pause: float = 5.0
    expected: NDArray[np.uint32] | None = None
    ask: bool = True


def group_step(client: Any, resource_group: str, wanted: WantedGroup, trial: Trial) -> Step:
    """What is to be done so that the group is there and answers; nothing is sent but a question.

    Raises:
        ConfigError: if there is a group of this name that somebody else made.
        AzureError: if Azure cannot be asked, or is at the group.
    """
    there = find_group(client, resource_group, wanted.name)
    rollout = _Rollout(client, resource_group, wanted, trial, there)
    settings = wanted.settings
    cost = f"it costs as long as it is there: {settings.cpu:g} cores, {settings.memory:g} GB"
    cost += ", and 0.25 cores, 0.5 GB for TLS" if settings.tls == "caddy" else ""
    facts = (f"image {wanted.image}", f"ports {', '.join(map(str, settings.ports))}", f"tls {settings.tls}")
    if there is None:
        notes = (cost, *_warnings(wanted))
        return Step("container group", wanted.name, "create", facts, rollout.create, notes, undo=rollout.remove)
    if not is_ours(there.tags):
        raise ConfigError(
            "there is a container group of this name that was not made from here",
            where=f"endpoint={wanted.name}",
            remedy="Choose another name.",
        )
    if there.provisioning_state in BUSY:
        raise AzureError(f"it is busy ({there.provisioning_state})", where=wanted.name, remedy="Try again later.")
    state = getattr(there.instance_view, "state", None) or there.provisioning_state
    if there.tags.get(CONTENT) == wanted.content and there.provisioning_state == "Succeeded" and state == "Running":
        return Step("container group", wanted.name, "keep", notes=(cost,))
    differences = _differences(there, wanted, state)
    notes = ("callers get no answer while its containers are exchanged, a minute or some", cost, *_warnings(wanted))
    lost = _lost_secrets(there, wanted)
    if lost:
        notes += (
            f"the former group cannot be put back if this fails: Azure does not give {lost}, and it is not given here",
        )
    undo = None if lost else rollout.put_back
    return Step("container group", wanted.name, "update", differences, rollout.update, notes, undo=undo)


def _warnings(wanted: WantedGroup) -> tuple[str, ...]:
    told = []
    if wanted.image.partition("/")[0].endswith(".azurecr.io") and registry_credentials(wanted) is None:
        told.append("nothing is given that may pull the image: aci.registry_identity, or POINTSEG_REGISTRY_USERNAME")
    if wanted.settings.tls == "none":
        told.append("without TLS the key can be read on its way")
    return tuple(told)


def _differences(there: Any, wanted: WantedGroup, state: str) -> tuple[str, ...]:
    image = next((one.image for one in there.containers if one.name == SCORING), None)
    told = [] if image == wanted.image else [f"image {image} -> {wanted.image}"]
    told += [] if state == "Running" else [f"it is {state}"]
    told += [] if CONTENT in there.tags else ["it has not passed its test in this form: it is tried again"]
    return tuple(told) or ("its settings or its key",)


def _lost_secrets(there: Any, wanted: WantedGroup) -> str:
    """What the present group has that it could not be made again without; "" where all is at hand."""
    lost = []
    if there.volumes and wanted.secrets.certificate is None:
        lost.append("its certificate")
    if any(one.username for one in there.image_registry_credentials or []) and wanted.secrets.registry is None:
        lost.append("the password of its registry")
    return " and ".join(lost)


class _Rollout:
    def __init__(self, client: Any, resource_group: str, wanted: WantedGroup, trial: Trial, before: Any) -> None:
        self.client, self.resource_group, self.wanted = client, resource_group, wanted
        self.trial, self.before = trial, before
        self.changed = False  # whether Azure has taken anything of this

    def create(self) -> None:
        self._put(definition(self.wanted), "making")
        self._try()
        self._note()

    def update(self) -> None:
        wanted = definition(self.wanted)
        self._exchange(wanted, _fixed(self.before), "changing")
        self._try()
        self._note()

    def remove(self) -> str:
        """Take back what was made."""
        delete_group(self.client, self.resource_group, self.wanted.name)
        return f"the container group {self.wanted.name} is removed"

    def put_back(self) -> str:
        """The group as it was, with the secrets that are known: Azure does not give those that it had."""
        if not self.changed:
            return f"the container group {self.wanted.name} was not touched"
        former, secrets = self.before, definition(self.wanted)
        former.tags = {name: value for name, value in former.tags.items() if name != CONTENT}  # it has another key now
        if former.ip_address is not None:
            former.ip_address.ip = None  # Azure's to choose
        for container in former.containers:
            for variable in container.environment_variables or []:
                if variable.name == "POINTSEG_API_KEY":
                    variable.secure_value = self.wanted.secrets.key
        if former.volumes:
            former.volumes = secrets.volumes
        if former.image_registry_credentials:
            former.image_registry_credentials = secrets.image_registry_credentials
        there = find_group(self.client, self.resource_group, self.wanted.name)
        self._exchange(former, None if there is None else _fixed(there), "putting back")
        return f"the container group {self.wanted.name} is as it was before, with the present key"

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _exchange(self, group: Any, present: object, doing: str) -> None:
        """Cores, memory and network do not change while a group is there, and one that has ended does not begin again."""
        if present is not None and (_fixed(group) != present or self._has_ended()):
            self.changed = True
            delete_group(self.client, self.resource_group, self.wanted.name)
        self._put(group, doing)

    def _has_ended(self) -> bool:
        there = find_group(self.client, self.resource_group, self.wanted.name)
        return getattr(getattr(there, "instance_view", None), "state", None) in ENDED

    def _put(self, group: Any, doing: str) -> None:
        name = self.wanted.name
        with plain_errors(f"{doing} the container group {name}"):
            operation = self.client.container_groups.begin_create_or_update(self.resource_group, name, group)
            self.changed = True
            operation.result()

    def _note(self) -> None:
        """That it has passed: a command that is cut off before leaves a group that the next one tries again."""
        models = needed("azure.mgmt.containerinstance.models", "azure", "Container Instances")
        tags = models.Resource(tags={**TAG, CONTENT: self.wanted.content})
        with plain_errors(f"tagging the container group {self.wanted.name}"):
            self.client.container_groups.update(self.resource_group, self.wanted.name, tags)

    def _try(self) -> None:
        """The scan goes through the address that callers use."""
        there = find_group(self.client, self.resource_group, self.wanted.name)
        if there is None:
            raise AzureError("it is gone", where=self.wanted.name)
        if not self.trial.ask:
            log.info("Not tried: aci.test=false.")
            return
        url, key = self.wanted.url(there.ip_address), self.wanted.secrets.key
        try:
            self._wait_until_ready(url)
            _refuses_without_key(url)
            passed = smoke_test(url, key, expected=self.trial.expected, timeout=self.trial.wait_seconds)
        except ServiceError as error:
            text = f"the test with a scan failed: {error.what} (the container's log ends: {self._log()})"
            raise ServiceError(text, where=error.where, remedy=error.remedy) from error
        log.info("Tried with a scan: %s", passed)

    def _wait_until_ready(self, url: str) -> None:
        end = time.monotonic() + self.trial.wait_seconds
        why = "it did not answer"
        with Client(url, None, retries=0) as client:
            while True:
                try:
                    if client.ready():
                        return
                except ServiceError as error:  # the certificate of before, or a page that is no service's
                    why = error.what
                if time.monotonic() > end:
                    text = f"{why} within {self.trial.wait_seconds:g} s"
                    raise ServiceError(text, where=url, remedy="Look at its events in the portal, or wait longer.")
                time.sleep(self.trial.pause)

    def _log(self) -> str:
        with suppress(AzureError), plain_errors("reading the log"):
            group, name = self.resource_group, self.wanted.name
            said = self.client.containers.list_logs(group, name, SCORING, tail=LOG_LINES).content or ""
            if lines := [line.strip() for line in said.splitlines() if line.strip()]:
                return redact_text(" / ".join(lines[-LOG_LINES:]))[-600:].rstrip(".")
        return "it says nothing"


def _fixed(group: Any) -> object:
    """What Container Instances do not change on a group that is there."""
    resources = {
        one.name: (one.resources.requests.cpu, one.resources.requests.memory_in_gb) for one in group.containers
    }
    address = group.ip_address
    public = (address.type, address.dns_name_label, sorted(port.port for port in address.ports)) if address else None
    subnets = [str(one.id).lower() for one in group.subnet_ids or []]
    return resources, public, subnets, group.location, str(group.restart_policy), str(group.os_type)


def _refuses_without_key(url: str) -> None:
    """A service that answers everybody would be worse than none."""
    ask: Callable[[], Any]
    with Client(url, None, retries=2) as client:
        ask = partial(client.score, np.array([[1.0, 2.0, -1.7, 0.3]], np.float32))
        try:
            ask()
        except ServiceError as error:
            if error.status == 401:
                return
            raise
    raise ServiceError("it answers callers without a key", where=url, remedy="Look which image it holds.")
