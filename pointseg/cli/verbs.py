"""The verbs and scripts: which workflow each one calls, with the composed configuration as the dataclass that it takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from pointseg import workflows
from pointseg.cli.console import progress_bar, says_yes
from pointseg.core.config_values import from_plain
from pointseg.core.progress import nobody
from pointseg.jobs.context import ALONE, JobContext, SweepMember
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.training.renamed_keys import renamed

__all__ = [
    "VERBS",
    "Job",
    "Verb",
    "plain",
    "processes_share",
    "run_verb",
    "settings_of",
    "train_config",
    "typed_settings",
    "values_told",
]

Settings = TypeVar("Settings")


@dataclass
class Job:
    """One run of a verb.

    Attributes:
        config: composed and checked.
        folder: the run folder.
        words: the overrides of the run.
        sweep: that the run belongs to.
        context: the job that this process belongs to.
        options: the options of a config group, shipped ones and the user's, each as what a training would get of it.
    """

    config: DictConfig
    folder: Path
    words: tuple[str, ...] = ()
    sweep: SweepMember | None = None
    context: JobContext = ALONE
    options: Callable[[str], Mapping[str, dict[str, Any]]] = lambda group: {}


@dataclass(frozen=True)
class Verb:
    """A command.

    Attributes:
        settings: the dataclass of what it can be told, by its name in `workflows`.
        workflow: what it does, by its name in `workflows`; where the configuration decides, a function of it.
        module: what `python -m` runs; scripts do not go along in a wheel.
        folder: whether the workflow is told the run's folder.
        progress: whether it shows how far it is.
        more: further arguments, made of the run when it is called.
        processes: whether several processes share its work.
    """

    settings: str
    workflow: str | Callable[[Any], str]
    module: str
    folder: bool = True
    progress: bool = True
    more: Mapping[str, Callable[[Job], Any]] = field(default_factory=dict)
    processes: bool = False

    def kind(self) -> Any:
        """The dataclass of its settings."""
        return getattr(workflows, self.settings)

    def __call__(self, job: Job) -> None:
        """Do one run."""
        workflow = getattr(workflows, self.workflow if isinstance(self.workflow, str) else self.workflow(job.config))
        arguments = {name: make(job) for name, make in self.more.items()}
        arguments |= {"folder": job.folder} if self.folder else {}
        arguments |= {"progress": progress_bar} if self.progress else {}
        workflow(settings_of(self.kind(), job.config), **arguments)


def _say_service(job: Job) -> Callable[[Any], None]:
    """The line that `deploy target=local` waits for."""

    def say(service: Any) -> None:
        shared = f"{service.threads} thread{'s' if service.threads > 1 else ''}"
        at_once = f" for {service.workers} clouds at a time" if service.workers > 1 else ""
        print(f"Serving {service.model} at {service.address} with {shared}{at_once}. Ctrl-C stops.", flush=True)

    return say


def _report_or_drift(config: Any) -> str:
    return "drift" if config.drift else "report"


def _asks_if_it_can(job: Job) -> Any:
    return says_yes if sys.stdin.isatty() else nobody


VERBS: dict[str, Verb] = {
    "deploy": Verb("DeployConfig", "deploy", "pointseg.deploy", progress=False),
    "evaluate": Verb("EvaluateConfig", "evaluate", "pointseg.evaluate"),
    "export": Verb("ExportConfig", "export", "pointseg.export"),
    "invoke": Verb("InvokeConfig", "invoke", "scripts/invoke.py", folder=False, more={"ask": lambda job: says_yes}),
    "models": Verb(
        "ModelsConfig",
        "list_models",
        "pointseg.models",
        folder=False,
        more={"sections": lambda job: job.options("model")},
    ),
    "predict": Verb("PredictConfig", "predict", "pointseg.predict", folder=False, processes=True),
    "prepare": Verb("PrepareConfig", "prepare", "pointseg.prepare"),
    "provision": Verb("ProvisionConfig", "provision", "scripts/provision.py", folder=False, progress=False),
    "register_data": Verb("RegisterDataConfig", "register_data", "scripts/register_data.py"),
    "register_model": Verb("RegisterConfig", "register", "pointseg.register_model"),
    "report": Verb("ReportConfig", _report_or_drift, "pointseg.report"),
    "select": Verb("SelectConfig", "select", "pointseg.select", folder=False),
    "serve": Verb(
        "ServeConfig",
        "serve",
        "pointseg.serve",
        folder=False,
        progress=False,
        more={"started": _say_service, "whole_process": lambda job: True},
    ),
    "teardown": Verb(
        "TeardownConfig",
        "teardown",
        "scripts/teardown.py",
        folder=False,
        progress=False,
        more={"ask": _asks_if_it_can},
    ),
}


def processes_share(verb: str) -> bool:
    """Whether several processes share the work of a verb."""
    return verb == "train" or (verb in VERBS and VERBS[verb].processes)


def run_verb(verb: str, job: Job) -> None:
    """Do one run in this process."""
    if verb == "train":
        _train(job)
    else:
        VERBS[verb](job)


def _train(job: Job) -> None:
    from pointseg.workflows.sweeps.runs import keep_outcome
    from pointseg.workflows.sweeps.search import pruning_of  # on use: they take torch along
    from pointseg.workflows.training.train import train

    compute: Any = job.context.compute or plain(job.config.compute)
    done = train(
        train_config(job.config),
        folder=job.folder,
        progress=progress_bar,
        composed=True,
        sweep=job.sweep,
        pruning=pruning_of(job.sweep),
        compute=compute,
        assets=job.context.inputs,
    )
    if done.scores is not None and job.sweep is not None and not job.context.compute:  # else who started it notes it
        keep_outcome(job.sweep, values_told(job.words), done.scores.miou, job.folder)


# ---- configurations ----------------------------------------------------------------------------------------------


def typed_settings(verb: str, config: DictConfig) -> Any:
    """The configuration of a verb as the dataclass of its task."""
    return train_config(config) if verb == "train" else settings_of(VERBS[verb].kind(), config)


def settings_of(kind: type[Settings], config: DictConfig | Mapping[str, Any]) -> Settings:
    """A composed configuration, or its values, as a dataclass.

    Raises:
        ConfigError: for a value of another kind than its key's.
    """
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    values = plain(config) if isinstance(config, DictConfig) else config
    return from_plain(kind, {key: value for key, value in values.items() if key in known})


def train_config(config: DictConfig) -> TrainConfig:
    """A composed configuration as that of `workflows.train`.

    Raises:
        ConfigError: naming the key that there is not, or whose value is of another kind.
    """
    values = {key: value for key, value in plain(config).items() if key in TrainConfig.__dataclass_fields__}
    return from_plain(TrainConfig, renamed(values))


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as plain values."""
    values = OmegaConf.to_container(section, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def values_told(words: Sequence[str]) -> dict[str, str]:
    """Overrides by key."""
    parts = (word.partition("=") for word in words)
    return {key.lstrip("+~"): value for key, _, value in parts}
