"""Data collection of a managed online deployment: what it needs for `serving.score` to collect by Azure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.azure.errors import sdk_entities
from pointseg.azure.names import check_matches
from pointseg.core.errors import ConfigError

__all__ = ["COLLECTION", "REQUIREMENTS", "CollectionSettings", "collected_address"]

COLLECTION = "model_inputs"  # as `serving.collection` names it
REQUIREMENTS = "environments/serving-monitoring.txt"  # versions beside those of environments/serving.txt
NAME = r"[A-Za-z0-9][A-Za-z0-9-]{0,62}"


@dataclass(frozen=True)
class CollectionSettings:
    """What an online deployment collects. The scoring script picks the share of the scans; Azure keeps all it is given.

    Args:
        rate: the share of the scans, above 0 and at most 1.
        rolling: how long one folder of the storage is written to: minute, hour or day.

    Raises:
        ConfigError: naming the key, for what Azure would not accept, or what would collect nothing.

    Example:
        >>> CollectionSettings(rate=0.1, rolling="hour").variables
        {'POINTSEG_COLLECT': 'azure', 'POINTSEG_COLLECT_RATE': '0.1'}
    """

    rate: float
    rolling: str

    def __post_init__(self) -> None:
        number = isinstance(self.rate, int | float) and not isinstance(self.rate, bool)
        if not number or not 0 < self.rate <= 1:
            text, remedy = f"{self.rate!r} is not a share of the scans", "Give a number above 0 and at most 1."
            raise ConfigError(text, where="managed.collect_rate", remedy=remedy)

    @property
    def variables(self) -> dict[str, str]:
        """For the environment of the deployment."""
        return {"POINTSEG_COLLECT": "azure", "POINTSEG_COLLECT_RATE": f"{self.rate:g}"}

    def entity(self) -> Any:
        """The SDK's `DataCollector`, for `data_collector=` of a `ManagedOnlineDeployment`.

        A new one for each request: sending one removes its sampling rate, and a second try fails.
        """
        collections = {COLLECTION: sdk_entities().DeploymentCollection(enabled="true")}
        return sdk_entities().DataCollector(collections=collections, rolling_rate=self.rolling, sampling_rate=1.0)


def collected_address(endpoint: str, deployment: str) -> str:
    """The folder in which Azure stores what a deployment collects: for `report drift=` of a job, or `input=` of a pipeline.

    Raises:
        ConfigError: for an invalid name.

    Example:
        >>> collected_address("street", "blue")
        'azureml://datastores/workspaceblobstore/paths/modelDataCollector/street/blue/model_inputs'
    """
    for key, value in (("endpoint", endpoint), ("deployment", deployment)):
        check_matches(key, value, NAME, f"{key} name", "Use letters, digits and -.")
    folder = f"modelDataCollector/{endpoint}/{deployment}/{COLLECTION}"
    return f"azureml://datastores/workspaceblobstore/paths/{folder}"
