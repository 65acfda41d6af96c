"""A deployment of a managed online endpoint: its settings, their limits, and the SDK's entity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointseg.azure.endpoints.data_collection import CollectionSettings
from pointseg.azure.endpoints.deployment import SCORE_DRIVER, Deployment
from pointseg.azure.errors import sdk_entities
from pointseg.azure.names import check_matches, check_whole
from pointseg.core.errors import ConfigError

__all__ = ["OnlineDeployment", "OnlineSettings"]

LIMITS = {  # Azure's of managed endpoints
    "instances": (1, 50),
    "request_seconds": (5, 180),
    "concurrency": (1, 1000),
    "workers": (1, 64),
}
PROBE = {"initial_delay": (0, 3600), "period": (1, 3600), "timeout": (1, 3600), "failures": (1, 1000)}
BODY_SECONDS = 30  # that a body may take to arrive, where the time of a request is longer


@dataclass(frozen=True)
class OnlineSettings:
    """How an online deployment works, by the keys of `managed`; `ManagedConfig` declares what each means.

    Args:
        collection: what is collected of the scans, if anything.

    Raises:
        ConfigError: naming the key, for what Azure would refuse only later, or accept and ignore.
    """

    instance_type: str
    instances: int
    request_seconds: int
    concurrency: int
    workers: int
    auth_mode: str
    public_network: str
    egress: str
    liveness: Mapping[str, int]
    readiness: Mapping[str, int]
    collection: CollectionSettings | None

    def __post_init__(self) -> None:
        remedy = "Such as Standard_DS3_v2; Azure lists those that endpoints may use."
        check_matches(
            "managed.instance_type", self.instance_type, r"Standard_[A-Za-z0-9_-]{1,60}", "machine size", remedy
        )
        for key, limits in LIMITS.items():
            check_whole(f"managed.{key}", getattr(self, key), *limits)
        if self.workers > self.concurrency:
            raise ConfigError(
                f"{self.workers} processes for {self.concurrency} requests at once: some would never work",
                where="managed.workers",
                remedy="Give fewer, or a higher managed.concurrency.",
            )
        for name in ("liveness", "readiness"):
            for key, value in getattr(self, name).items():
                check_whole(f"managed.{name}.{key}", value, *PROBE[key])

    @property
    def variables(self) -> dict[str, str]:
        """The environment that `serving.score` and the server around it read.

        The limits of a body and of a cloud end a second before Azure's, so that the caller is told which of them it was. One
        thread more than requests answers the probes while all others work.
        """
        body = min(BODY_SECONDS, self.request_seconds // 4)
        threads = math.ceil(self.concurrency / self.workers) + 1
        return {
            "WORKER_COUNT": str(self.workers),
            "GUNICORN_CMD_ARGS": f"--worker-class gthread --threads {threads} --no-control-socket",
            "POINTSEG_BODY_SECONDS": str(body),
            "POINTSEG_TIME_LIMIT": str(self.request_seconds - body - 1),
            **(self.collection.variables if self.collection else {}),
        }

    @property
    def content(self) -> dict[str, Any]:
        """The settings that a new deployment is made for when they change; the number of machines and the settings of the
        endpoint change in place."""
        values = {key: getattr(self, key) for key in ("instance_type", "request_seconds", "concurrency", "egress")}
        probes = {name: dict(getattr(self, name)) for name in ("liveness", "readiness")}
        rolling = {"rolling": self.collection.rolling} if self.collection else {}
        return {**values, **probes, **rolling, "variables": self.variables}


@dataclass(frozen=True)
class OnlineDeployment(Deployment):
    """One version of what an online endpoint runs.

    Attributes:
        scaled: whether autoscaling decides on the number of machines.
    """

    settings: OnlineSettings
    scaled: bool = False

    @property
    def cost(self) -> str:
        """For people."""
        count, size = self.settings.instances, self.settings.instance_type
        return (
            f"cost: {count} x {size}, for every hour that the deployment exists, used or not; the quota must allow "
            f"{math.ceil(1.2 * count)}, since Azure reserves a fifth for its own upgrades"
        )

    def entity(self) -> Any:
        """The SDK's `ManagedOnlineDeployment`."""
        sdk, settings = sdk_entities(), self.settings
        return sdk.ManagedOnlineDeployment(
            **self.fields(SCORE_DRIVER),
            instance_type=settings.instance_type,
            instance_count=settings.instances,
            environment_variables=settings.variables,
            data_collector=settings.collection.entity() if settings.collection else None,
            egress_public_network_access=settings.egress,
            request_settings=sdk.OnlineRequestSettings(
                request_timeout_ms=1000 * settings.request_seconds,
                max_concurrent_requests_per_instance=settings.concurrency,
            ),
            liveness_probe=_probe(sdk, settings.liveness),
            readiness_probe=_probe(sdk, settings.readiness),
        )


def _probe(sdk: Any, values: Mapping[str, int]) -> Any:
    times = {key: value for key, value in values.items() if key != "failures"}
    return sdk.ProbeSettings(failure_threshold=values.get("failures"), success_threshold=1, **times)
