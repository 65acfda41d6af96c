"""Scans for the viewer of a report: small enough for a page, decoded by the page. Legend: N points."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.engine.evaluation import PredictedScan
from pointseg.pages.figures import on_dark

__all__ = ["MOST_POINTS", "viewer_data"]

CENTIMETRE = 0.01
LARGEST = 32767  # of int16
MOST_POINTS = 400_000  # in all scans: 11 bytes a point as base64, 4.3 MB of the page
MOST_OF_A_SCAN = 130_000  # a whole turn of a 64-beam sensor


def viewer_data(scans: Sequence[PredictedScan], label_map: LabelMap) -> dict[str, Any]:
    """Plain values for the page's JSON: class names and colours, and for each scan its points as base64 of int16 steps
    (N, 3), truth and prediction (N,) as bytes.

    Steps are centimetres, or larger where a scan reaches farther than 327 m. Points come in random order, so that the
    first of them are a fair picture while the viewer turns. Scans with more points than a page can hold are thinned.

    Example:
        >>> viewer_data(assessment.shown, assessment.label_map)["scans"][0]["points"]
        124668
    """
    most = min(MOST_OF_A_SCAN, MOST_POINTS // max(len(scans), 1))
    colors = np.rint(255 * on_dark(label_map)).astype(int)
    return {
        "names": ["unlabelled", *label_map.class_names],
        "colors": colors.tolist(),
        "scans": [_scan(scan, most) for scan in scans],
    }


def _scan(scan: PredictedScan, most: int) -> dict[str, Any]:
    order = np.random.default_rng(0).permutation(len(scan.points))[:most]
    points = scan.points[order, :3].astype(np.float64)
    step = max(CENTIMETRE, float(np.abs(points).max()) / LARGEST)
    truth, prediction = scan.truth[order], scan.prediction[order]
    labelled = int(np.count_nonzero(scan.truth))
    wrong = int(np.count_nonzero((scan.truth > 0) & (scan.truth != scan.prediction)))
    return {
        "name": scan.name,
        "points": len(order),
        "of": len(scan.points),
        "step": step,
        "labelled": labelled,
        "wrong": wrong,
        "xyz": _base64(np.rint(points / step).astype("<i2")),
        "truth": _base64(truth.astype(np.uint8)),
        "prediction": _base64(prediction.astype(np.uint8)),
    }


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
