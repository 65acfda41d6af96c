"""What the command `pipeline` can be told: each of its steps by the words that the step's own command takes."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import WORDS, key, section
from pointseg.workflows.settings.pipeline import Names, PipelineSettings

__all__ = ["PipelineCommand", "StreetsConfig"]


@dataclass
class StreetsConfig:
    """What `prepare` makes where a pipeline is given no scans."""

    scans: int = key(66, "how many, spread over sequences 00 to 10")
    seed: int = key(0, "random seed of the streets")
    beams: int = key(64, "of the sensor: 16, 32, 64 or 128")
    azimuth_steps: int = key(1000, "rays of a beam in one turn")


@dataclass
class PipelineCommand(PipelineSettings):
    """From scans to a registered or deployed model: one command, step by step.

    Example:
        >>> PipelineCommand(input="scans", train=["+experiment=kitti", "trainer.max_epochs=4"])
    """

    synthetic: StreetsConfig = section(
        StreetsConfig, "what prepare makes where there is no input", heading="Settings of each step."
    )
    prepare: Names = key([], "words as the step's own command takes them, such as [record=wide]", WORDS)
    train: Names = key(["+experiment=kitti"], "such as [+experiment=kitti,trainer.max_epochs=4]", WORDS)
    evaluate: Names = key([], "such as [split=val,views.count=4]", WORDS)
    register: Names = key([], "such as [name=pointnet-semseg,promote=champion]", WORDS)
    deploy: Names = key([], "such as [target=batch,endpoint=street-batch]", WORDS)
    drift: Names = key(
        [],
        "of steps=[drift]: the scans of input against the model of checkpoint; such as [days=7,fail_on_drift=true]",
        WORDS,
    )
