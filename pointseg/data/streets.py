"""Synthetic streets beside real scans: places that few real scans do not show, at no cost of labelling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointseg.core.limits import require_at_least, require_between
from pointseg.core.progress import Update
from pointseg.data.joined import JoinedScans
from pointseg.data.sources import ResidentScans, ScanSource
from pointseg.data.synthetic import SyntheticScans

__all__ = ["Streets"]


@dataclass(frozen=True)
class Streets:
    """Streets made by `SyntheticWorld`, one scan of each, trained on beside a data set's own scans.

    Mixing (`PolarMix`, `LaserMix`, pasted objects) takes partners from both, so that most clouds are partly real.

    Args:
        count: how many; 0 for none.
        share: of the training clouds, and of their partners in mixing, that are streets.
        seed: of the world.
        beams, azimuth_steps: of the sensor (see `Sensor`): best those of the data set's.

    Raises:
        ConfigError: for a negative count, or a share that is not between 0 and 1.

    Example:
        >>> SemanticKITTIDataModule("semantickitti", streets=Streets(count=200, share=0.3))
    """

    count: int = 0
    share: float = 0.5
    seed: int = 0
    beams: int = 64
    azimuth_steps: int = 2000

    def __post_init__(self) -> None:
        require_at_least(self.count, 0, "data.streets.count")
        require_between(self.share, 0, 1, "data.streets.share")

    @property
    def active(self) -> bool:
        return self.count > 0

    def beside(self, scans: ScanSource, progress: Update | None = None) -> JoinedScans:
        """The scans, then the streets, which are made here and kept in memory (2 MB each)."""
        streets = SyntheticScans(
            self.count, self.seed, beams=self.beams, azimuth_steps=self.azimuth_steps, scans_per_street=1
        )
        streets.names = [f"street {name}" for name in streets.names]  # a data set may have a sequence 000
        return JoinedScans([scans, ResidentScans(streets, progress)])

    def weights(self, scans: int) -> NDArray[np.float64]:
        """How often each of so many scans and of the streets is drawn, (scans + count,), 1 on average."""
        each = [(1 - self.share) / scans] * scans + [self.share / self.count] * self.count
        return np.array(each) * len(each)
