"""What the prediction of a scan costs on this machine: multiply-adds, time and memory.

Legend: N points, C, O channels.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pointseg.core.memory import peak_memory, restart_peak
from pointseg.data.features import FeatureSpec
from pointseg.data.synthetic.sensor import MAX_AZIMUTH_STEPS, MIN_AZIMUTH_STEPS
from pointseg.data.synthetic.world import SyntheticWorld
from pointseg.engine.inference import AUTO, cloud_logits, inference_settings
from pointseg.models import SegmentationModel, from_section

__all__ = ["LARGEST_SCAN", "PredictionCost", "multiply_adds", "prediction_cost", "street_scan"]

BEAMS, STREET = 64, 0  # the sensor and the street of the scan
RETURNED = 0.85  # of the rays come back at least
LARGEST_SCAN = int(BEAMS * MAX_AZIMUTH_STEPS * RETURNED)  # points
FEW = 1000  # points of a prediction that loads what the first one loads


@dataclass(frozen=True)
class PredictionCost:
    """What one prediction costs.

    Attributes:
        multiply_adds: of matrix products and convolutions, as they are computed.
        seconds: the median of a few predictions.
        memory: the most bytes that the process had beyond what it had before; None where the system does not tell.
    """

    multiply_adds: int
    seconds: float
    memory: int | None


def prediction_cost(
    section: Mapping[str, Any], features: FeatureSpec, num_classes: int, points: int, repeats: int, threads: int
) -> PredictionCost:
    """Measure a model with random weights on a synthetic scan, predicted as `Predictor` predicts it.

    Call it in a process of its own, for memory that another model has taken before would hide what this one takes.

    Args:
        section: `_target_` and arguments, see `from_section`.
        points: of the scan.
        repeats: predictions that are timed.
        threads: of torch.

    Raises:
        ConfigError: if the model cannot be built.

    Example:
        >>> prediction_cost({"_target_": "pointseg.models.FRNet"}, FeatureSpec(), 19, 124_000, repeats=3, threads=2)
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = from_section(section, features.use, len(features), num_classes).eval()
    scan_N4 = street_scan(points, features)
    settings = inference_settings(model, AUTO, AUTO)
    with torch.inference_mode():
        cloud_logits(model, features, scan_N4[:: math.ceil(points / FEW)].contiguous(), **settings)
        before = restart_peak()
        cloud_logits(model, features, scan_N4, **settings)
        peak = peak_memory()
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            cloud_logits(model, features, scan_N4, **settings)
            seconds.append(time.perf_counter() - began)
    memory = None if before is None or peak is None else peak - before
    return PredictionCost(multiply_adds(model, features, scan_N4), statistics.median(seconds), memory)


@torch.inference_mode()
def multiply_adds(model: SegmentationModel, features: FeatureSpec, points: Tensor) -> int:
    """Multiply-adds of the network's matrix products and convolutions in the prediction of a scan (N, 4).

    It counts what is computed: a product that a model leaves out of its prediction does not count, although the paper may
    have it. Element-wise operations, sorting and searching for neighbours do not count, nor does what makes the features.

    Example:
        >>> multiply_adds(FRNet().eval(), FeatureSpec(), points)
    """
    counter = FlopCounterMode(display=False, custom_mapping=_products_of_onednn())
    with counter:
        cloud_logits(model, features, points, **inference_settings(model, AUTO, AUTO))
    counts = counter.get_flop_counts()  # by the names of modules; "Global" has what is computed outside of them as well
    of_network = counts.get(model.title, counts.get("Global", {}))
    return int(sum(of_network.values())) // 2


def _products_of_onednn() -> dict[Any, Any]:
    """The product that `pointnet.products` calls, which torch's counter does not know; not every torch has it."""

    def operations(x_shape: Any, weight_OC: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
        return 2 * math.prod(x_shape) * int(weight_OC[0])

    known = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return {torch.ops.mkldnn._linear_pointwise: operations} if known else {}


def street_scan(points: int, features: FeatureSpec) -> Tensor:
    """(N, 4 + E) a synthetic street as 64 beams see it, with exactly so many points; further columns are zeros.

    Example:
        >>> street_scan(124_000, FeatureSpec()).shape
        torch.Size([124000, 4])
    """
    steps = max(MIN_AZIMUTH_STEPS, math.ceil(points / (BEAMS * RETURNED)))
    scan_N4 = SyntheticWorld(0, BEAMS, steps).scan(STREET, 0).points
    chosen_N4 = scan_N4[np.linspace(0, len(scan_N4) - 1, points).astype(np.int64)]
    return torch.from_numpy(np.pad(chosen_N4, ((0, 0), (0, len(features.extra)))))
