"""Synthetic scans as a sequence, made when they are asked for; nothing touches the disk."""

from __future__ import annotations

from pointseg.data.scan import Scan
from pointseg.data.synthetic.world import SyntheticWorld
from pointseg.errors import ConfigError

__all__ = ["SyntheticScans", "check_count"]


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
        self.world = SyntheticWorld(seed, beams, azimuth_steps, label_range)
        self._where = [
            (index // scans_per_street, index % scans_per_street * frame_step) for index in range(scans)
        ]  # (street, frame)
        self.names = [f"{street:03d}/{frame:06d}" for street, frame in self._where]

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Scan:
        street, frame = self._where[index]
        return self.world.scan(street, frame)
