"""Prediction of files: what to predict and where its labels go, in one process or several, whole or not at all."""

from pointseg.labelling import predict_cloud, predict_clouds
from pointseg.prediction.files import Predicted, predict_files
from pointseg.prediction.inputs import Item, find_items
from pointseg.prediction.output import Share

__all__ = ["Item", "Predicted", "Share", "find_items", "predict_cloud", "predict_clouds", "predict_files"]
