"""A bundle as an MLflow pyfunc, from rows of x, y, z, remission to raw label ids.

MLflow copies this file into a registered model and runs it there ("models from code"), so it only calls `Predictor`, and no
pickle is involved. The weights are in the bundle among the model's artifacts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from pointseg import PointsegError, Predictor

BUNDLE = "bundle"  # the artifact's name


class PointCloudModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """`mlflow.pyfunc.load_model(...).predict(points)`: (N, 4) float32 -> (N,) uint32."""

    def load_context(self, context: Any) -> None:
        """Read the bundle, once."""
        self.predictor = Predictor.load(context.artifacts[BUNDLE])

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Raw label ids of a scan, whose rows MLflow has checked against the signature.

        Raises:
            MlflowException: if the rows are not a scan; a server answers 400.
        """
        try:
            return self.predictor(np.asarray(model_input, np.float32))
        except (PointsegError, ValueError, TypeError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error


set_model(PointCloudModel())
