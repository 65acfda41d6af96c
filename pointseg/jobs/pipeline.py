"""Several jobs as one: each reads what an earlier one writes. One definition, for this machine and for Azure ML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pointseg.core.errors import ConfigError, PointsegError
from pointseg.jobs.spec import JobSpec, Place

__all__ = ["RUN", "PipelineJob", "PipelineSpec", "PipelineStep", "Publishing", "Wire", "output_folder"]

RUN = "run"  # the output that every step has: its run folder


@dataclass(frozen=True)
class Wire:
    """An output of an earlier step."""

    step: str
    output: str = RUN


@dataclass(frozen=True)
class PipelineStep:
    """A job with a name, and where its inputs come from.

    Args:
        name: of the step and of its folder.
        spec: the job. Inputs that come from earlier steps have the path "".
        wires: the outputs of earlier steps that inputs are, by the inputs' names.
        keeps: whether all that it does is in its outputs, so that it need not run again while nothing has changed.
    """

    name: str
    spec: JobSpec
    wires: Mapping[str, Wire] = field(default_factory=dict)
    keeps: bool = True


@dataclass(frozen=True)
class PipelineSpec:
    """Steps in the order in which they run.

    Raises:
        ConfigError: if two have the same name, or an input is wired to what no earlier step writes.

    Example:
        >>> train = PipelineStep("train", JobSpec("pointseg.train", outputs={"run": Place("")}))
        >>> score = JobSpec("pointseg.evaluate", ("checkpoint=${{inputs.checkpoint}}",), {"checkpoint": Place("")})
        >>> len(PipelineSpec((train, PipelineStep("evaluate", score, {"checkpoint": Wire("train")}))).steps)
        2
    """

    steps: tuple[PipelineStep, ...]

    def __post_init__(self) -> None:
        written: dict[str, Mapping[str, Place]] = {}
        for step in self.steps:
            if step.name in written:
                raise ConfigError("two steps have the same name", where=step.name)
            for name, wire in step.wires.items():
                if name not in step.spec.inputs:
                    raise ConfigError(f"the step has no input {name!r}", where=step.name)
                if wire.output not in written.get(wire.step, {}):
                    raise ConfigError(f"no earlier step writes {wire.step}.{wire.output}", where=f"{step.name}.{name}")
            written[step.name] = step.spec.outputs

    def in_folder(self, step: PipelineStep, folder: Path) -> JobSpec:
        """The job of a step that runs on this machine, each step in the folder of its name.

        Example:
            >>> pipeline.in_folder(pipeline.steps[0], Path("outputs/first")).outputs["run"].path
            'outputs/first/train'
        """
        wired = {
            name: replace(step.spec.inputs[name], path=str(output_folder(folder, wire)))
            for name, wire in step.wires.items()
        }
        outputs = {
            name: replace(place, path=str(output_folder(folder, Wire(step.name, name))))
            for name, place in step.spec.outputs.items()
        }
        return replace(step.spec, inputs={**step.spec.inputs, **wired}, outputs=outputs)


@dataclass(frozen=True)
class PipelineJob:
    """A pipeline that was submitted as one job.

    Attributes:
        name: of the job.
        fetched: the steps whose outputs are here; () where nobody waited.
        failed: why it did not end well.
    """

    name: str
    fetched: tuple[str, ...] = ()
    failed: PointsegError | None = None


@dataclass(frozen=True)
class Publishing:
    """Under which name a pipeline is kept, and when it runs.

    Args:
        name: of what is kept.
        version: None: made of the content.
        schedule: a cron expression of five fields; None: it runs on request.
        time_zone: of the schedule.
    """

    name: str
    version: str | None = None
    schedule: str | None = None
    time_zone: str = "UTC"


def output_folder(folder: Path, wire: Wire) -> Path:
    """Where an output lies on this machine: the run in the step's folder, others in folders of their names within it."""
    return folder / wire.step if wire.output == RUN else folder / wire.step / wire.output
