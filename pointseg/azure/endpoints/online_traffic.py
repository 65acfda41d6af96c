"""Traffic of an online endpoint: a smoke test first, then step by step to another deployment, and back on failure."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.azure.endpoints.deployment import READY, provisioning_state
from pointseg.azure.endpoints.online_logs import with_log_tail
from pointseg.azure.errors import AzureError, completed, plain_errors
from pointseg.azure.names import check_whole
from pointseg.azure.steps import Step
from pointseg.core.errors import ConfigError, ServiceError
from pointseg.core.redaction import install_log_redaction
from pointseg.core.text import counted
from pointseg.serving.client import Client

__all__ = ["Rollout", "address_and_key", "shifted", "traffic_of", "traffic_steps", "traffic_text"]

log = logging.getLogger(__name__)

RETRIES = 6  # of a request, while the endpoint is busy or its name has not spread everywhere
WAITS = (2.0, 10.0, 30.0)  # seconds between attempts to give the traffic back


@dataclass(frozen=True)
class Rollout:
    """How traffic moves to a deployment.

    Args:
        steps: its shares in percent, one after another; the last is 100.
        checks: requests at each share, by the traffic and by the deployment's own name; also those of the smoke test.
        seconds: over which the checks of a share are spread.
        keep_failed: leave a deployment that failed, without traffic, for people to look at.

    Raises:
        ConfigError: naming the key.
    """

    steps: Sequence[int]
    checks: int
    seconds: float
    keep_failed: bool

    def __post_init__(self) -> None:
        for share in self.steps:
            check_whole("managed.traffic", share, 1, 100)
        if not self.steps or self.steps[-1] != 100 or sorted(set(self.steps)) != list(self.steps):
            remedy = "Such as managed.traffic=[10,50,100], or [100] for one step."
            text = f"{list(self.steps)} are not rising shares up to 100"
            raise ConfigError(text, where="managed.traffic", remedy=remedy)
        check_whole("managed.checks", self.checks, 1, 1000)
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not number or not 0 <= self.seconds <= 3600:
            text = f"{self.seconds!r} cannot be used"
            raise ConfigError(text, where="managed.step_seconds", remedy="Give 0 to 3,600 seconds.")


def traffic_of(endpoint: Any) -> dict[str, int]:
    """The share of each deployment in percent, without those that have none; names in lower case, as the SDK sends them."""
    return {name.lower(): int(share) for name, share in sorted((endpoint.traffic or {}).items()) if share}


def traffic_text(traffic: Mapping[str, int]) -> str:
    """For people: "v-1a 90 %, v-2b 10 %"."""
    return ", ".join(f"{name} {share} %" for name, share in sorted(traffic.items())) or "no deployment has traffic"


def shifted(before: Mapping[str, int], name: str, share: int) -> dict[str, int]:
    """The traffic with this share for a deployment; the others keep their proportions, in whole percent.

    Example:
        >>> shifted({"blue": 60, "green": 40}, "new", 10)
        {'blue': 54, 'green': 36, 'new': 10}
    """
    others = {other: part for other, part in before.items() if other != name and part > 0}
    if not others or share >= 100:
        return {name: 100}
    total, rest = sum(others.values()), 100 - share
    parts = {other: part * rest // total for other, part in others.items()}
    by_remainder = sorted(others, key=lambda other: (-(others[other] * rest % total), other))
    for other in by_remainder[: rest - sum(parts.values())]:
        parts[other] += 1
    return {other: part for other, part in sorted({**parts, name: share}.items()) if part}


def address_and_key(client: Any, name: str) -> tuple[str, str]:
    """The URL of an endpoint, and a key or token for it, which is masked in logs from now on.

    Raises:
        AzureError: if Azure does not give them.
    """
    with plain_errors(f"asking for the address and key of {name}"):
        endpoint = client.online_endpoints.get(name)
        keys = client.online_endpoints.get_keys(name)
    key = str(getattr(keys, "primary_key", None) or getattr(keys, "access_token", None) or "")
    install_log_redaction([key] if key else [])
    if not endpoint.scoring_uri or not key:
        raise AzureError(f"the endpoint {name} has no address or key", remedy="Look at its state in the studio.")
    return str(endpoint.scoring_uri), key


class _TrafficShift:
    """Moves all traffic to one deployment."""

    def __init__(
        self,
        client: Any,
        endpoint: str,
        name: str,
        before: Mapping[str, int],
        scan: NDArray[np.float32],
        plan: Rollout,
        timeout: float,
    ) -> None:
        self.client, self.endpoint, self.name, self.before = client, endpoint, name, dict(before)
        self.scan, self.plan, self.timeout = scan, plan, timeout
        self.put_here: list[dict[str, int]] = []  # the shares that this call has set

    # ---- requests

    def smoke(self) -> None:
        """Requests to the deployment by its name, while it has no traffic."""
        with with_log_tail(self.client, self.endpoint, self.name):
            self._ask(min(self.plan.checks, 3), by_traffic=False, seconds=0)

    def _ask(self, count: int, *, by_traffic: bool, seconds: float) -> None:
        """Send requests one after another; raises AzureError at the first without a label for every point."""
        url, key = address_and_key(self.client, self.endpoint)
        models: Counter[str] = Counter()
        slowest = 0.0
        named = Client(url, key, timeout=self.timeout, retries=RETRIES, deployment=self.name)
        with named, Client(url, key, timeout=self.timeout, retries=RETRIES) as anybody:
            for number in range(count):
                for caller in (anybody, named) if by_traffic else (named,):
                    scored = self._request(caller, number)
                    slowest = max(slowest, scored.seconds)
                    if (caller is anybody) == by_traffic:
                        models[scored.model or "an unnamed model"] += 1
                if number + 1 < count:
                    time.sleep(seconds / count)
        by_model = ", ".join(f"{model} {times}" for model, times in sorted(models.items()))
        log.info("%s of %s points answered, by %s; the slowest took %.1f s",
                 counted(count, "request"), f"{len(self.scan):,}", by_model, slowest)  # fmt: skip

    def _request(self, caller: Client, number: int) -> Any:
        addressee = f"to {self.name}" if caller.deployment else "by the traffic"
        try:
            return caller.score(self.scan)
        except ServiceError as error:
            text = f"request {number + 1} {addressee}: {error.what}"
            raise AzureError(text, where=error.where, remedy=error.remedy) from error

    # ---- traffic

    def move(self, share: int) -> None:
        """Give the deployment this share, then send requests by the traffic and by its name."""
        with with_log_tail(self.client, self.endpoint, self.name):
            self._put(shifted(self.before, self.name, share))
            self._ask(self.plan.checks, by_traffic=True, seconds=self.plan.seconds)

    def _put(self, traffic: dict[str, int]) -> None:
        with plain_errors(f"moving the traffic of {self.endpoint}"):
            endpoint = self.client.online_endpoints.get(self.endpoint)  # as it is now: others may have changed it
        self._refuse_others(traffic_of(endpoint))
        self.put_here.append(traffic)
        endpoint.traffic = dict(traffic)
        put = partial(self.client.online_endpoints.begin_create_or_update, endpoint)
        completed(f"moving the traffic of {self.endpoint} to {traffic_text(traffic)}", put)

    def _refuse_others(self, present: dict[str, int]) -> None:
        if present != self.before and present not in self.put_here:
            raise AzureError(
                f"somebody else has changed the traffic in the meantime ({traffic_text(present)}), and it is left so",
                remedy="Agree with them, then give the same command again.",
            )

    def back(self) -> str:
        """Give the traffic back as it was; tries again for a while, since callers depend on it."""
        for wait in (*WAITS, None):
            try:
                with plain_errors(f"reading the traffic of {self.endpoint}"):
                    endpoint = self.client.online_endpoints.get(self.endpoint)
                half_way = provisioning_state(endpoint) != READY
                if half_way or traffic_of(endpoint) != self.before:
                    self._put(self.before)
                break
            except AzureError as error:
                if wait is None:
                    raise
                log.warning("%s; tried again in %g s", error.what, wait)
                time.sleep(wait)
        return f"the traffic is as before ({traffic_text(self.before)})"


def traffic_steps(
    client: Any,
    endpoint: str,
    name: str,
    before: Mapping[str, int],
    scan: NDArray[np.float32],
    plan: Rollout,
    *,
    timeout: float,
    new_endpoint: bool,
) -> list[Step]:
    """The smoke test of a deployment, and its way to all of the traffic.

    Args:
        before: the current traffic.
        scan: (N, 4) float32 points of the requests.
        timeout: seconds that a request may take, with its retries.
        new_endpoint: removed as a whole where something fails: its traffic need not go back.
    """
    if before.get(name) == 100:
        return [Step("traffic", name, "keep", ("100 %",))]
    shift = _TrafficShift(client, endpoint, name, before, scan, plan, timeout)
    shares = [share for share in plan.steps if share > before.get(name, 0)] if set(before) - {name} else [100]
    back = None if new_endpoint and not plan.keep_failed else shift.back
    requests = f"{counted(min(plan.checks, 3), 'request')} of {len(scan):,} points, by the deployment's name"
    steps = [Step("smoke test", name, "check", (requests,), shift.smoke)]
    present = dict(before)
    for share in shares:
        after = shifted(before, name, share)
        change = f"{traffic_text(present)} -> {traffic_text(after)}, then {counted(plan.checks, 'check')}"
        move, last = partial(shift.move, share), share == 100
        steps.append(Step("traffic", f"{name} to {share} %", "update", (change,), move, undo=back, settles=last))
        present = after
    return steps
