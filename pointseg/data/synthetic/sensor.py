"""The simulated sensor: beam tables, the rays of one turn, and which of them the vehicle blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError

__all__ = ["BEAM_TABLES", "MIN_AZIMUTH_STEPS", "Sensor"]

MIN_AZIMUTH_STEPS = 64
MAX_AZIMUTH_STEPS = 8192


def _table(*parts: tuple[float, float, int]) -> NDArray[np.float64]:
    """Elevations in degrees, highest first, from (first, last, count) parts."""
    return np.concatenate([np.linspace(first, last, count) for first, last, count in parts])


# The upper block of an HDL-64E is spaced by about 1/3 degree, the lower by 1/2; the other tables are the makers'
# fields of view with even spacing (16, 32) or a denser middle (128).
BEAM_TABLES: dict[int, NDArray[np.float64]] = {
    16: _table((15.0, -15.0, 16)),
    32: _table((10.67, -30.67, 32)),
    64: _table((2.5, -7.8, 32), (-8.4, -23.7, 32)),
    128: _table((15.0, 4.0, 12), (3.0, -12.0, 91), (-12.5, -25.0, 25)),
}

# Parts of the recording vehicle that block rays, measured from where real scans never have a return, degrees:
# (azimuth, half width at the top, half width at 24 degrees down, highest and lowest blocked elevation).
VEHICLE_SECTORS: tuple[tuple[float, float, float, float, float], ...] = (
    (-157.5, 5.0, 7.0, -12.9, -18.0),  # the roof rack behind, right
    (162.5, 5.0, 7.0, -12.9, -18.0),  # and left
    (180.0, 12.0, 37.0, -18.0, -90.0),  # the rear of the roof
    (-70.0, 7.0, 10.0, -15.3, -90.0),  # something beside the sensor
    (-123.0, 3.0, 9.0, -19.3, -90.0),
    (127.0, 3.0, 10.0, -19.3, -90.0),
    (0.0, 8.0, 20.0, -20.4, -90.0),  # the front of the roof
    (-35.0, 5.0, 7.0, -21.5, -90.0),
    (34.0, 3.0, 8.0, -21.0, -90.0),
)


@dataclass(frozen=True)
class Sensor:
    """A spinning multi-beam LiDAR on the roof of a car.

    Args:
        beams: 16, 32, 64 (Velodyne HDL-64E as in KITTI) or 128.
        azimuth_steps: rays of one beam in one turn.
        height: of the sensor above the ground, metres.
        max_range: farthest return, metres.
        range_noise: standard deviation of the measured range, metres.
        beam_bias: standard deviation of the error that all ranges of a beam have in common, metres.
        vehicle: whether the recording vehicle blocks some rays of the lowest beams.

    Raises:
        ConfigError: for another number of beams, or azimuth steps out of bounds.

    Example:
        >>> Sensor(beams=64, azimuth_steps=2000).directions.shape
        (128000, 3)
    """

    beams: int = 64
    azimuth_steps: int = 2000
    height: float = 1.73
    max_range: float = 80.0
    range_noise: float = 0.008
    beam_bias: float = 0.03
    vehicle: bool = True

    def __post_init__(self) -> None:
        if self.beams not in BEAM_TABLES:
            raise ConfigError(
                f"there is no sensor with {self.beams} beams",
                where="synthetic.beams",
                remedy=f"Use one of {', '.join(map(str, sorted(BEAM_TABLES)))}.",
            )
        if not MIN_AZIMUTH_STEPS <= self.azimuth_steps <= MAX_AZIMUTH_STEPS:
            raise ConfigError(
                f"{self.azimuth_steps} azimuth steps",
                where="synthetic.azimuth_steps",
                remedy=f"Use {MIN_AZIMUTH_STEPS} to {MAX_AZIMUTH_STEPS}; an HDL-64E at 10 Hz has about 2000.",
            )

    @cached_property
    def elevations(self) -> NDArray[np.float64]:
        """(beams,) elevation of each beam in radians, highest first."""
        return np.radians(BEAM_TABLES[self.beams])

    @cached_property
    def azimuths(self) -> NDArray[np.float64]:
        """(azimuth_steps,) azimuth of each step in radians, 0 forward, counter-clockwise, in [0, 2 pi)."""
        return (np.arange(self.azimuth_steps, dtype=np.float64) + 0.5) * (2 * np.pi / self.azimuth_steps)

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """(beams * azimuth_steps, 3) unit vectors in the sensor's frame; ray = beam * azimuth_steps + step."""
        level = np.cos(self.elevations)[:, None]
        x, y = level * np.cos(self.azimuths), level * np.sin(self.azimuths)
        z = np.broadcast_to(np.sin(self.elevations)[:, None], x.shape)
        return np.ascontiguousarray(np.stack([x, y, z], axis=-1).reshape(-1, 3), np.float32)

    @cached_property
    def gains(self) -> NDArray[np.float32]:
        """(beams * azimuth_steps,) the gain of each beam's receiver; no two are quite alike."""
        gains = np.random.Generator(np.random.Philox(key=[self.beams, 1])).normal(1.0, 0.05, self.beams)
        return np.repeat(gains.astype(np.float32), self.azimuth_steps)

    @cached_property
    def texture(self) -> NDArray[np.float32]:
        """(beams * azimuth_steps,) a fixed random pattern with a mean of 1 that is similar for neighbouring rays.

        Foliage grows in clumps, so neighbouring rays pass through it, or end in it, together.
        """
        random = np.random.Generator(np.random.Philox(key=self.beams))
        fine = random.standard_normal((self.beams, self.azimuth_steps))
        smooth = fine.copy()
        for shift in (1, 2, 4, 8):
            smooth = smooth + np.roll(smooth, shift, axis=1)
        smooth = smooth + np.roll(smooth, 1, axis=0) + np.roll(smooth, 2, axis=0)
        pattern = np.exp(1.1 * (smooth / smooth.std() + 0.25 * fine))
        return np.ascontiguousarray(pattern / pattern.mean(), np.float32).reshape(-1)

    def pattern(self, random: np.random.Generator) -> NDArray[np.float32]:
        """(beams * azimuth_steps,) standard normal, alike for neighbouring rays of a beam and, less, of the next: surfaces
        are blotched, not grainy."""
        width = max(1, self.azimuth_steps // 150)
        white = random.standard_normal((self.beams, self.azimuth_steps), np.float32)
        total = np.cumsum(np.concatenate([white, white[:, :width]], axis=1), axis=1, dtype=np.float32)
        smooth = total[:, width:] - total[:, :-width]
        smooth = smooth + np.float32(0.6) * np.roll(smooth, 1, axis=0)
        return np.asarray(smooth / np.float32(np.sqrt(width * 1.36)), np.float32).reshape(-1)

    @cached_property
    def blocked(self) -> NDArray[np.bool_]:
        """(beams * azimuth_steps,) rays that end at the recording vehicle itself."""
        rays = np.zeros((self.beams, self.azimuth_steps), bool)
        for azimuth, narrow, wide, top, bottom in VEHICLE_SECTORS if self.vehicle else ():
            away = np.degrees(self.azimuths) - azimuth
            away = np.abs((away + 180) % 360 - 180)
            elevation = np.degrees(self.elevations)[:, None]
            deep = max(bottom, -24.0)  # the sectors widen downwards, as a roof seen from above
            reach = narrow + (wide - narrow) * np.clip((top - elevation) / (top - deep), 0, 1)
            rays |= (away < reach) & (elevation <= top) & (elevation >= bottom)
        return rays.reshape(-1)
