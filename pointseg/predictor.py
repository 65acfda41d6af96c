"""Points -> labels: the one inference path. Validation, evaluation and every later use of a model go through it.

Needs torch, NumPy, safetensors and PyYAML. Legend: B clouds, N points, M measured columns, F features, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg import bundle
from pointseg.errors import CheckpointError, DataError, DeviceError, OutOfMemory
from pointseg.features import NORMALISATION
from pointseg.files import expanded
from pointseg.inference import check_inference, cloud_classes, cloud_logits, points_at_once
from pointseg.input_check import InputWarning, Note, look_at_points, refuse_doubts
from pointseg.memory import ran_out
from pointseg.views import Views

__all__ = ["Prediction", "Predictor"]


class Prediction(NamedTuple):
    """What a model says about a scan.

    Attributes:
        raw_ids: (N,) uint32, a label for each point.
        probabilities: (N, K) float32, column k that of training id k + 1, rows adding up to 1; None if not asked for.
        notes: what is unusual about the scan.
    """

    raw_ids: NDArray[np.uint32]
    probabilities: NDArray[np.float32] | None
    notes: list[Note]


class Predictor:
    """A trained model, ready for scans. Several threads may use it at once.

    Args:
        trained: what `bundle.load` gives.
        device: where to compute, "cpu" or "cuda".
        strict: refuse a scan that is not what the model expects (no remission, other units, another sensor's range)
            instead of a warning.
        views: predict each scan from several views and average the probabilities; the time grows with their number.

    Example:
        >>> predictor = Predictor.load("outputs/2026-11-21/10-15-00")
        >>> raw_ids = predictor(points)  # (N, 4) float32 -> (N,) uint32
        >>> raw_ids, probabilities = predictor(points, probabilities=True)  # (N,) and (N, K) float32
    """

    def __init__(
        self,
        trained: bundle.TrainedModel,
        device: str | torch.device = "cpu",
        *,
        strict: bool = False,
        views: Views | None = None,
    ) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise DeviceError("this machine has no GPU that torch can use", where=f"device={device}")
        self.trained, self.label_map, self.strict = trained, trained.label_map, strict
        self.views = views or Views()
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
    def load(
        cls,
        checkpoint: str | Path,
        device: str | torch.device = "cpu",
        *,
        strict: bool = False,
        views: Views | None = None,
    ) -> Predictor:
        """From a `.ckpt`, a run folder, a bundle, an exported `model.onnx` or its folder, or models:/NAME@ALIAS of the MLflow
        registry at MLFLOW_TRACKING_URI, else of mlruns.db in the current folder. No code that the file brings is executed.

        Raises:
            CheckpointError: if it is missing, damaged or of another kind.
            TrackingError: if the registry cannot be read, or has no such model.
            ConfigError: for an exported model, if onnxruntime is not installed.
        """
        if str(checkpoint).startswith("models:/"):
            # imported by name, on use: prediction knows nothing of MLflow
            checkpoint = import_module("pointseg.tracking").download_model(str(checkpoint), "auto", Path.cwd())
        path = expanded(checkpoint)
        if bundle.holds_export(path):
            # by name as well: prediction with torch knows nothing of ONNX
            trained = import_module("pointseg.exporting.runtime").load_exported(path)
        else:
            trained = bundle.load(checkpoint)
        return cls(trained, device, strict=strict, views=views)

    @overload
    def __call__(self, points: NDArray[np.float32], *, probabilities: Literal[False] = ...) -> NDArray[np.uint32]: ...

    @overload
    def __call__(
        self, points: NDArray[np.float32], *, probabilities: Literal[True]
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]: ...

    def __call__(
        self, points: NDArray[np.float32], *, probabilities: bool = False
    ) -> NDArray[np.uint32] | tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Raw label ids (N,) of a scan: (N, 4) x, y, z in metres and remission in [0, 1], or (N, 3) without remission.

        What is unusual about the scan is said as an `InputWarning`, or refused where the predictor is strict.

        Args:
            probabilities: give (N, K) float32 as well, column k that of training id k + 1; rows add up to 1.

        Raises:
            DataError: if the array is not (N, 3) or (N, 4), is empty, not finite, or doubtful and the predictor strict.
            OutOfMemory: if the scan does not fit.
        """
        raw_ids, chances, notes = self.predict(points, probabilities=probabilities)
        _warn(notes)
        return raw_ids if chances is None else (raw_ids, chances)

    def predict(self, points: NDArray[np.float32], *, probabilities: bool = False) -> Prediction:
        """Like a call, with what is unusual about the scan as notes in the answer instead of warnings.

        Example:
            >>> predictor.predict(points).notes
            []
        """
        examined, notes = self._examined(points)
        if not probabilities:
            return Prediction(self.label_map.to_raw(self._train_ids(examined)), None, notes)
        return self._answer(self._logits(examined), True, notes)

    @torch.inference_mode()
    def predict_many(self, clouds: Sequence[NDArray[np.float32]], *, probabilities: bool = False) -> list[Prediction]:
        """The predictions of several clouds, the very same as one by one; small ones share a pass through the model.

        Raises:
            DataError, OutOfMemory: as a call does, for the first cloud that cannot be predicted.

        Example:
            >>> first, second = predictor.predict_many([points[:500], points[500:700]])
        """
        largest = self.settings.get("points_per_pass") or math.inf
        together = [number for number, points in enumerate(clouds) if self.views.count == 1 and len(points) <= largest]
        answers = {
            number: self.predict(points, probabilities=probabilities)
            for number, points in enumerate(clouds)
            if len(together) < 2 or number not in together
        }
        if len(together) > 1:
            examined = [self._examined(clouds[number]) for number in together]
            tensors = [torch.from_numpy(points).to(self.device) for points, _ in examined]
            for number, logits_NK, (_, notes) in zip(together, self._padded(tensors), examined, strict=True):
                answers[number] = self._answer(logits_NK, probabilities, notes)
        return [answers[number] for number in range(len(clouds))]

    def train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Training ids (N,), 1..K, without keeping the logits of all points: see `__call__` for what it raises."""
        examined, notes = self._examined(points)
        _warn(notes)
        return self._train_ids(examined)

    def logits(self, points: NDArray[np.float32]) -> Tensor:
        """Logits (N, K) on the device: see `__call__` for what it raises."""
        examined, notes = self._examined(points)
        _warn(notes)
        return self._logits(examined)

    def _answer(self, logits_NK: Tensor, probabilities: bool, notes: list[Note]) -> Prediction:
        with _fitting(len(logits_NK)):
            raw_ids = self.label_map.to_raw(logits_NK.argmax(dim=1).cpu().numpy() + 1)
            chances = torch.softmax(logits_NK, dim=1).cpu().numpy() if probabilities else None
        return Prediction(raw_ids, chances, notes)

    @torch.inference_mode()
    def _train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        if self.views.count > 1:
            return (self._logits(points).argmax(dim=1) + 1).to(torch.uint8).cpu().numpy()
        with _fitting(len(points)):
            return (
                cloud_classes(self.model, self.trained.features, *self._placed(points), **self.settings).cpu().numpy()
            )

    @torch.inference_mode()
    def _logits(self, points: NDArray[np.float32]) -> Tensor:
        """(N, K); of several views, the logarithms of their mean probabilities."""
        with _fitting(len(points)):
            points_N4, at_once = self._placed(points)
            if self.views.count == 1:
                return cloud_logits(self.model, self.trained.features, points_N4, at_once, **self.settings)
            total_NK = torch.zeros(len(points_N4), self.model.num_classes, device=points_N4.device)
            for number in range(self.views.count):
                seen_N4 = self.views.of(points_N4, number)
                logits_NK = cloud_logits(self.model, self.trained.features, seen_N4, at_once, **self.settings)
                total_NK += torch.softmax(logits_NK, dim=1)
            return (total_NK / self.views.count).log_()

    def _padded(self, clouds: list[Tensor]) -> list[Tensor]:
        """Logits (n, K) of small clouds (n, 4), which go through the model side by side."""
        with _fitting(sum(map(len, clouds))):
            measured = [self.trained.features.measure(points_n4) for points_n4 in clouds]
            sizes = torch.tensor([len(points_n4) for points_n4 in clouds], device=self.device)
            measured_BNM = torch.nn.utils.rnn.pad_sequence(measured, batch_first=True)
            mask_BN = torch.arange(measured_BNM.shape[1], device=self.device) < sizes[:, None]
            features_BNF = self.trained.features(measured_BNM, mask_BN)
            logits_BNK = self.model(features_BNF, measured_BNM[..., :3], mask_BN).float()
            return [logits_NK[:size] for logits_NK, size in zip(logits_BNK, sizes.tolist(), strict=True)]

    def _placed(self, points: NDArray[np.float32]) -> tuple[Tensor, int]:
        """Points on the device, and how many go through the model together."""
        return torch.from_numpy(points).to(self.device), points_at_once(self.trained, self.device)

    def _examined(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[Note]]:
        """Points (N, 4) as the model wants them, and what is unusual about them."""
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] not in (3, 4) or len(points) == 0:
            raise DataError(
                f"an array of shape {points.shape} is no scan",
                remedy="Give (N, 4): x, y, z, remission, or (N, 3), with at least one point.",
            )
        if not np.isfinite(points).all():
            raise DataError("the scan has points that are NaN or infinite", remedy="Remove them.")
        features = self.trained.features
        notes = look_at_points(points, features.offset.get("range", NORMALISATION["range"][0]))
        if points.shape[1] == 3:
            text = f"the scan has no remission: the training mean {self.remission_mean:.3f} is used"
            notes.insert(0, Note("no remission", text, True, "Give a fourth column."))
            points = np.column_stack([points, np.full(len(points), self.remission_mean, np.float32)])
        if self.strict:
            refuse_doubts(notes)
        return np.require(points, requirements=["C", "W"]), notes  # torch warns of what it could not write to


def _warn(notes: list[Note]) -> None:
    for note in notes:
        warnings.warn(InputWarning(note), stacklevel=3)  # where the user's code calls the predictor


@contextmanager
def _fitting(points: int) -> Iterator[None]:
    """Raises OutOfMemory if the block's work does not fit."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(
            f"a scan of {points} points does not fit into memory", remedy="Lower inference.points_per_pass."
        ) from error
