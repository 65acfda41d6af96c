"""A service as what labels clouds, so that files are found, read and written as they are for a model of one's own."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError, LabelMapError, ServiceError
from pointseg.core.labels import LabelMap
from pointseg.data.checks.input_check import Note
from pointseg.data.formats.cloud import zeros_note
from pointseg.engine.predictor import Prediction
from pointseg.serving.client import Client

__all__ = ["RemotePredictor"]

ABOUT_POINTS = (400, 408, 413, 422, 500, 504)  # about one cloud, as far as one can tell; other errors meet the next too
UNLABELED: tuple[str, tuple[int, int, int]] = ("unlabeled", (0, 0, 0))


class RemotePredictor:
    """What labels clouds, behind an address. It asks the service once at the beginning: a wrong key is met there.

    Args:
        client: of the service.
        labels: names and colours of the classes, where the service does not say: a shipped map or a YAML file.

    Attributes:
        identity: what labels depend on, as `predict_files` wants it.
        names_classes: whether the service has named its classes itself.
        points: labelled so far, by raw id.
        seconds: that each call took.
        model_seconds: seconds of them that the model took, as the service says.

    Raises:
        ServiceError: if the service cannot be used.
        LabelMapError: if its classes are no label map.
    """

    strict = False
    extra = ()  # an address takes x, y, z and remission

    def __init__(self, client: Client, labels: str = "semantickitti") -> None:
        self.client = client
        described = self._described()
        self.names_classes = described is not None
        self.label_map = LabelMap.load(labels) if described is None else _label_map(described)
        probe = np.random.default_rng(0).uniform(-9, 9, (8, 4)).astype(np.float32)
        self.model = client.score(probe).model
        self.identity: dict[str, Any] = {"service": client.url, "model": self.model}
        if client.deployment:
            self.identity["deployment"] = client.deployment
        if described is not None:
            text = json.dumps(described["model"], sort_keys=True)
            self.identity["described"] = hashlib.sha256(text.encode()).hexdigest()
        self.points: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.model_seconds: list[float] = []

    def predict_many(self, clouds: Sequence[NDArray[np.float32]], *, probabilities: bool = False) -> list[Prediction]:
        """As `Predictor.predict_many`, by one call for each cloud.

        Raises:
            DataError: if the service refuses the points.
            ServiceError: if it cannot be used, or has changed its model.
        """
        return [self._predict(points, probabilities) for points in clouds]

    def _predict(self, points: NDArray[np.float32], probabilities: bool) -> Prediction:
        try:
            scored = self.client.score(points, probabilities=probabilities)
        except ServiceError as error:
            if error.status in ABOUT_POINTS:
                raise DataError(error.what, where=error.where, remedy=error.remedy) from error
            raise
        if scored.model != self.model:
            raise ServiceError(
                f"the service has changed its model from {self.model or 'one'} to {scored.model or 'another'} meanwhile",
                where=self.client.url,
                remedy="Label all again, into another folder or with overwrite=true.",
            )
        self.seconds.append(scored.seconds)
        self.model_seconds.append(scored.timing.get("predict", 0.0) / 1000)
        ids, counts = np.unique(scored.labels, return_counts=True)
        unknown = sorted(set(ids.tolist()) - set(self.label_map.labels))
        if unknown:
            raise LabelMapError(
                f"the service answers raw id {unknown[0]}, which label map {self.label_map.name!r} does not have",
                where="labels",
                remedy="Name the label map of its model.",
            )
        self.points.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
        known = zeros_note(points)  # the service says it too
        notes = [_note(text) for text in scored.notes if known is None or text != known.text]
        return Prediction(scored.labels, scored.probabilities, notes)

    def _described(self) -> dict[str, Any] | None:
        """What the service says of itself; None if it has no such address, as Azure's inference server."""
        try:
            return self.client.metadata()
        except ServiceError as error:
            if error.status is None or error.status == 503:
                raise
            return None  # what else is wrong, a key say, the first call tells


def _note(text: str) -> Note:
    return Note(re.sub(r"[\d.,]+", "0", text), text, True)


def _label_map(described: dict[str, Any]) -> LabelMap:
    """The map of the classes that a service names.

    Raises:
        LabelMapError: if they are none.
    """
    try:
        named = {
            int(one["id"]): (str(one["name"]), tuple(bytes.fromhex(str(one["colour"]).lstrip("#"))))
            for one in described["classes"]
        }
    except (LookupError, TypeError, ValueError) as error:
        raise LabelMapError(
            f"the service's classes cannot be read ({type(error).__name__}: {error})", where="/metadata"
        ) from error
    ignored = () if 0 in named else (0,)
    labels: dict[int, Any] = named if 0 in named else {0: UNLABELED, **named}
    return LabelMap(
        str(described.get("label_map") or "of the service"), labels, tuple((raw_id,) for raw_id in named), ignored
    )
