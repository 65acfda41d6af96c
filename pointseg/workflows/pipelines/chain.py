"""The steps of a pipeline as jobs that read each other's outputs, with all that can be refused before one begins."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from pointseg.core.config_values import from_plain
from pointseg.core.errors import ConfigError, PointsegError
from pointseg.core.package import shipped_folder
from pointseg.core.targets import is_target
from pointseg.jobs.backend import Backend, RemoteBackend
from pointseg.jobs.context import ALONE, SECTION, JobContext
from pointseg.jobs.pipeline import RUN, PipelineSpec, PipelineStep, Wire
from pointseg.jobs.spec import JobSpec, Place
from pointseg.workflows.default_sections import merged
from pointseg.workflows.job_specs.config_file import in_place, job_config
from pointseg.workflows.job_specs.extras import extras_of
from pointseg.workflows.job_specs.places import input_name, places_read
from pointseg.workflows.job_specs.spec import plain_task
from pointseg.workflows.pipelines.checks import check_step
from pointseg.workflows.settings.pipeline import STEPS, PipelineConfig
from pointseg.workflows.settings.shared import GateConfig
from pointseg.workflows.training.earlier_run import RESUME_AUTO

__all__ = ["OWN_KEYS", "STORE", "build_pipeline", "check_steps", "verb_of"]

VERBS = {"register": "register_model", "drift": "report"}  # of steps that are called otherwise
STORE = "store"  # the output of prepare
WORLD = {"scans": 66, "azimuth_steps": 1000}  # what prepare makes where nothing else is said
SHARES = ("train",)  # steps whose processes share the work
ELSEWHERE = ("deploy",)  # what they do is not in their folder: they look each time whether it is still there
AGAIN = (*ELSEWHERE, "drift")  # run each time: scans come and time goes on while the words stay the same
# Keys that say where a step works and what it reads: the pipeline's own.
OWN_KEYS = {
    "prepare": ("input", "output"),
    "train": ("resume", "rerun"),
    "evaluate": ("checkpoint", "output", "submission"),
    "register": ("run", "scores", "version", "gate"),
    "deploy": ("checkpoint", "plan"),
    "drift": ("drift", "output", "run"),
}


def verb_of(step: str) -> str:
    """The verb that a step runs."""
    return VERBS.get(step, step)


def check_steps(steps: list[str]) -> None:
    """Refuse steps that are no pipeline.

    Raises:
        ConfigError: for one that there is not, two in the wrong order, or none.
    """
    where = f"steps=[{','.join(steps)}]"
    if not steps:
        raise ConfigError("no step is asked for", where=where, remedy=f"Name some of {', '.join(STEPS)}.")
    for step in steps:
        if step not in STEPS:
            remedy = f"{_meant(step)}There is: {', '.join(STEPS)}."
            raise ConfigError(f"there is no step {step!r}", where=where, remedy=remedy)
    if steps != [step for step in STEPS if step in steps]:
        ordered = ",".join(step for step in STEPS if step in steps)
        raise ConfigError("each step comes once, after what it needs", where=where, remedy=f"Write steps=[{ordered}].")
    if "drift" in steps and len(steps) > 1:
        what = "the drift report stands alone: it runs by a schedule of its own"
        raise ConfigError(what, where=where, remedy="Write steps=[drift].")


def _meant(step: str) -> str:
    near = difflib.get_close_matches(step, STEPS, 1)
    return f"Did you mean {near[0]!r}? " if near else ""


def build_pipeline(config: PipelineConfig, backend: Backend | None = None, *, composed: bool = False) -> PipelineSpec:
    """The steps as jobs that read each other's outputs, each one's settings checked as its own task does.

    Args:
        backend: where they run; None: each in one process of this machine.
        composed: whether the steps say themselves where they are tracked.

    Raises:
        ConfigError: naming the step and the key.
    """
    return _Chain(config, backend, composed).pipeline()


class _Chain:
    """The steps while they are put together."""

    def __init__(self, config: PipelineConfig, backend: Backend | None, composed: bool) -> None:
        self.config, self.backend, self.composed = config, backend, composed
        check_steps(list(config.steps))
        self.remote = backend if isinstance(backend, RemoteBackend) else None
        self.steps: list[PipelineStep] = []
        self.data: Wire | str | None = config.input  # what is trained and scored on, where the pipeline says
        self.model: Wire | str | None = config.checkpoint
        self.scores: Wire | None = None
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        config, names = self.config, self.config.steps
        if "train" in names and config.checkpoint:
            raise ConfigError(
                "the model comes from the step train", where="checkpoint", remedy="Leave one of the two out."
            )
        if "train" not in names and not config.checkpoint and {"evaluate", "register", "deploy"} & set(names):
            raise ConfigError(
                "no step makes a model and none is given",
                where=f"steps=[{','.join(names)}]",
                remedy="Add train, or name the model: checkpoint=RUN_FOLDER.",
            )
        if config.gate != GateConfig() and "register" not in names:
            raise ConfigError("a gate stands before register", where="gate", remedy="Add register, or leave gate out.")

    def pipeline(self) -> PipelineSpec:
        for name in self.config.steps:
            try:
                getattr(self, f"_{name}")()
            except PointsegError as error:
                raise ConfigError(f"{name}: {error.what}", where=error.where, remedy=error.remedy) from error
        return PipelineSpec(tuple(self.steps))

    # ---- the steps -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        settings = self.config.prepare
        if self.data is None:
            made = settings.synthetic if settings.synthetic.scans else replace(settings.synthetic, **WORLD)
            form = "packed" if settings.format == "auto" else settings.format
            settings = replace(settings, synthetic=made, format=form)
        self._add("prepare", settings, {"input": self.data})
        later = [name for name in self.config.steps if name in ("train", "evaluate")]
        if later and (settings.validate or settings.format in ("parquet", "csv")):
            word = "validate=true" if settings.validate else f"format={settings.format}"
            raise ConfigError(f"this writes nothing that {later[0]} reads", where=word, remedy="Leave it out.")
        self.data = Wire("prepare", STORE)

    def _train(self) -> None:
        values = self._add("train", self.config.train, {"data.root": self.data})
        if "root" in values["data"]:
            root = values["data"]["root"]
            if root is None:
                remedy = "Add the step prepare, name input=DIR, or train=[data=synthetic]."
                raise ConfigError("nothing says what to train on", where="data.root", remedy=remedy)
            if self.data is None:
                self.data = str(root)  # its own settings name it: evaluate reads the same
        self.model = Wire("train")

    def _evaluate(self) -> None:
        self._add("evaluate", self.config.evaluate, {"checkpoint": self.model, "data.root": self.data})
        self.scores = Wire("evaluate")

    def _register(self) -> None:
        settings = self.config.register
        reads = {"run": self.model, "scores": self.scores, "data.root": self.data if settings.promote else None}
        limits = {key: float(value) for key, value in vars(self.config.gate).items() if value is not None}
        self._add("register", settings, reads, limits)

    def _deploy(self) -> None:
        model = Wire("register") if "register" in self.config.steps else self.model
        self._add("deploy", self.config.deploy, {"checkpoint": model})

    def _drift(self) -> None:
        if self.data is None:
            remedy = "Name the folder: input=COLLECTED."
            raise ConfigError("nothing says which scans are judged", where="input", remedy=remedy)
        against = None if self.config.drift.against else self.model
        if against is None and not self.config.drift.against:
            remedy = "Name the model: checkpoint=models:/NAME@ALIAS, or a packed store: drift=[against=STORE]."
            raise ConfigError("nothing says what the scans are compared with", where="checkpoint", remedy=remedy)
        self._add("drift", self.config.drift, {"drift": self.data, "against": against})

    # ---- their settings --------------------------------------------------------------------------------------

    def _add(
        self,
        step: str,
        settings: Any,
        reads: Mapping[str, Wire | str | None],
        limits: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Check a step's settings with what it reads in them, and keep the step; gives them as plain values."""
        self._refuse_own(step, settings)
        named = {key: value for key, value in reads.items() if value is not None}
        if hasattr(settings, "tracking") and not self.composed and settings.tracking == type(settings)().tracking:
            settings = replace(settings, tracking=self.config.tracking)
        if "data.root" in named:
            settings = replace(settings, data=_real_scans(settings.data))
        values = plain_task(verb_of(step), settings)
        for key, source in named.items():
            _put(values, key, _shown(source))
        gate = {f"gate.{key}": value for key, value in (limits or {}).items()}
        for key, value in gate.items():
            _put(values, key, value)
        checked = from_plain(type(settings), values)
        if step == "prepare":
            checked.output = f"<{STORE}>"
        check_step(step, checked, remote=self.remote is not None)
        wires = {key: source for key, source in named.items() if isinstance(source, Wire)}
        spec = self._job(step, checked, values, wires, gate)
        wired = {input_name(key): wire for key, wire in wires.items()}
        self.steps.append(PipelineStep(step, spec, wired, keeps=step not in AGAIN))
        return values

    def _refuse_own(self, step: str, settings: Any) -> None:
        """Raises ConfigError for a key that is the pipeline's."""
        usual = type(settings)()
        for key in OWN_KEYS[step]:
            if getattr(settings, key) != getattr(usual, key):
                raise ConfigError("the pipeline sets this itself", where=key, remedy="See its own keys.")
        data = getattr(settings, "data", {})
        if self.data is not None and data.get("root") is not None:
            remedy = "Use input=DIR for it."
            raise ConfigError("the data are given by the pipeline", where=f"data.root={data['root']}", remedy=remedy)

    def _job(
        self,
        step: str,
        checked: Any,
        values: Mapping[str, Any],
        wires: Mapping[str, Wire],
        limits: Mapping[str, float],
    ) -> JobSpec:
        """The step's command, with names of places for what it reads and writes."""
        verb, remote = verb_of(step), self.remote
        mode: Any = remote.data_mode if remote else "mount"
        outside = copy.deepcopy(dict(values))
        for key in wires:
            _put(outside, key, None)
        words, inputs = places_read(type(checked), outside, mode)
        inputs |= {input_name(key): Place("", mode=mode) for key in wires}
        inputs |= {input_name(key): Place(repr(value), "number") for key, value in limits.items()}
        words |= {key: f"{key}=${{{{inputs.{input_name(key)}}}}}" for key in (*wires, *limits)}
        outputs = {RUN: Place("")}
        if step == "prepare":
            outputs[STORE] = Place("")
            words["output"] = f"output=${{{{outputs.{STORE}}}}}"
        if step == "train":
            words["resume"] = f"resume={RESUME_AUTO}"  # one that was stopped, or whose machine was taken away, goes on
        words["hydra.run.dir"] = f"hydra.run.dir=${{{{outputs.{RUN}}}}}"
        context = self._context(step)
        content = {**outside, SECTION: context.to_dict()} if step in ELSEWHERE else in_place(outside, context)
        spec = JobSpec(
            f"pointseg.{verb}",
            (),
            inputs,
            outputs,
            config=job_config(verb, content),
            extras=extras_of(verb, checked, remote.environment) if remote else (),
            **self._processes(step),
        ).told(words)
        return spec.with_assets() if remote else spec

    def _context(self, step: str) -> JobContext:
        """What made the processes of a step; {} where it is one process of this machine."""
        if self.remote is None and not self._processes(step):
            return ALONE
        return JobContext(compute=dict(self.config.compute))

    def _processes(self, step: str) -> dict[str, Any]:
        if step not in SHARES or self.backend is None:
            return {}
        return {"nodes": self.backend.nodes, "processes": self.backend.processes}


def _real_scans(section: Mapping[str, Any]) -> dict[str, Any]:
    """A data section of scans in a folder; one that says what it is stays as it is."""
    if is_target(section):
        return dict(section)
    path = shipped_folder("configs") / "data" / "semantickitti.yaml"
    return merged(yaml.safe_load(path.read_text(encoding="utf-8")), section)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        values = values[parent]
    values[name] = value


def _shown(source: Wire | str) -> str:
    """A path; of what a step has yet to write, a name that is none."""
    return f"<{source.step}.{source.output}>" if isinstance(source, Wire) else source
