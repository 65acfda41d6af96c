"""What `pipeline` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import PARTS, READS, TEXT, key, section
from pointseg.workflows.settings.deploy import DeployConfig
from pointseg.workflows.settings.evaluate import EvaluateConfig
from pointseg.workflows.settings.prepare import PrepareConfig
from pointseg.workflows.settings.register_model import RegisterConfig
from pointseg.workflows.settings.report import ReportConfig
from pointseg.workflows.settings.shared import AzureConfig, GateConfig, TrackingConfig
from pointseg.workflows.settings.train import TrainConfig

__all__ = ["STEPS", "PipelineConfig", "PipelineSettings"]

STEPS = ("prepare", "train", "evaluate", "register", "deploy", "drift")
Names = list[str]  # one of the keys below is called `list`


@dataclass
class PipelineSettings:
    """What a pipeline can be told beside the settings of its steps."""

    tracking: TrackingConfig = section(TrackingConfig, "of all steps; tracking.uri is the registry as well")
    steps: Names = key(
        ["prepare", "train", "evaluate", "register"],
        "any of these in this order, and deploy after them; or drift, alone",
        choices=STEPS,
    )
    input: str | None = key(
        None,
        "what the first step reads: raw scans, a packed store, or azureml:NAME:VERSION; null: prepare makes synthetic scans",
        READS,
    )
    checkpoint: str | None = key(
        None, "without the step train: the model that is evaluated and registered, as `checkpoint` of evaluate", READS
    )
    gate: GateConfig = section(
        GateConfig,
        "scores of the step evaluate (without it, of the training) that a model must reach to be registered, else exit "
        "code 3",
        heading="The gate, and steps that are finished.",
    )
    force_rerun: bool = key(False, "run finished steps again, though nothing has changed")
    light_cluster: str | None = key(
        None,
        "a second cluster, for all steps but train; null: compute.cluster",
        TEXT,
        heading="In Azure, with compute=aml_*.",
    )
    publish: str | None = key(
        None, "NAME: not run now, but kept as a pipeline component behind the batch endpoint NAME", TEXT
    )
    version: str | None = key(
        None,
        "of what is published; an existing version must have the same content. null: made of the content, so that the same "
        "pipeline is published once",
        TEXT,
    )
    schedule: str | None = key(None, "with publish: a cron expression of five fields, such as '0 3 * * 1'", TEXT)
    time_zone: str = key("UTC", "of the schedule, as Windows names it, such as 'W. Europe Standard Time'", TEXT)
    list: bool = key(False, "list what is published and scheduled")
    invoke: str | None = key(None, "NAME: run what is published", TEXT)
    enable: str | None = key(None, "NAME: let its schedule run", TEXT)
    disable: str | None = key(None, "NAME: let its schedule rest", TEXT)
    remove: str | None = key(None, "NAME: delete its schedule; what is published stays", TEXT)


@dataclass
class PipelineConfig(PipelineSettings):
    """From scans to a registered, deployed model: any of these steps, each with the settings of its own task.

    Example:
        >>> PipelineConfig(input="KITTI", train=TrainConfig(seed=1), gate=GateConfig(miou=0.25))
        >>> PipelineConfig(steps=["drift"], input="collected", checkpoint="models:/street@champion")
    """

    prepare: PrepareConfig = section(PrepareConfig, "of the step", heading="Each step, as its own task.")
    train: TrainConfig = section(TrainConfig, "of the step")
    evaluate: EvaluateConfig = section(EvaluateConfig, "of the step")
    register: RegisterConfig = section(RegisterConfig, "of the step")
    deploy: DeployConfig = section(DeployConfig, "of the step")
    drift: ReportConfig = section(ReportConfig, "of the step: the scans of input against the model of checkpoint")
    compute: dict[str, Any] = key({}, "where the steps run; {}: processes of this machine", PARTS)
    azure: AzureConfig = section(AzureConfig, "the workspace, where the steps run in Azure ML")
