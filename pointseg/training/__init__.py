"""Training: a SegmentationModule over a DataModule into a run folder."""

from pointseg.training.fit import TrainerSettings, fit
from pointseg.training.run_folder import RunFolder

__all__ = ["RunFolder", "TrainerSettings", "fit"]
