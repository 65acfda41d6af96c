"""A cloud out of a file -> labels for all of its points, also those that cannot be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.formats import PointCloud, finite_points, over_all
from pointseg.input_check import Note, refuse_doubts
from pointseg.labels import LabelMap
from pointseg.predictor import Prediction

__all__ = ["Labeller", "predict_cloud", "predict_clouds"]


class Labeller(Protocol):
    """What labels clouds: a `Predictor`, or a service that has one.

    Attributes:
        strict: refuse doubtful clouds instead of a note.
        label_map: of its labels.
    """

    strict: bool
    label_map: LabelMap

    def predict_many(self, clouds: Sequence[NDArray[np.float32]], *, probabilities: bool = False) -> list[Prediction]:
        """As `Predictor.predict_many`."""


def predict_cloud(predictor: Labeller, cloud: PointCloud, *, probabilities: bool = False) -> Prediction:
    """Raw ids (N,) of a cloud, probabilities (N, K) if asked for, and what is unusual about it.

    Points that are not finite are not predicted: they get the raw id of what is ignored, and probabilities of 0.

    Raises:
        DataError: if no point is finite, or the predictor is strict and the cloud doubtful.

    Example:
        >>> raw_ids, _, notes = predict_cloud(predictor, read_cloud("street.pcd"))
    """
    return predict_clouds(predictor, [cloud], probabilities=probabilities)[0]


def predict_clouds(
    predictor: Labeller, clouds: Sequence[PointCloud], *, probabilities: bool = False
) -> list[Prediction]:
    """Several clouds, the very same as one by one; small ones share a pass through the model.

    Raises:
        DataError: for the first cloud that cannot be predicted, see `predict_cloud`.
    """
    ready = [_ready(cloud, predictor.strict) for cloud in clouds]
    predicted = predictor.predict_many([points for points, _ in ready], probabilities=probabilities)
    ignored = int(predictor.label_map.to_raw(np.zeros(1, np.uint8))[0])
    return [
        _of_all_points(cloud, prediction, notes, ignored)
        for cloud, prediction, (_, notes) in zip(clouds, predicted, ready, strict=True)
    ]


def _ready(cloud: PointCloud, strict: bool) -> tuple[NDArray[np.float32], list[Note]]:
    """The points that can be predicted, and what is unusual about the cloud as a whole."""
    if strict:
        refuse_doubts(cloud.notes)
    points, notes = finite_points(cloud)
    return points, [*cloud.notes, *notes]


def _of_all_points(cloud: PointCloud, prediction: Prediction, notes: list[Note], ignored: int) -> Prediction:
    """The prediction of the finite points, put into the cloud's own order."""
    raw_ids, chances, more = prediction
    all_chances = None if chances is None else over_all(chances, cloud)
    return Prediction(over_all(raw_ids, cloud, ignored), all_chances, [*notes, *more])
