"""What there is to do, one task a file: a configuration in, a typed result out. The verbs, the scripts and your own
programs call these.

    >>> from pointseg import workflows
    >>> done = workflows.evaluate(workflows.EvaluateConfig(checkpoint="RUN_FOLDER"))  # doctest: +SKIP
    >>> done.scores.miou                                                              # doctest: +SKIP

Names are imported on use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers, which take `X as X` for a public name; at run time they are imported on use
    from pointseg.engine.prediction import Predicted as Predicted
    from pointseg.jobs.context import SweepMember as SweepMember
    from pointseg.jobs.search_space import Choice as Choice
    from pointseg.jobs.search_space import Real as Real
    from pointseg.jobs.search_space import Whole as Whole
    from pointseg.workflows.data.prepare import Prepared as Prepared
    from pointseg.workflows.data.prepare import prepare as prepare
    from pointseg.workflows.data.register_data import RegisteredData as RegisteredData
    from pointseg.workflows.data.register_data import register_data as register_data
    from pointseg.workflows.deployment.deploy import check_deploy as check_deploy
    from pointseg.workflows.deployment.deploy import deploy as deploy
    from pointseg.workflows.deployment.result import Deployed as Deployed
    from pointseg.workflows.evaluation.drift import DriftReport as DriftReport
    from pointseg.workflows.evaluation.drift import drift as drift
    from pointseg.workflows.evaluation.evaluate import Evaluated as Evaluated
    from pointseg.workflows.evaluation.evaluate import evaluate as evaluate
    from pointseg.workflows.evaluation.report import Reported as Reported
    from pointseg.workflows.evaluation.report import report as report
    from pointseg.workflows.labelling.invoke import Invoked as Invoked
    from pointseg.workflows.labelling.invoke import invoke as invoke
    from pointseg.workflows.labelling.predict import predict as predict
    from pointseg.workflows.labelling.select import Selected as Selected
    from pointseg.workflows.labelling.select import select as select
    from pointseg.workflows.model_table.list_models import ModelEntry as ModelEntry
    from pointseg.workflows.model_table.list_models import list_models as list_models
    from pointseg.workflows.pipelines.pipeline import PipelineResult as PipelineResult
    from pointseg.workflows.pipelines.pipeline import pipeline as pipeline
    from pointseg.workflows.service.serve import Service as Service
    from pointseg.workflows.service.serve import serve as serve
    from pointseg.workflows.settings.deploy import DeployConfig as DeployConfig
    from pointseg.workflows.settings.evaluate import EvaluateConfig as EvaluateConfig
    from pointseg.workflows.settings.export import ExportConfig as ExportConfig
    from pointseg.workflows.settings.invoke import InvokeConfig as InvokeConfig
    from pointseg.workflows.settings.models import ModelsConfig as ModelsConfig
    from pointseg.workflows.settings.pipeline import PipelineConfig as PipelineConfig
    from pointseg.workflows.settings.predict import PredictConfig as PredictConfig
    from pointseg.workflows.settings.prepare import PrepareConfig as PrepareConfig
    from pointseg.workflows.settings.provision import ProvisionConfig as ProvisionConfig
    from pointseg.workflows.settings.register_data import RegisterDataConfig as RegisterDataConfig
    from pointseg.workflows.settings.register_model import RegisterConfig as RegisterConfig
    from pointseg.workflows.settings.report import ReportConfig as ReportConfig
    from pointseg.workflows.settings.select import SelectConfig as SelectConfig
    from pointseg.workflows.settings.serve import ServeConfig as ServeConfig
    from pointseg.workflows.settings.shared import AzureConfig as AzureConfig
    from pointseg.workflows.settings.shared import GateConfig as GateConfig
    from pointseg.workflows.settings.shared import SyntheticConfig as SyntheticConfig
    from pointseg.workflows.settings.shared import TrackingConfig as TrackingConfig
    from pointseg.workflows.settings.shared import ViewsConfig as ViewsConfig
    from pointseg.workflows.settings.sweep import SearchConfig as SearchConfig
    from pointseg.workflows.settings.sweep import SweepConfig as SweepConfig
    from pointseg.workflows.settings.teardown import TeardownConfig as TeardownConfig
    from pointseg.workflows.settings.train import FeatureSettings as FeatureSettings
    from pointseg.workflows.settings.train import InferenceSettings as InferenceSettings
    from pointseg.workflows.settings.train import TrainConfig as TrainConfig
    from pointseg.workflows.settings.train import TrainerSettings as TrainerSettings
    from pointseg.workflows.sweeps.runs import Outcome as Outcome
    from pointseg.workflows.sweeps.search import SearchResult as SearchResult
    from pointseg.workflows.sweeps.search import search as search
    from pointseg.workflows.sweeps.sweep import SweepResult as SweepResult
    from pointseg.workflows.sweeps.sweep import sweep as sweep
    from pointseg.workflows.trained_models.export import Exported as Exported
    from pointseg.workflows.trained_models.export import export as export
    from pointseg.workflows.trained_models.promote import Promoted as Promoted
    from pointseg.workflows.trained_models.promote import promote as promote
    from pointseg.workflows.trained_models.register import Registered as Registered
    from pointseg.workflows.trained_models.register import register as register
    from pointseg.workflows.training.train import Trained as Trained
    from pointseg.workflows.training.train import check_train as check_train
    from pointseg.workflows.training.train import train as train
    from pointseg.workflows.workspace.provision import Provisioned as Provisioned
    from pointseg.workflows.workspace.provision import provision as provision
    from pointseg.workflows.workspace.teardown import TornDown as TornDown
    from pointseg.workflows.workspace.teardown import teardown as teardown

_NAMES = {  # by their modules
    "engine.prediction": "Predicted",
    "jobs.context": "SweepMember",
    "jobs.search_space": "Choice Real Whole",
    "workflows.data.prepare": "Prepared prepare",
    "workflows.data.register_data": "RegisteredData register_data",
    "workflows.deployment.deploy": "check_deploy deploy",
    "workflows.deployment.result": "Deployed",
    "workflows.evaluation.drift": "DriftReport drift",
    "workflows.evaluation.evaluate": "Evaluated evaluate",
    "workflows.evaluation.report": "Reported report",
    "workflows.labelling.invoke": "Invoked invoke",
    "workflows.labelling.predict": "predict",
    "workflows.labelling.select": "Selected select",
    "workflows.model_table.list_models": "ModelEntry list_models",
    "workflows.pipelines.pipeline": "PipelineResult pipeline",
    "workflows.service.serve": "Service serve",
    "workflows.settings.deploy": "DeployConfig",
    "workflows.settings.evaluate": "EvaluateConfig",
    "workflows.settings.export": "ExportConfig",
    "workflows.settings.invoke": "InvokeConfig",
    "workflows.settings.models": "ModelsConfig",
    "workflows.settings.pipeline": "PipelineConfig",
    "workflows.settings.predict": "PredictConfig",
    "workflows.settings.prepare": "PrepareConfig",
    "workflows.settings.provision": "ProvisionConfig",
    "workflows.settings.register_data": "RegisterDataConfig",
    "workflows.settings.register_model": "RegisterConfig",
    "workflows.settings.report": "ReportConfig",
    "workflows.settings.select": "SelectConfig",
    "workflows.settings.serve": "ServeConfig",
    "workflows.settings.shared": "AzureConfig GateConfig SyntheticConfig TrackingConfig ViewsConfig",
    "workflows.settings.sweep": "SearchConfig SweepConfig",
    "workflows.settings.teardown": "TeardownConfig",
    "workflows.settings.train": "FeatureSettings InferenceSettings TrainConfig TrainerSettings",
    "workflows.sweeps.runs": "Outcome",
    "workflows.sweeps.search": "SearchResult search",
    "workflows.sweeps.sweep": "SweepResult sweep",
    "workflows.trained_models.export": "Exported export",
    "workflows.trained_models.promote": "Promoted promote",
    "workflows.trained_models.register": "Registered register",
    "workflows.training.train": "Trained check_train train",
    "workflows.workspace.provision": "Provisioned provision",
    "workflows.workspace.teardown": "TornDown teardown",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pointseg.{_HOMES[name]}"), name)
