"""Predict files: find them, name their labels, and write each whole or not at all, in one process or several."""

from pointseg.engine.labelling import predict_cloud, predict_clouds
from pointseg.engine.prediction.files import Predicted, predict_files
from pointseg.engine.prediction.inputs import Item, find_items

__all__ = ["Item", "Predicted", "find_items", "predict_cloud", "predict_clouds", "predict_files"]
