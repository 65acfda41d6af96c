"""Checks whether a cloud is what a model expects; other units, frames or ranges are reported, never corrected.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError

__all__ = ["InputWarning", "Note", "looks_georeferenced", "look_at_points", "refuse_doubts"]

GEOREFERENCED = 10_000.0  # metres: no sensor sees so far, so these are map coordinates
FARTHEST = 120.0  # metres, the reach of the 64-beam sensor that the features were made for
FAR_SHARE = 0.01  # of the points; single far ones are reflections
RANGE_FACTORS = 0.1, 4.0  # of the range that the features are normalised for; a scan's median lies well within


class Note(NamedTuple):
    """Something that the user of a cloud's labels should know.

    Attributes:
        kind: a short name, the same for the same thing in other clouds.
        text: a sentence without a full stop.
        doubt: whether the labels may be worse for it; strict prediction refuses it.
        remedy: what to do about a doubt, a sentence.
    """

    kind: str
    text: str
    doubt: bool = False
    remedy: str = ""


class InputWarning(UserWarning):
    """A cloud is not quite what the model expects. `note` says what; the warning's text is the note's."""

    def __init__(self, note: Note) -> None:
        self.note = note
        super().__init__(note)  # its argument, so that it can be pickled

    def __str__(self) -> str:
        return self.note.text


def looks_georeferenced(xyz_N3: NDArray[np.floating]) -> bool:
    """Whether x or y (N, 2 or more) are so large that they are map coordinates; not if there is no point."""
    level = xyz_N3[:, :2]
    return bool(len(level)) and bool(max(float(level.max()), -float(level.min())) > GEOREFERENCED)


def look_at_points(points: NDArray[np.float32], usual_range: float) -> list[Note]:
    """What is unusual about finite points (N, 4) or (N, 3), x, y, z in metres and remission in [0, 1].

    Args:
        usual_range: metres from the sensor, the centre of what the model's features are normalised for.

    Example:
        >>> [note.kind for note in look_at_points(points * 1000, usual_range=15.0)]  # millimetres
        ['remission', 'far', 'range']
    """
    notes = []
    if points.shape[1] == 4:
        low, high = float(points[:, 3].min()), float(points[:, 3].max())
        if low < 0 or high > 1:
            text = f"remission goes from {low:.4g} to {high:.4g}, and the model was trained with 0 to 1"
            notes.append(Note("remission", text, True, "Divide it by the sensor's largest value, such as 255."))
    if looks_georeferenced(points[:, :3]):
        text = "coordinates beyond 10 km look like map coordinates, and the model expects metres from the sensor"
        return [*notes, Note("georeferenced", text, True, "Subtract the sensor's position.")]
    range_N = np.sqrt(np.einsum("ij,ij->i", points[:, :3], points[:, :3], dtype=np.float32))
    far, median = float((range_N > FARTHEST).mean()), float(np.median(range_N))
    if far > FAR_SHARE:
        text = f"{100 * far:.0f} % of the points lie beyond {FARTHEST:.0f} m, farther than the training sensor's range"
        notes.append(Note("far", text, True, "Give metres from the sensor, and nearer points only."))
    if not RANGE_FACTORS[0] * usual_range <= median <= RANGE_FACTORS[1] * usual_range:
        text = f"half of the points lie within {median:.3g} m, and the model is made for about {usual_range:g} m"
        notes.append(Note("range", text, True, "Check that coordinates are metres from the sensor."))
    return notes


def refuse_doubts(notes: Sequence[Note], where: object = "strict=true") -> None:
    """Refuse the first doubt.

    Raises:
        DataError: if one of the notes is a doubt.
    """
    for note in notes:
        if note.doubt:
            raise DataError(note.text, where=where, remedy=f"{note.remedy} Or set strict=false.".lstrip())
