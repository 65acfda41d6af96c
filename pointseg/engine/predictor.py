"""From points to labels: the one inference path, which validation, evaluation and every later use of a model share.

Needs torch, NumPy, safetensors and PyYAML; a WaffleIron SciPy, too.

Legend: B clouds, N points, M measured columns, F features, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg.core.addresses import fetch_model, is_registered_model
from pointseg.core.errors import CheckpointError, DataError, DeviceError, OutOfMemory
from pointseg.core.files import expanded
from pointseg.core.memory import ran_out
from pointseg.data.checks.input_check import InputWarning, Note, look_at_points, refuse_doubts
from pointseg.data.features import NORMALISATION
from pointseg.data.scan import COLUMNS, missing_columns
from pointseg.engine import bundle
from pointseg.engine.adaptation import SHARE, adapted
from pointseg.engine.inference import batch_logits, cloud_classes, cloud_logits, inference_settings, points_at_once
from pointseg.engine.views import Views
from pointseg.models import ModelClasses

__all__ = ["Prediction", "Predictor"]


class Prediction(NamedTuple):
    """A model's answer for a scan.

    Attributes:
        raw_ids: (N,) uint32, a label for each point.
        probabilities: (N, K) float32, column k for training id k + 1, rows adding up to 1; None unless requested.
        notes: what is unusual about the scan.
    """

    raw_ids: NDArray[np.uint32]
    probabilities: NDArray[np.float32] | None
    notes: list[Note]


class Predictor:
    """A trained model, ready for scans. Several threads may use it at once.

    Args:
        trained: what `bundle.load` returns.
        device: where to compute, "cpu" or "cuda".
        strict: refuse a scan that the model does not expect (no remission, other units, another sensor's range) instead of
            warning.
        views: predict each scan from several views and average the probabilities.

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
        if unknown := set(settings) - {"points_per_pass", "votes"}:
            raise CheckpointError(
                f"unknown inference setting {', '.join(sorted(map(str, unknown)))}",
                where="inference",
                remedy="model.yaml was written by another version, or changed by hand.",
            )
        self.settings = inference_settings(self.model, settings.get("points_per_pass"), settings.get("votes", 1))

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the sensor's columns that the model uses beyond x, y, z and remission."""
        return self.trained.features.extra

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        device: str | torch.device = "cpu",
        *,
        strict: bool = False,
        views: Views | None = None,
        models: ModelClasses = (),
    ) -> Predictor:
        """Load a `.ckpt`, a run folder, a bundle, an exported `model.onnx` or its folder, or models:/NAME@ALIAS of the MLflow
        registry at MLFLOW_TRACKING_URI, else of mlruns.db in the current folder. Code in the file is never executed.

        Args:
            models: model classes, or their dotted names such as "my_package.MyNet", that are allowed in addition to those of
                this package and of installed packages.

        Raises:
            CheckpointError: if it is missing, damaged or of another kind.
            TrackingError: if the registry cannot be read, or has no such model.
            ConfigError: for an exported model, if onnxruntime is not installed.
        """
        if is_registered_model(checkpoint):
            checkpoint = fetch_model(str(checkpoint))
        path = expanded(checkpoint)
        if bundle.holds_export(path):
            from pointseg.engine.onnx_model import load_exported  # on use: prediction with torch needs no ONNX

            trained = load_exported(path, models)
        else:
            trained = bundle.load(checkpoint, models)
        return cls(trained, device, strict=strict, views=views)

    def adapted(self, scans: Iterable[NDArray[np.float32]], share: float = SHARE) -> Predictor:
        """A predictor whose BatchNorm statistics are partly those of unlabelled scans, for another sensor or place.

        Args:
            scans: as a call takes them; a dozen from different places is enough.
            share: of their statistics, the rest being those of training (see `pointseg.engine.adaptation`).

        Raises:
            ConfigError: if the model has no BatchNorm (an exported one has none), or there is no scan.
            DataError: for a scan that a call would refuse.

        Example:
            >>> Predictor.load("street").adapted(scans)(scans[0]).shape
            (123397,)
        """
        placed = (torch.from_numpy(self._examined(scan)[0]).to(self.device) for scan in scans)
        return Predictor(adapted(self.trained, placed, share), self.device, strict=self.strict, views=self.views)

    @overload
    def __call__(
        self, points: NDArray[np.float32], *, columns: Sequence[str] | None = ..., probabilities: Literal[False] = ...
    ) -> NDArray[np.uint32]: ...

    @overload
    def __call__(
        self, points: NDArray[np.float32], *, columns: Sequence[str] | None = ..., probabilities: Literal[True]
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]: ...

    def __call__(
        self, points: NDArray[np.float32], *, columns: Sequence[str] | None = None, probabilities: bool = False
    ) -> NDArray[np.uint32] | tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Raw label ids (N,) of a scan: (N, 4) x, y, z in metres and remission in [0, 1], or (N, 3) without remission.

        A model with further columns (`extra`) takes (N, 4 + E): x, y, z, remission, then those in their order. Missing
        remission is NaN in all rows. Anything unusual raises an `InputWarning`, or an error if the predictor is strict.

        Args:
            columns: names of the array's columns, if they or their order differ from the model's.
            probabilities: also return (N, K) float32, column k for training id k + 1; rows add up to 1.

        Raises:
            DataError: if the array has another shape, is empty, not finite, lacks a column, or is doubtful and the predictor
                strict.
            OutOfMemory: if the scan does not fit.
        """
        raw_ids, shares, notes = self.predict(points, columns=columns, probabilities=probabilities)
        _warn(notes)
        return raw_ids if shares is None else (raw_ids, shares)

    def predict(
        self, points: NDArray[np.float32], *, columns: Sequence[str] | None = None, probabilities: bool = False
    ) -> Prediction:
        """Like a call, but what is unusual about the scan is in the answer's notes instead of warnings.

        Example:
            >>> predictor.predict(points).notes
            []
        """
        examined, notes = self._examined(points if columns is None else self._arranged(points, columns))
        if not probabilities:
            return Prediction(self.label_map.to_raw(self._train_ids(examined)), None, notes)
        return self._answer(self._logits(examined), True, notes)

    @torch.inference_mode()
    def predict_many(self, clouds: Sequence[NDArray[np.float32]], *, probabilities: bool = False) -> list[Prediction]:
        """The predictions of several clouds, exactly as one by one; small ones share a pass through the model.

        Raises:
            DataError, OutOfMemory: as a call does, for the first cloud that cannot be predicted.

        Example:
            >>> first, second = predictor.predict_many([points[:500], points[500:700]])
        """
        largest = self.settings.get("points_per_pass") or math.inf
        small = [number for number, points in enumerate(clouds) if self.views.count == 1 and len(points) <= largest]
        if len(small) < 2:
            small = []
        answers = {
            number: self.predict(points, probabilities=probabilities)
            for number, points in enumerate(clouds)
            if number not in small
        }
        examined = [self._examined(clouds[number]) for number in small]
        tensors = [torch.from_numpy(points).to(self.device) for points, _ in examined]
        for number, logits_NK, (_, notes) in zip(small, self._padded(tensors), examined, strict=True):
            answers[number] = self._answer(logits_NK, probabilities, notes)
        return [answers[number] for number in range(len(clouds))]

    def train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Training ids (N,), 1..K, without keeping the logits of all points; input and errors as in a call."""
        examined, notes = self._examined(points)
        _warn(notes)
        return self._train_ids(examined)

    def logits(self, points: NDArray[np.float32]) -> Tensor:
        """Logits (N, K) on the device; input and errors as in a call."""
        examined, notes = self._examined(points)
        _warn(notes)
        return self._logits(examined)

    def _answer(self, logits_NK: Tensor, probabilities: bool, notes: list[Note]) -> Prediction:
        with _out_of_memory(len(logits_NK)):
            raw_ids = self.label_map.to_raw(logits_NK.argmax(dim=1).cpu().numpy() + 1)
            shares = torch.softmax(logits_NK, dim=1).cpu().numpy() if probabilities else None
        return Prediction(raw_ids, shares, notes)

    @torch.inference_mode()
    def _train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        if self.views.count > 1:
            return (self._logits(points).argmax(dim=1) + 1).to(torch.uint8).cpu().numpy()
        with _out_of_memory(len(points)):
            classes_N = cloud_classes(self.model, self.trained.features, *self._placed(points), **self.settings)
            return classes_N.cpu().numpy()

    @torch.inference_mode()
    def _logits(self, points: NDArray[np.float32]) -> Tensor:
        """(N, K); with several views, the logarithms of the mean probabilities."""
        with _out_of_memory(len(points)):
            placed, at_once = self._placed(points)
            if self.views.count == 1:
                return cloud_logits(self.model, self.trained.features, placed, at_once, **self.settings)
            total_NK = torch.zeros(len(placed), self.model.num_classes, device=placed.device)
            for number in range(self.views.count):
                view = self.views.of(placed, number)
                logits_NK = cloud_logits(self.model, self.trained.features, view, at_once, **self.settings)
                total_NK += torch.softmax(logits_NK, dim=1)
            return (total_NK / self.views.count).log_()

    def _padded(self, clouds: list[Tensor]) -> list[Tensor]:
        """Logits (n, K) of small clouds (n, 4) that go through the model in one padded batch."""
        if not clouds:
            return []
        with _out_of_memory(sum(map(len, clouds))):
            measured = [self.trained.features.measure(points_n4) for points_n4 in clouds]
            sizes = torch.tensor([len(points_n4) for points_n4 in clouds], device=self.device)
            measured_BNM = torch.nn.utils.rnn.pad_sequence(measured, batch_first=True)
            mask_BN = torch.arange(measured_BNM.shape[1], device=self.device) < sizes[:, None]
            logits_BNK = batch_logits(self.model, self.trained.features, measured_BNM, mask_BN)
            return [logits_NK[:size] for logits_NK, size in zip(logits_BNK, sizes.tolist(), strict=True)]

    def _placed(self, points: NDArray[np.float32]) -> tuple[Tensor, int]:
        """Points on the device, and how many go through the model together."""
        return torch.from_numpy(points).to(self.device), points_at_once(self.trained, self.device)

    def _examined(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[Note]]:
        """Points (N, 4 + E) as the model needs them, and what is unusual about them."""
        points = np.asarray(points, np.float32)
        self._refuse_shape(points)
        no_remission = points.shape[1] == 3 or (len(self.extra) > 0 and bool(np.isnan(points[:, 3]).all()))
        if no_remission:  # a new array: the caller's stays unchanged
            filled = np.full(len(points), self.remission_mean, np.float32)
            points = np.column_stack([points[:, :3], filled, points[:, 4:]])
        if not np.isfinite(points).all():
            raise DataError("the scan has points that are NaN or infinite", remedy="Remove them.")
        usual = self.trained.features.offset.get("range", NORMALISATION["range"][0])
        notes = look_at_points(points[:, : 3 if no_remission else 4], usual)
        if no_remission:
            text = f"the scan has no remission: the training mean {self.remission_mean:.3f} is used"
            notes.insert(0, Note("no remission", text, True, "Give a fourth column."))
        if self.strict:
            refuse_doubts(notes)
        return np.require(points, requirements=["C", "W"]), notes  # torch warns about arrays that are read-only

    def _refuse_shape(self, points: NDArray[np.float32]) -> None:
        widths = (4 + len(self.extra),) if self.extra else (3, 4)
        if points.ndim != 2 or points.shape[1] not in widths or len(points) == 0:
            named = ", ".join([*COLUMNS, *self.extra])
            other = ", or name the columns that it has" if self.extra else ", or (N, 3)"
            raise DataError(
                f"an array of shape {points.shape} is not a scan",
                remedy=f"Give (N, {widths[-1]}): {named}{other}, with at least one point.",
            )

    def _arranged(self, points: NDArray[np.float32], columns: Sequence[str]) -> NDArray[np.float32]:
        """The model's columns, in its order, of an array with named columns."""
        points, present = np.asarray(points, np.float32), list(columns)
        if points.ndim != 2 or points.shape[1] != len(present) or len(set(present)) != len(present):
            text = f"an array of shape {points.shape} does not have the columns {', '.join(present)}"
            raise DataError(text, where="columns", remedy="Name each of them once, in their order.")
        if missing := [name for name in (*COLUMNS[:3], *self.extra) if name not in present]:
            raise missing_columns(missing, present, "columns")
        has_remission = "remission" in present
        needed = [*COLUMNS[: 3 + has_remission], *self.extra]
        chosen = points[:, [present.index(name) for name in needed]]
        return chosen if has_remission or not self.extra else np.insert(chosen, 3, np.nan, axis=1)


def _warn(notes: list[Note]) -> None:
    for note in notes:
        warnings.warn(InputWarning(note), stacklevel=3)  # where the user's code calls the predictor


@contextmanager
def _out_of_memory(points: int) -> Iterator[None]:
    """Raises OutOfMemory if the block runs out of memory."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(
            f"a scan of {points} points does not fit into memory", remedy="Lower inference.points_per_pass."
        ) from error
