"""Rules by which Azure Monitor adds and removes the machines of an online deployment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.azure.names import check_whole
from pointseg.azure.ours import TAG, is_ours
from pointseg.azure.plan import Step
from pointseg.azure.workspace import Workspace, credential_of
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["Autoscale", "autoscale_steps", "monitor", "settings_of"]

log = logging.getLogger(__name__)

METRIC = "CpuUtilizationPercentage"  # of a deployment, over its machines
OTHERS = "made by somebody else, and left as it is"


@dataclass(frozen=True)
class Autoscale:
    """When machines come and go.

    Args:
        most: machines at most; None: their number stays as it is.
        least: machines at least.
        cpu_percent: average load above which one is added.
        low_percent: below which one is taken away.
        minutes: over which the load is averaged.
        cooldown: minutes between two changes.

    Raises:
        ConfigError: naming the key.
    """

    most: int | None = None
    least: int = 1
    cpu_percent: int = 70
    low_percent: int = 30
    minutes: int = 5
    cooldown: int = 10

    def __post_init__(self) -> None:
        check_whole("managed.autoscale.min", self.least, 1, 50)
        for key, least, most in (
            ("cpu_percent", 1, 100),
            ("low_percent", 0, 99),
            ("minutes", 5, 720),
            ("cooldown", 1, 1440),
        ):
            check_whole(f"managed.autoscale.{key}", getattr(self, key), least, most)
        if self.low_percent >= self.cpu_percent:
            raise ConfigError(
                f"machines would go below {self.low_percent} % and come above {self.cpu_percent} %",
                where="managed.autoscale.low_percent",
                remedy="Give less than managed.autoscale.cpu_percent, such as half of it.",
            )
        if self.most is not None and check_whole("managed.autoscale.max", self.most, 1, 50) < self.least:
            raise ConfigError(
                f"max {self.most} is below min {self.least}", where="managed.autoscale.max", remedy="Give min or more."
            )

    def check_instances(self, instances: int) -> None:
        """Raises ConfigError if a deployment would begin with a number of machines that is out of bounds."""
        if self.most is not None and not self.least <= instances <= self.most:
            raise ConfigError(
                f"{instances} is not within {self.least} to {self.most} of managed.autoscale",
                where="managed.instances",
                remedy="Give a number within.",
            )

    def __str__(self) -> str:
        return (
            f"{self.least} to {self.most} machines: one more above {self.cpu_percent} % of the processors over "
            f"{self.minutes} min, one less below {self.low_percent} %"
        )


def monitor(workspace: Workspace, auth: str) -> Any:
    """The client of Azure Monitor for a workspace's subscription.

    Raises:
        ConfigError: if azure-mgmt-monitor, or what signs in, is missing.
    """
    sdk = needed("azure.mgmt.monitor", "azure", "autoscaling")
    return sdk.MonitorManagementClient(credential_of(auth), workspace.subscription)


def settings_of(client: Any, group: str, deployment_id: str) -> list[Any]:
    """The autoscale settings of a deployment, whoever made them.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    with plain_errors("looking for rules of autoscaling"):
        return [
            one
            for one in client.autoscale_settings.list_by_resource_group(group)
            if str(one.target_resource_uri).lower() == deployment_id.lower()
        ]


def autoscale_steps(
    client: Any,
    group: str,
    name: str,
    wanted: Autoscale,
    target: Callable[[], tuple[str, str]],
    there: list[Any],
    *,
    undo: bool,
) -> list[Step]:
    """Rules for a deployment: made, changed, kept, or removed where none are wanted.

    Args:
        name: of the rules.
        target: gives the deployment's id and region, once it is there.
        there: what `settings_of` gave.
        undo: remove new rules where what follows fails.
    """
    others = [one for one in there if one.name != name and not is_ours(one.tags)]
    if wanted.most is None:
        left = [Step("autoscale", one.name, "keep", notes=(OTHERS,)) for one in others]
        return left + [
            Step("autoscale", one.name, "delete", ("the number of machines stays",), _deleting(client, group, one.name))
            for one in there
            if one not in others
        ]
    present = next((one for one in there if one.name == name), None)
    if there and present is None:
        return [Step("autoscale", there[0].name, "keep", notes=(OTHERS,))]
    if present is not None and _facts(present) == _facts_of(wanted):
        return [Step("autoscale", name, "keep")]

    def put() -> None:
        deployment_id, region = target()
        with plain_errors(f"making the rules of autoscaling {name}"):
            client.autoscale_settings.create_or_update(group, name, _resource(name, deployment_id, region, wanted))

    def take_back() -> str:
        with plain_errors(f"deleting the rules of autoscaling {name}"):
            client.autoscale_settings.delete(group, name)
        return "its rules of autoscaling are removed"

    if present is not None:
        return [Step("autoscale", name, "update", (str(wanted),), put)]
    notes = (f"cost: up to {wanted.most} machines, for as long as there is work; the quota has to do for them",)
    return [Step("autoscale", name, "create", (str(wanted),), put, notes, undo=take_back if undo else None)]


def _deleting(client: Any, group: str, name: str) -> Callable[[], None]:
    def delete() -> None:
        with plain_errors(f"deleting the rules of autoscaling {name}"):
            client.autoscale_settings.delete(group, name)

    return delete


def _resource(name: str, deployment_id: str, region: str, wanted: Autoscale) -> Any:
    models = needed("azure.mgmt.monitor.models", "azure", "autoscaling")

    def rule(operator: str, threshold: int, direction: str) -> Any:
        trigger = models.MetricTrigger(
            metric_name=METRIC,
            metric_resource_uri=deployment_id,
            time_grain=timedelta(minutes=1),
            statistic="Average",
            time_window=timedelta(minutes=wanted.minutes),
            time_aggregation="Average",
            operator=operator,
            threshold=threshold,
        )
        action = models.ScaleAction(
            direction=direction, type="ChangeCount", value="1", cooldown=timedelta(minutes=wanted.cooldown)
        )
        return models.ScaleRule(metric_trigger=trigger, scale_action=action)

    profile = models.AutoscaleProfile(
        name="by load",
        capacity=models.ScaleCapacity(minimum=str(wanted.least), maximum=str(wanted.most), default=str(wanted.least)),
        rules=[
            rule("GreaterThan", wanted.cpu_percent, "Increase"),
            rule("LessThan", wanted.low_percent, "Decrease"),
        ],
    )
    return models.AutoscaleSettingResource(
        location=region,
        tags=dict(TAG),
        profiles=[profile],
        enabled=True,  # the service's own default is off
        name_properties_name=name,
        target_resource_uri=deployment_id,
    )


def _facts_of(wanted: Autoscale) -> list[Any]:
    window, cooldown = timedelta(minutes=wanted.minutes), timedelta(minutes=wanted.cooldown)
    rules = [("GreaterThan", wanted.cpu_percent, window, cooldown), ("LessThan", wanted.low_percent, window, cooldown)]
    return [True, str(wanted.least), str(wanted.most), rules]


def _facts(there: Any) -> list[Any]:
    """What of a setting counts, to compare it with another."""
    if len(there.profiles or []) != 1:
        return []
    profile = there.profiles[0]
    rules = [
        (
            one.metric_trigger.operator,
            one.metric_trigger.threshold,
            one.metric_trigger.time_window,
            one.scale_action.cooldown,
        )
        for one in profile.rules
    ]
    return [bool(there.enabled), profile.capacity.minimum, profile.capacity.maximum, rules]
