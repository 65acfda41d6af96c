"""The steps of `pipeline`: each one's words, what it reads of earlier ones, and that all of it can be."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from pointseg.cli.checks import config_folder
from pointseg.cli.command_line import composed
from pointseg.cli.dispatch import module_of
from pointseg.cli.job_extras import extras_of
from pointseg.cli.job_inputs import with_inputs_told
from pointseg.cli.job_places import READ, with_places
from pointseg.cli.overrides import quote, split_arguments
from pointseg.cli.saved import AUTO
from pointseg.cli.values import plain
from pointseg.compute.pipeline import RUN, PipelineSpec, PipelineStep, Wire
from pointseg.compute.spec import JobSpec, Place
from pointseg.errors import ConfigError, PointsegError

__all__ = ["STEPS", "build_pipeline", "check_steps"]

STEPS = ("prepare", "train", "evaluate", "register", "deploy", "drift")
VERBS = {"register": "register_model", "drift": "report"}  # of steps that are called otherwise
STORE = "store"  # the output of prepare
SHARES = ("train",)  # steps whose processes share the work
ELSEWHERE = ("deploy",)  # what they do is not in their folder: they look each time whether it is still there
AGAIN = (*ELSEWHERE, "drift")  # run each time: scans come and time goes on while the words stay the same
# Keys that say where a step works and what it reads: the pipeline's own.
OWN = {
    "prepare": ("input", "output"),
    "train": ("resume", "rerun"),
    "evaluate": ("checkpoint", "output", "submission"),
    "register": ("run", "scores", "version"),
    "deploy": ("checkpoint", "plan"),
    "drift": ("drift", "output", "run"),
}


def check_steps(config: DictConfig) -> list[str]:
    """The steps that are asked for.

    Raises:
        ConfigError: for one that there is not, two in the wrong order, or none.
    """
    steps = [str(step) for step in config.steps]
    where = f"steps=[{','.join(steps)}]"
    if not steps:
        raise ConfigError("no step is asked for", where=where, remedy=f"Name some of {', '.join(STEPS)}.")
    for step in steps:
        if step not in STEPS:
            near = difflib.get_close_matches(step, STEPS, 1)
            said = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"there is no step {step!r}", where=where, remedy=f"{said}There is: {', '.join(STEPS)}.")
    if steps != [step for step in STEPS if step in steps]:
        ordered = ",".join(step for step in STEPS if step in steps)
        raise ConfigError("each step comes once, after what it needs", where=where, remedy=f"Write steps=[{ordered}].")
    if "drift" in steps and len(steps) > 1:
        what = "the drift report stands alone: it runs by a schedule of its own"
        raise ConfigError(what, where=where, remedy="Write steps=[drift].")
    return steps


def build_pipeline(config: DictConfig) -> PipelineSpec:
    """The steps as jobs that read each other's outputs, every word checked as the step's own command does.

    Raises:
        ConfigError: naming the step and the word.
    """
    return _Chain(config).pipeline()


class _Chain:
    """The steps while they are put together."""

    def __init__(self, config: DictConfig) -> None:
        self.config, self.names = config, check_steps(config)
        self.remote = str(config.compute.name).startswith("aml_")
        self.steps: list[PipelineStep] = []
        self.data: Wire | str | None = config.input  # what is trained and scored on, where the pipeline says
        self.model: Wire | str | None = config.checkpoint
        self.scores: Wire | None = None
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        config, names = self.config, self.names
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
        gate = {key: value for key, value in plain(config.gate).items() if value is not None}
        if gate and "register" not in names:
            raise ConfigError("a gate stands before register", where="gate", remedy="Add register, or leave gate out.")

    def pipeline(self) -> PipelineSpec:
        for name in self.names:
            try:
                getattr(self, f"_{name}")()
            except PointsegError as error:
                raise ConfigError(f"{name}: {error.what}", where=error.where, remedy=error.remedy) from error
        return PipelineSpec(tuple(self.steps))

    # ---- the steps -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        words = self._words("prepare")
        keys = _keys(words)
        made = [f"synthetic.{key}={value}" for key, value in plain(self.config.synthetic).items()]
        given = [word for word in made if word.partition("=")[0] not in keys]
        form = [] if "format" in keys or self.config.input else ["format=packed"]
        config = self._add("prepare", [*([] if self.config.input else given), *form, *words], {"input": self.data})
        later = [name for name in self.names if name in ("train", "evaluate")]
        if later and (config.validate or config.format in ("parquet", "csv")):
            word = "validate=true" if config.validate else f"format={config.format}"
            raise ConfigError(f"this writes nothing that {later[0]} reads", where=word, remedy="Leave it out.")
        self.data = Wire("prepare", STORE)

    def _train(self) -> None:
        config = self._add("train", [*self._tracking(), *self._words("train")], {"data.root": self.data})
        if "root" in config.data:
            if config.data.root is None:
                remedy = "Add the step prepare, name input=DIR, or train=[data=synthetic]."
                raise ConfigError("nothing says what to train on", where="data.root", remedy=remedy)
            if self.data is None:
                self.data = str(config.data.root)  # its own words name it: evaluate reads the same
        self.model = Wire("train")

    def _evaluate(self) -> None:
        reads = {"checkpoint": self.model, "data.root": self.data}
        self._add("evaluate", [*self._tracking(), *self._words("evaluate")], reads)
        self.scores = Wire("evaluate")

    def _register(self) -> None:
        words = self._words("register")
        compares = _keys(words).get("promote", "null") != "null"
        reads = {"run": self.model, "scores": self.scores, "data.root": self.data if compares else None}
        limits = {key: float(value) for key, value in plain(self.config.gate).items() if value is not None}
        self._add("register", [*self._tracking(), *words], reads, limits)

    def _deploy(self) -> None:
        model = Wire("register") if "register" in self.names else self.model
        self._add("deploy", [*self._tracking(), *self._words("deploy")], {"checkpoint": model})

    def _drift(self) -> None:
        words = self._words("drift")
        if self.data is None:
            remedy = "Name the folder: input=COLLECTED."
            raise ConfigError("nothing says which scans are judged", where="input", remedy=remedy)
        against = None if "against" in _keys(words) else self.model
        if against is None and "against" not in _keys(words):
            remedy = "Name the model: checkpoint=models:/NAME@ALIAS, or a packed store: drift=[against=STORE]."
            raise ConfigError("nothing says what the scans are compared with", where="checkpoint", remedy=remedy)
        self._add("drift", [*self._tracking(), *words], {"drift": self.data, "against": against})

    # ---- their words -----------------------------------------------------------------------------------------

    def _words(self, step: str) -> list[str]:
        """What the user says to a step.

        Raises:
            ConfigError: for a key that is the pipeline's.
        """
        words = [str(word) for word in self.config[step] or ()]
        flags, words = split_arguments(words)
        if flags:
            raise ConfigError(
                "a step is not swept over", where=flags[0], remedy="Sweep a verb: python -m pointseg.train -m."
            )
        for word in words:
            key = word.partition("=")[0].lstrip("+~")
            own = ("hydra", "compute") if step in ELSEWHERE else ("hydra", "compute", "azure")
            if key.split(".")[0] in own or key in OWN[step] or key.startswith("gate"):
                raise ConfigError("the pipeline sets this itself", where=word, remedy="See its own keys in --help.")
            if key == "data.root" and self.data is not None:
                raise ConfigError("the data are given by the pipeline", where=word, remedy="Use input=DIR for it.")
        return words

    def _tracking(self) -> list[str]:
        """The pipeline's `tracking` section as words; a step's own come after them."""
        values = plain(self.config.tracking)
        if values["uri"] in ("off", None):
            return ["tracking=off"]
        usual = yaml.safe_load((config_folder() / "tracking" / "mlflow.yaml").read_text(encoding="utf-8"))
        tags = values.pop("tags")
        values |= {f"tags.{key}": value for key, value in tags.items()}
        words = [f"tracking.{key}={_written(value)}" for key, value in values.items() if value != usual.get(key)]
        return ["tracking=mlflow", *words]

    def _add(
        self,
        step: str,
        words: Sequence[str],
        reads: dict[str, Wire | str | None],
        numbers: dict[str, float] | None = None,
    ) -> DictConfig:
        """Compose and check a step's configuration, and keep the step."""
        from pointseg.cli.pipeline_checks import check_step

        verb = VERBS.get(step, step)
        words = list({_key_of(word): word for word in words}.values())  # the last one of each key counts
        if reads.get("data.root") is not None and "data" not in _keys(words):
            words.append("data=semantickitti")
        named = {key: value for key, value in reads.items() if value is not None}
        limits = {f"gate.{key}": value for key, value in (numbers or {}).items()}
        given = [f"{key}={_shown(value)}" for key, value in named.items()] + [f"{k}={v}" for k, v in limits.items()]
        config, overrides = composed(verb, [*words, *given])
        if step == "prepare":
            config.output = f"<{STORE}>"
        check_step(step, config, overrides, remote=self.remote)
        wires = {key: value for key, value in named.items() if isinstance(value, Wire)}
        spec = self._job(step, config, overrides, wires, limits)
        wired = {_name(key): wire for key, wire in wires.items()}
        self.steps.append(PipelineStep(step, spec, wired, keeps=step not in AGAIN))
        return config

    def _job(
        self,
        step: str,
        config: DictConfig,
        overrides: Sequence[str],
        wires: dict[str, Wire],
        limits: dict[str, float],
    ) -> JobSpec:
        """The step's command, with names of places for what it reads and writes."""
        mode = self.config.compute.get("data_mode", "mount")
        outside = config.copy()
        for key in wires:
            OmegaConf.update(outside, key, None)
        words, inputs = with_places(outside, overrides, mode)
        inputs |= {_name(key): Place("", mode=mode) for key in wires}
        inputs |= {_name(key): Place(repr(value), "number") for key, value in limits.items()}
        words |= {key: f"{key}=${{{{inputs.{_name(key)}}}}}" for key in (*wires, *limits)}
        outputs = {RUN: Place("")}
        if step == "prepare":
            outputs[STORE] = Place("")
            words["output"] = f"output=${{{{outputs.{STORE}}}}}"
        if step == "train":
            words["resume"] = f"resume={AUTO}"  # one that was stopped, or whose machine was taken away, goes on
        words["hydra.run.dir"] = f"hydra.run.dir=${{{{outputs.{RUN}}}}}"
        arguments = tuple(words.values()) if step in ELSEWHERE else (*words.values(), "compute=local")
        verb = VERBS.get(step, step)
        extras = extras_of(verb, outside, self.config.compute.environment) if self.remote else ()
        spec = JobSpec(module_of(verb), arguments, inputs, outputs, extras=extras, **self._processes(step))
        return with_inputs_told(spec, READ) if self.remote else spec

    def _processes(self, step: str) -> dict[str, Any]:
        compute = self.config.compute
        if step not in SHARES or compute.name == "local":
            return {}
        return {"nodes": compute.nodes, "processes": compute.processes}


def _written(value: Any) -> str:
    """A value as a word says it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return quote(value) if isinstance(value, str) else str(value)


def _shown(source: Wire | str) -> str:
    """A path; of what a step has yet to write, a name that is none."""
    return f"<{source.step}.{source.output}>" if isinstance(source, Wire) else source


def _name(key: str) -> str:
    return key.replace(".", "_")


def _key_of(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _keys(words: Sequence[str]) -> dict[str, str]:
    return {_key_of(word): word.partition("=")[2] for word in words}
