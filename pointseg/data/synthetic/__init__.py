"""Synthetic data, the default: streets made from a seed and scanned by a simulated multi-beam LiDAR; NumPy only.

>>> scans = SyntheticScans(scans=20, seed=1)
>>> scans[0].points.shape[1], scans.names[0]
(4, '000/000000')
"""

from pointseg.data.synthetic.scans import SyntheticScans, SyntheticSequences
from pointseg.data.synthetic.sensor import Sensor
from pointseg.data.synthetic.world import SyntheticWorld
from pointseg.data.synthetic.writer import write_sequences

__all__ = ["Sensor", "SyntheticScans", "SyntheticSequences", "SyntheticWorld", "write_sequences"]
