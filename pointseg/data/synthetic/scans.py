"""Sources of synthetic scans, made on demand; nothing touches the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pointseg.core.errors import ConfigError
from pointseg.data.scan import Scan
from pointseg.data.synthetic.world import SyntheticWorld

__all__ = ["FRAME_STEP", "SEQUENCES", "SyntheticScans", "SyntheticSequences", "sequence_lengths"]

# In the order in which they are filled: both sides of the official split (validation is 08) have scans from two on.
SEQUENCES = (0, 8, 1, 2, 3, 4, 5, 6, 7, 9, 10)
FRAME_STEP = 5  # turns of the sensor from one scan of a sequence to the next


class _WorldScans:
    """Some frames of some streets of a world.

    Attributes:
        names: of the scans.
        settings: how the scans are made, as plain values.
    """

    names: list[str]
    settings: dict[str, Any]

    def __init__(self, world: SyntheticWorld, places: Sequence[tuple[int, int]]) -> None:
        self.world, self._places = world, places  # street and frame of each scan

    def __len__(self) -> int:
        return len(self._places)

    @property
    def expected_points(self) -> int:
        """As many as rays: an upper bound."""
        return len(self) * self.world.sensor.beams * self.world.sensor.azimuth_steps

    def __getitem__(self, index: int) -> Scan:
        return self.world.scan(*self._places[index])


class SyntheticScans(_WorldScans):
    """A number of scans from many streets.

    Args:
        scans: how many.
        seed: of the world; train and validate on different seeds, whose streets have nothing in common.
        beams, azimuth_steps: of the sensor, see `Sensor`.
        scans_per_street: scans from one street before the next one.
        frame_step: turns of the sensor (10 a second) from one scan to the next.
        label_range: points beyond this many metres are unlabelled, as in SemanticKITTI; None labels all.

    Raises:
        ConfigError: for counts below 1, or a sensor that does not exist.

    Example:
        >>> scans = SyntheticScans(scans=20, seed=1)
        >>> len(scans), scans.names[11], scans[11].path
        (20, '001/000003', 'synthetic/seed=1/street=001/frame=000003')
    """

    def __init__(
        self,
        scans: int,
        seed: int = 0,
        beams: int = 64,
        azimuth_steps: int = 2000,
        scans_per_street: int = 10,
        frame_step: int = 3,
        label_range: float | None = 50.0,
    ) -> None:
        _check_counts(scans=scans, scans_per_street=scans_per_street, frame_step=frame_step)
        places = [(index // scans_per_street, index % scans_per_street * frame_step) for index in range(scans)]
        super().__init__(SyntheticWorld(seed, beams, azimuth_steps, label_range), places)
        self.names = [f"{street:03d}/{frame:06d}" for street, frame in places]
        self.settings = {
            "layout": "synthetic",
            "seed": seed,
            "beams": beams,
            "azimuth_steps": azimuth_steps,
            "scans_per_street": scans_per_street,
            "frame_step": frame_step,
            "label_range": label_range,
        }


class SyntheticSequences(_WorldScans):
    """The scans that `write_sequences` writes, with the same names, made on demand.

    Args:
        scans: how many in all, spread over sequences 00 to 10.
        seed: of the world.
        beams, azimuth_steps: of the sensor, see `Sensor`.
        label_range: see `SyntheticScans`.
        frame_step: turns of the sensor (10 a second) from one scan of a sequence to the next.

    Raises:
        ConfigError: for counts below 1, or a sensor that does not exist.

    Example:
        >>> SyntheticSequences(scans=12).names[:3]
        ['00/000000', '00/000001', '01/000000']
    """

    def __init__(
        self,
        scans: int,
        seed: int = 0,
        beams: int = 64,
        azimuth_steps: int = 2000,
        label_range: float | None = 50.0,
        frame_step: int = FRAME_STEP,
    ) -> None:
        _check_counts(scans=scans, frame_step=frame_step)
        lengths = sequence_lengths(scans)
        frames = [(sequence, number) for sequence in sorted(lengths) for number in range(lengths[sequence])]
        places = [(sequence, number * frame_step) for sequence, number in frames]
        super().__init__(SyntheticWorld(seed, beams, azimuth_steps, label_range), places)
        self.names = [f"{sequence:02d}/{number:06d}" for sequence, number in frames]
        self.settings = {
            "layout": "synthetic sequences",
            "seed": seed,
            "beams": beams,
            "azimuth_steps": azimuth_steps,
            "label_range": label_range,
            # left out where it is the usual one, as in stores of earlier versions
            **({} if frame_step == FRAME_STEP else {"frame_step": frame_step}),
        }


def sequence_lengths(scans: int) -> dict[int, int]:
    """How many scans each sequence gets: as equal as possible, in the order of SEQUENCES.

    Example:
        >>> sequence_lengths(3)
        {0: 1, 8: 1, 1: 1}
    """
    each, more = divmod(scans, len(SEQUENCES))
    lengths = {sequence: each + (i < more) for i, sequence in enumerate(SEQUENCES)}
    return {sequence: length for sequence, length in lengths.items() if length}


def _check_counts(**counts: int) -> None:
    for key, value in counts.items():
        if value < 1:
            raise ConfigError(f"{value} {key.replace('_', ' ')}", where=f"synthetic.{key}", remedy="Use 1 or more.")
