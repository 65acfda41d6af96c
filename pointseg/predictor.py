"""Points -> labels: the one inference path. Validation, evaluation and every later use of a model go through it.

Needs torch, NumPy, safetensors and PyYAML. Legend: N points, M measured columns, S subsets, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg import bundle
from pointseg.errors import CheckpointError, ConfigError, DataError, DeviceError, OutOfMemory
from pointseg.features import FeatureSpec
from pointseg.models import SegmentationModel
from pointseg.randomness import Purpose, key, permutation

__all__ = ["Predictor", "check_inference", "cloud_logits"]

POINTS_AT_ONCE = 32768  # a quarter of a 64-beam scan: bounds memory, and is as fast as more


class Predictor:
    """A trained model, ready for scans.

    Args:
        trained: what `bundle.load` gives.
        device: where to compute, "cpu" or "cuda".

    Example:
        >>> predictor = Predictor.load("outputs/2026-11-21/10-15-00")
        >>> raw_ids = predictor(points)  # (N, 4) float32 -> (N,) uint32
    """

    def __init__(self, trained: bundle.TrainedModel, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise DeviceError("this machine has no GPU that torch can use", where=f"device={device}")
        self.trained, self.label_map = trained, trained.label_map
        self.model = trained.model.to(self.device).eval()
        settings = dict(trained.inference)
        self.remission_mean = float(settings.pop("remission_mean", 0.0))
        unknown = set(settings) - {"points_per_pass", "votes"}
        if unknown:
            raise CheckpointError(
                f"unknown inference setting {', '.join(sorted(map(str, unknown)))}",
                where="inference",
                remedy="model.yaml was written by another version, or changed by hand.",
            )
        check_inference(settings.get("points_per_pass"), settings.get("votes", 1))
        self.settings = settings

    @classmethod
    def load(cls, checkpoint: str | Path, device: str | torch.device = "cpu") -> Predictor:
        """From a `.ckpt`, a run folder, a bundle, or an exported `model.onnx` or its folder. No code that the file brings
        is executed.

        Raises:
            CheckpointError: if it is missing, damaged or of another kind.
            ConfigError: for an exported model, if onnxruntime is not installed.
        """
        path = Path(checkpoint).expanduser()
        if path.suffix == ".onnx" or ((path / "model.onnx").is_file() and not (path / bundle.WEIGHTS).is_file()):
            # imported by name, on use: prediction with torch knows nothing of ONNX
            return cls(import_module("pointseg.exporting.runtime").load_exported(path), device)
        return cls(bundle.load(checkpoint), device)

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.uint32]:
        """Raw label ids (N,) of a scan: (N, 4) x, y, z in metres and remission in [0, 1], or (N, 3) without remission."""
        return self.label_map.to_raw(self.train_ids(points))

    def train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Training ids (N,), 1..K."""
        logits_NK = self.logits(points)
        return (logits_NK.argmax(dim=1) + 1).to(torch.uint8).cpu().numpy()

    @torch.inference_mode()
    def logits(self, points: NDArray[np.float32]) -> Tensor:
        """Logits (N, K) on the device.

        Raises:
            DataError: if the array is not (N, 3) or (N, 4), is empty, or not finite.
            OutOfMemory: if the scan does not fit.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(self._checked(points))).to(self.device)
        try:
            return cloud_logits(self.model, self.trained.features, tensor, **self.settings)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"a scan of {len(points)} points does not fit into memory", remedy="Lower inference.points_per_pass."
            ) from error

    def _checked(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] not in (3, 4) or len(points) == 0:
            raise DataError(
                f"an array of shape {points.shape} is no scan",
                remedy="Give (N, 4): x, y, z, remission, or (N, 3), with at least one point.",
            )
        if not np.isfinite(points).all():
            raise DataError("the scan has points that are NaN or infinite", remedy="Remove them.")
        if points.shape[1] == 3:
            warnings.warn(
                f"the scan has no remission: the training mean {self.remission_mean:.3f} is used", stacklevel=4
            )
            points = np.column_stack([points, np.full(len(points), self.remission_mean, np.float32)])
        return points


def check_inference(points_per_pass: int | None, votes: int) -> None:
    """Refuse inference settings that cannot be used.

    Raises:
        ConfigError: naming the key.
    """
    if points_per_pass is not None and points_per_pass < 1:
        raise ConfigError(f"{points_per_pass} is less than 1", where="inference.points_per_pass")
    if votes < 1:
        raise ConfigError(f"{votes} is less than 1", where="inference.votes")


def cloud_logits(
    model: SegmentationModel,
    features: FeatureSpec,
    points_N4: Tensor,
    *,
    points_per_pass: int | None = None,
    votes: int = 1,
) -> Tensor:
    """Logits (N, K) of one scan (N, 4), on the device where both lie.

    What a PointNet pools depends on how many points it sees. So a model that was trained on clouds of n points predicts
    a scan in random, disjoint subsets of at most n points that together cover every point once. The subsets depend on
    nothing but the number of points.

    Args:
        points_per_pass: the size n of the subsets; None takes the whole scan at once.
        votes: how often to cover the scan, each time with other subsets; the probabilities are averaged. Only subsets
            differ between votes, so a scan that fits one pass is predicted once.
    """
    count = len(points_N4)
    measured_NM = features.measure(points_N4)  # surroundings: of the whole scan, as in training
    if points_per_pass is None or count <= points_per_pass:
        return model(features(measured_NM[None]), points_N4[None, :, :3])[0].float()
    votes_VNK = []
    for vote in range(votes):
        logits_NK = points_N4.new_empty(count, model.num_classes)
        for subset_SN in _subsets(count, points_per_pass, vote, points_N4.device):
            clouds_SNM = measured_NM[subset_SN]
            logits_NK[subset_SN] = model(features(clouds_SNM), clouds_SNM[..., :3]).float()
        votes_VNK.append(logits_NK)
    if votes == 1:
        return votes_VNK[0]
    return torch.stack([torch.softmax(logits, dim=1) for logits in votes_VNK]).mean(dim=0).log()


def _subsets(count: int, largest: int, vote: int, device: torch.device) -> Iterator[Tensor]:
    """Disjoint random subsets of 0..count-1 of at most `largest`, of equal size or one less, stacked (S, n)."""
    passes = math.ceil(count / largest)
    size, longer = divmod(count, passes)
    order = torch.from_numpy(permutation(count, key(count, vote, Purpose.INFERENCE))).to(device)
    border = longer * (size + 1)
    for rows_SN in (order[:border].view(longer, size + 1), order[border:].view(passes - longer, size)):
        if len(rows_SN):
            yield from rows_SN.split(max(1, POINTS_AT_ONCE // rows_SN.shape[1]))
