"""The words of `pipeline`: those of each step, in brackets, as the settings that the step's own command would have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from pointseg.cli.command_line import composed
from pointseg.cli.console import says_yes
from pointseg.cli.hydra_options import parse_arguments
from pointseg.cli.overrides import quote
from pointseg.cli.verbs import Job, plain, settings_of, typed_settings
from pointseg.core.config_values import to_plain
from pointseg.core.errors import ConfigError, PointsegError
from pointseg.workflows.settings.shared import TrackingConfig

__all__ = ["run_pipeline"]

SECTIONS = ("hydra", "compute", "gate")  # of the pipeline
WITHOUT_TRACKING = ("prepare",)


def run_pipeline(job: Job) -> None:
    """Run the steps, or what else is asked for of them.

    Raises:
        PointsegError: what `workflows.pipeline` raises; before anything starts, naming the step and the word.
    """
    from pointseg.workflows.pipelines.chain import check_steps, verb_of  # on use: they take torch along
    from pointseg.workflows.pipelines.pipeline import pipeline
    from pointseg.workflows.settings.pipeline import STEPS, PipelineConfig

    values, steps = plain(job.config), [str(step) for step in job.config.steps]
    check_steps(steps)
    given = {key: value for key, value in values.items() if key not in (*STEPS, "synthetic")}
    for step in steps:
        try:
            config = composed(verb_of(step), _words_of(step, job.config, values))[0]
            given[step] = typed_settings(verb_of(step), config)
        except PointsegError as error:
            raise ConfigError(f"{step}: {error.what}", where=error.where, remedy=error.remedy) from error
    pipeline(settings_of(PipelineConfig, given), folder=job.folder, ask=says_yes, composed=True)


def _words_of(step: str, config: DictConfig, values: dict[str, Any]) -> list[str]:
    """What a step is told: what the pipeline says for it, and over that its own words."""
    own = _own_words(step, config)
    keys = {_key(word) for word in own}
    words = [] if step in WITHOUT_TRACKING else _tracking(values["tracking"])
    if step == "prepare" and not config.input:
        words += [f"synthetic.{key}={value}" for key, value in values["synthetic"].items()]
    if step == "train" and "data" not in keys and (config.input or "prepare" in config.steps):
        words += ["data=semantickitti"]
    return list({_key(word): word for word in (*words, *own)}.values())  # the last one of each key counts


def _own_words(step: str, config: DictConfig) -> Sequence[str]:
    """What the user says to a step.

    Raises:
        ConfigError: for a key that is the pipeline's.
    """
    from pointseg.workflows.pipelines.chain import OWN_KEYS  # on use: it takes torch along

    options, words = parse_arguments([str(word) for word in config[step] or ()])
    if options.flags:
        raise ConfigError(
            "a step is not swept over", where=options.flags[0], remedy="Sweep a verb: python -m pointseg.train -m."
        )
    own = (*OWN_KEYS[step], *SECTIONS, *(() if step == "deploy" else ("azure",)))
    for word in words:
        if _key(word) in own or _key(word).split(".")[0] in own:
            raise ConfigError("the pipeline sets this itself", where=word, remedy="See its own keys in --help.")
    return words


def _tracking(values: dict[str, Any]) -> list[str]:
    """The pipeline's `tracking` section as words; a step's own come after them."""
    values = dict(values)
    if values["uri"] in ("off", None):
        return ["tracking=off"]
    usual = to_plain(TrackingConfig())
    tags = values.pop("tags")
    values |= {f"tags.{key}": value for key, value in tags.items()}
    words = [f"tracking.{key}={_written(value)}" for key, value in values.items() if value != usual.get(key)]
    return ["tracking=mlflow", *words]


def _written(value: Any) -> str:
    """A value as a word says it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return quote(value) if isinstance(value, str) else str(value)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
