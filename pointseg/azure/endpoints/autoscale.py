"""Rules by which Azure Monitor adds and removes the machines of an online deployment."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from pointseg.azure.errors import AzureError, completed, plain_errors
from pointseg.azure.names import check_whole
from pointseg.azure.sign_in import credential_of
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG, made_by_pointseg
from pointseg.azure.workspace import Workspace
from pointseg.core.errors import ConfigError
from pointseg.core.optional_packages import needed

__all__ = ["Autoscale", "Autoscaler", "monitor_client"]

log = logging.getLogger(__name__)

METRIC = "CpuUtilizationPercentage"  # of a deployment, over its machines
LIMITS = {"min": (1, 50), "cpu_percent": (1, 100), "low_percent": (0, 99), "minutes": (5, 720), "cooldown": (1, 1440)}


@dataclass(frozen=True)
class Autoscale:
    """When machines come and go, by the keys of `managed.autoscale`; `AutoscaleConfig` declares what each means.

    Raises:
        ConfigError: naming the key.
    """

    max: int | None
    min: int
    cpu_percent: int
    low_percent: int
    minutes: int
    cooldown: int

    def __post_init__(self) -> None:
        for key, limits in LIMITS.items():
            check_whole(f"managed.autoscale.{key}", getattr(self, key), *limits)
        if self.low_percent >= self.cpu_percent:
            raise ConfigError(
                f"machines would go below {self.low_percent} % and come above {self.cpu_percent} %",
                where="managed.autoscale.low_percent",
                remedy="Give less than managed.autoscale.cpu_percent, such as half of it.",
            )
        if self.max is not None and check_whole("managed.autoscale.max", self.max, 1, 50) < self.min:
            text = f"max {self.max} is below min {self.min}"
            raise ConfigError(text, where="managed.autoscale.max", remedy="Give min or more.")

    def check_instances(self, instances: int) -> None:
        """Raises ConfigError if a deployment would start with a number of machines outside the limits."""
        if self.max is not None and not self.min <= instances <= self.max:
            text = f"{instances} is not within {self.min} to {self.max} of managed.autoscale"
            raise ConfigError(text, where="managed.instances", remedy="Give a number within.")

    def __str__(self) -> str:
        return (
            f"{self.min} to {self.max} machines: one more above {self.cpu_percent} % of the processors over "
            f"{self.minutes} min, one less below {self.low_percent} %"
        )

    @property
    def facts(self) -> list[Any]:
        """What rules are compared by."""
        window, cooldown = timedelta(minutes=self.minutes), timedelta(minutes=self.cooldown)
        more, less = ("GreaterThan", self.cpu_percent), ("LessThan", self.low_percent)
        return [True, str(self.min), str(self.max), [(*more, window, cooldown), (*less, window, cooldown)]]

    def resource(self, name: str, deployment_id: str, region: str) -> Any:
        """The SDK's `AutoscaleSettingResource`."""
        models = needed("azure.mgmt.monitor.models", "azure", "autoscaling")
        rules = []
        for (operator, threshold, window, cooldown), direction in zip(
            self.facts[-1], ("Increase", "Decrease"), strict=True
        ):
            trigger = models.MetricTrigger(
                metric_name=METRIC,
                metric_resource_uri=deployment_id,
                time_grain=timedelta(minutes=1),
                statistic="Average",
                time_window=window,
                time_aggregation="Average",
                operator=operator,
                threshold=threshold,
            )
            action = models.ScaleAction(direction=direction, type="ChangeCount", value="1", cooldown=cooldown)
            rules.append(models.ScaleRule(metric_trigger=trigger, scale_action=action))
        capacity = models.ScaleCapacity(minimum=str(self.min), maximum=str(self.max), default=str(self.min))
        return models.AutoscaleSettingResource(
            location=region,
            tags=dict(MADE_BY_TAG),
            profiles=[models.AutoscaleProfile(name="by load", capacity=capacity, rules=rules)],
            enabled=True,  # the service's own default is off
            name_properties_name=name,
            target_resource_uri=deployment_id,
        )


