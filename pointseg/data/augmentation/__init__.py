"""Random changes of training clouds that leave their labels true: transforms, PolarMix, LaserMix, pasted objects."""

from pointseg.data.augmentation.lasermix import LaserMix
from pointseg.data.augmentation.pasting import InstancePaste
from pointseg.data.augmentation.polarmix import PolarMix
from pointseg.data.augmentation.transforms import Augmentation

__all__ = ["Augmentation", "InstancePaste", "LaserMix", "PolarMix"]
