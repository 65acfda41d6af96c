"""Data collection of a managed online deployment: what the deployment needs, so that `serving.score` collects by Azure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.azure.names import check_matches
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["COLLECTION", "REQUIREMENTS", "CollectionSettings", "collected_address"]

COLLECTION = "model_inputs"  # as `serving.collection` names it
REQUIREMENTS = "environments/serving-monitoring.txt"  # versions beside those of environments/serving.txt
ROLLING = ("minute", "hour", "day")
NAME = r"[A-Za-z0-9][A-Za-z0-9-]{0,62}"


@dataclass(frozen=True)
class CollectionSettings:
    """What of an online deployment is collected.

    The share is chosen by our own script, before a scan is measured; Azure then keeps all that it is handed.

    Args:
        rate: the share of the scans, more than 0 and 1 at most.
        rolling: how long one folder of the storage is written to: minute, hour or day.

    Raises:
        ConfigError: naming the key, for what Azure would not take, or what would collect nothing.

    Example:
        >>> CollectionSettings(rate=0.1).variables
        {'POINTSEG_COLLECT': 'azure', 'POINTSEG_COLLECT_RATE': '0.1'}
    """

    rate: float = 1.0
    rolling: str = "hour"

    def __post_init__(self) -> None:
        number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if not number or not 0 < self.rate <= 1:
            raise ConfigError(
                f"{self.rate!r} is no share of the scans",
                where="managed.collect_rate",
                remedy="Give more than 0, and 1 at most.",
            )
        if self.rolling not in ROLLING:
            raise ConfigError(
                f"there is no {self.rolling!r}", where="managed.collect_rolling", remedy=f"Use {', '.join(ROLLING)}."
            )

    @property
    def variables(self) -> dict[str, str]:
        """For the environment of the deployment."""
        return {"POINTSEG_COLLECT": "azure", "POINTSEG_COLLECT_RATE": f"{self.rate:g}"}

    def entity(self) -> Any:
        """The SDK's `DataCollector`, for `data_collector=` of a `ManagedOnlineDeployment`.

        A new one for each request: sending one takes its sampling rate away from it, and a second try fails.
        """
        entities = needed("azure.ai.ml.entities", "azure", "data collection of a deployment")
        collections = {COLLECTION: entities.DeploymentCollection(enabled="true")}
        return entities.DataCollector(collections=collections, rolling_rate=self.rolling, sampling_rate=1.0)


def collected_address(endpoint: str, deployment: str) -> str:
    """Where Azure puts what a deployment collects: what `report drift=` of a job, or `input=` of a pipeline, names.

    Raises:
        ConfigError: for what is no name.

    Example:
        >>> collected_address("street", "blue")
        'azureml://datastores/workspaceblobstore/paths/modelDataCollector/street/blue/model_inputs'
    """
    remedy = "Letters, digits and -."
    for key, value in (("endpoint", endpoint), ("deployment", deployment)):
        check_matches(key, value, NAME, f"name of an {key}" if key == "endpoint" else f"name of a {key}", remedy)
    folder = f"modelDataCollector/{endpoint}/{deployment}/{COLLECTION}"
    return f"azureml://datastores/workspaceblobstore/paths/{folder}"
