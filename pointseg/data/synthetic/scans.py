"""Synthetic scans as a sequence, made when they are asked for; nothing touches the disk."""

from __future__ import annotations

from typing import Any

from pointseg.data.scan import Scan
from pointseg.data.synthetic.world import SyntheticWorld
from pointseg.errors import ConfigError

__all__ = ["FRAME_STEP", "SEQUENCES", "SyntheticScans", "SyntheticSequences", "check_count", "sequence_lengths"]

# In the order in which they are filled: both sides of the official split (validation is 08) have scans from two on.
SEQUENCES = (0, 8, 1, 2, 3, 4, 5, 6, 7, 9, 10)
FRAME_STEP = 5  # turns of the sensor from one scan of a sequence to the next


def check_count(value: int, key: str) -> None:
    """Refuse counts below 1.

    Raises:
        ConfigError: naming `synthetic.KEY`.
    """
    if value < 1:
        raise ConfigError(f"{value} {key.replace('_', ' ')}", where=f"synthetic.{key}", remedy="Use 1 or more.")


class SyntheticScans:
    """A sequence of scans from many streets.

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
        for key, value in (("scans", scans), ("scans_per_street", scans_per_street), ("frame_step", frame_step)):
            check_count(value, key)
        self._settings = {
            "layout": "synthetic",
            "seed": seed,
            "beams": beams,
            "azimuth_steps": azimuth_steps,
            "scans_per_street": scans_per_street,
            "frame_step": frame_step,
            "label_range": label_range,
        }
        self.world = SyntheticWorld(seed, beams, azimuth_steps, label_range)
        self._where = [
            (index // scans_per_street, index % scans_per_street * frame_step) for index in range(scans)
        ]  # (street, frame)
        self.names = [f"{street:03d}/{frame:06d}" for street, frame in self._where]

    def __len__(self) -> int:
        return len(self._where)

    @property
    def expected_points(self) -> int:
        """As many as rays: an upper bound."""
        sensor = self.world.sensor
        return len(self) * sensor.beams * sensor.azimuth_steps

    @property
    def settings(self) -> dict[str, Any]:
        """How the scans are made, as plain values."""
        return dict(self._settings)

    def __getitem__(self, index: int) -> Scan:
        street, frame = self._where[index]
        return self.world.scan(street, frame)


def sequence_lengths(scans: int) -> dict[int, int]:
    """How many scans each sequence gets: as equal as can be, in the order of SEQUENCES.

    Example:
        >>> sequence_lengths(3)
        {0: 1, 8: 1, 1: 1}
    """
    each, more = divmod(scans, len(SEQUENCES))
    lengths = {sequence: each + (i < more) for i, sequence in enumerate(SEQUENCES)}
    return {sequence: length for sequence, length in lengths.items() if length}


class SyntheticSequences:
    """The scans that `write_sequences` writes, in the same sequences and frames, made when they are asked for.

    Args:
        scans: how many in all, spread over sequences 00 to 10.
        seed: of the world.
        beams, azimuth_steps: of the sensor, see `Sensor`.
        label_range: see `SyntheticScans`.

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
    ) -> None:
        check_count(scans, "scans")
        self.settings = {
            "layout": "synthetic sequences",
            "seed": seed,
            "beams": beams,
            "azimuth_steps": azimuth_steps,
            "label_range": label_range,
        }
        self.world = SyntheticWorld(seed, beams, azimuth_steps, label_range)
        lengths = sequence_lengths(scans)
        self._where = [(sequence, frame) for sequence in sorted(lengths) for frame in range(lengths[sequence])]
        self.names = [f"{sequence:02d}/{frame:06d}" for sequence, frame in self._where]

    def __len__(self) -> int:
        return len(self._where)

    @property
    def expected_points(self) -> int:
        """As many as rays: an upper bound."""
        return len(self) * self.world.sensor.beams * self.world.sensor.azimuth_steps

    def __getitem__(self, index: int) -> Scan:
        sequence, frame = self._where[index]
        return self.world.scan(sequence, frame * FRAME_STEP)
