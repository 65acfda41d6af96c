"""Training: a SegmentationModule over a DataModule into a run folder. Nothing is imported here: Lightning takes seconds."""
