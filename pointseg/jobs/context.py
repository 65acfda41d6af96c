"""What a job's process is told beside its configuration: the section `job_context` of the file that the job takes along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["ALONE", "SECTION", "JobContext", "SweepMember"]

SECTION = "job_context"


class SweepMember(NamedTuple):
    """A run's place in a sweep: the sweep's folder, and the number of the run."""

    folder: Path
    number: int


@dataclass(frozen=True)
class JobContext:
    """Where a process belongs.

    Attributes:
        compute: the `compute` section that made its job; {} where it is no part of one.
        sweep_folder, number: the sweep that the run belongs to, and its number there; None where it is none's.
        inputs: asset by key, such as {"data.root": "azureml:semantic-kitti:3"}: the configuration names them by paths of the
            machine.
    """

    compute: Mapping[str, Any] = field(default_factory=dict)
    sweep_folder: str | None = None
    number: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def sweep(self) -> SweepMember | None:
        """The run's place in a sweep."""
        return None if self.sweep_folder is None else SweepMember(Path(self.sweep_folder), self.number)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> JobContext:
        """What `to_dict` gave; None: no job's process.

        Example:
            >>> JobContext.from_dict({"number": 3, "sweep_folder": "multirun/1"}).sweep.number
            3
        """
        return cls(**values) if values else ALONE


ALONE = JobContext()