def _facts(existing: Any) -> list[Any]:
    """What the rules of a deployment are compared by, as `Autoscale.facts`."""
    if len(existing.profiles or []) != 1:
        return []
    profile = existing.profiles[0]
    rules = [
        (trigger.operator, trigger.threshold, trigger.time_window, rule.scale_action.cooldown)
        for rule in profile.rules
        for trigger in [rule.metric_trigger]
    ]
    return [bool(existing.enabled), profile.capacity.minimum, profile.capacity.maximum, rules]


def monitor_client(workspace: Workspace, auth: str) -> Any:
    """The client of Azure Monitor for a workspace's subscription.

    Raises:
        ConfigError: if azure-mgmt-monitor, or what signs in, is missing.
    """
    sdk = needed("azure.mgmt.monitor", "azure", "autoscaling")
    return sdk.MonitorManagementClient(credential_of(auth), workspace.subscription)


class Autoscaler:
    """The autoscale settings of the deployments of one endpoint.

    Args:
        monitor: the client of Azure Monitor.
        group: the resource group.
        wanted: rules for the wanted deployment.
    """

    def __init__(self, monitor: Any, group: str, wanted: Autoscale) -> None:
        self.settings, self.group, self.wanted = monitor.autoscale_settings, group, wanted

    def steps(self, client: Any, endpoint: str, deployment: str, existing: Any, *, undo: bool) -> list[Step]:
        """Make, change or keep the rules of a deployment, or remove them where none are wanted.

        Args:
            client: of the workspace.
            existing: the deployment; None if it is yet to be made.
            undo: remove new rules where what follows fails.

        Raises:
            AzureError: if Azure cannot be asked.
        """
        name, wanted = f"pointseg-{endpoint}-{deployment}", self.wanted
        rules = [] if existing is None else self._rules_of(str(existing.id))
        foreign = [rule for rule in rules if rule.name != name and not made_by_pointseg(rule.tags)]
        kept = [
            Step("autoscale", rule.name, "keep", notes=("made by somebody else, and left as it is",))
            for rule in foreign
        ]
        if wanted.max is None:
            removed = [rule.name for rule in rules if rule not in foreign]
            change = ("the number of machines stays",)
            return kept + [Step("autoscale", rule, "delete", change, partial(self._delete, rule)) for rule in removed]
        own = next((rule for rule in rules if rule.name == name), None)
        if rules and own is None:
            return kept[:1] or [Step("autoscale", rules[0].name, "keep")]
        if own is not None and _facts(own) == wanted.facts:
            return [Step("autoscale", name, "keep")]

        def put() -> None:
            with plain_errors(f"looking at the deployment {deployment}"):
                made = client.online_deployments.get(deployment, endpoint)
                region = client.online_endpoints.get(endpoint).location
            resource = wanted.resource(name, str(made.id), str(region))
            put = partial(self.settings.create_or_update, self.group, name, resource)
            completed(f"making the rules of autoscaling {name}", put)

        def take_back() -> str:
            self._delete(name)
            return "its rules of autoscaling are removed"

        if own is not None:
            return [Step("autoscale", name, "update", (str(wanted),), put)]
        notes = (f"cost: up to {wanted.max} machines while there is work; the quota must allow them",)
        return [Step("autoscale", name, "create", (str(wanted),), put, notes, undo=take_back if undo else None)]

    def remove(self, deployment_id: str) -> None:
        """Remove this project's rules for a deployment, which would stay without it."""
        for rule in self._rules_of(deployment_id):
            if made_by_pointseg(rule.tags):
                self._delete(rule.name)

    def _rules_of(self, deployment_id: str) -> list[Any]:
        """The rules of a deployment, whoever made them."""
        try:
            with plain_errors("looking for rules of autoscaling"):
                rules = list(self.settings.list_by_resource_group(self.group))
        except AzureError as error:
            if self.wanted.max is not None:
                raise
            log.warning("It is not known whether there are rules of autoscaling: %s", error)
            return []
        return [rule for rule in rules if str(rule.target_resource_uri).lower() == deployment_id.lower()]

    def _delete(self, name: str) -> None:
        delete = partial(self.settings.delete, self.group, name)
        completed(f"deleting the rules of autoscaling {name}", delete)
