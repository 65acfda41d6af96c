"""Label all points of a cloud from a file, including those that cannot be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.data.checks.input_check import refuse_doubts
from pointseg.data.formats import PointCloud, finite_points, over_all
from pointseg.engine.predictor import Prediction

__all__ = ["Labeller", "predict_cloud", "predict_clouds"]


class Labeller(Protocol):
    """Labels clouds: a `Predictor`, or the client of a service.

    Attributes:
        strict: refuse doubtful clouds instead of adding a note.
        label_map: of its labels.
        extra: names of the further columns that it needs.
    """

    strict: bool
    label_map: LabelMap

    @property
    def extra(self) -> tuple[str, ...]: ...

    def predict_many(self, clouds: Sequence[NDArray[np.float32]], *, probabilities: bool = False) -> list[Prediction]:
        """As `Predictor.predict_many`."""


def predict_cloud(predictor: Labeller, cloud: PointCloud, *, probabilities: bool = False) -> Prediction:
    """Raw ids (N,) of a cloud, probabilities (N, K) if requested, and notes on what is unusual about it.

    Points that are not finite are not predicted: they get the raw id of the ignored class, and probabilities of 0.

    Raises:
        DataError: if no point is finite, or the predictor is strict and the cloud doubtful.

    Example:
        >>> raw_ids, _, notes = predict_cloud(predictor, read_cloud("street.pcd"))
    """
    return predict_clouds(predictor, [cloud], probabilities=probabilities)[0]


def predict_clouds(
    predictor: Labeller, clouds: Sequence[PointCloud], *, probabilities: bool = False
) -> list[Prediction]:
    """The predictions of several clouds, exactly as one by one; small clouds share a pass through the model.

    Raises:
        DataError: for the first cloud that cannot be predicted, see `predict_cloud`.
    """
    finite = []
    for cloud in clouds:
        if predictor.strict:
            refuse_doubts(cloud.notes)
        finite.append(finite_points(cloud, predictor.extra))
    predictions = predictor.predict_many([points for points, _ in finite], probabilities=probabilities)
    ignored = int(predictor.label_map.to_raw(np.zeros(1, np.uint8))[0])
    return [
        Prediction(
            over_all(prediction.raw_ids, cloud, ignored),
            None if prediction.probabilities is None else over_all(prediction.probabilities, cloud),
            [*cloud.notes, *notes, *prediction.notes],
        )
        for cloud, (_, notes), prediction in zip(clouds, finite, predictions, strict=True)
    ]
