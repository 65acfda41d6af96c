"""The packed store: a whole data set as a few files of 8-byte records, memory-mapped or read from object storage.

STORE/
  store.json                 what it holds and the SHA-256 of every other file; written last: without it a store is
                             unfinished
  index.npz                  sequence, frame, place, counts by class and pose of every scan
  instances.npz              which points are one object, for copy-and-paste
  records-00000.bin          points of some scans as records (`pointseg.data.records`), shuffled within each scan
  surroundings-00000.bin     float16 columns that the features measure in the whole scan
  raw-00000.bin              with keep_raw: uint32 raw labels, instance ids in the upper 16 bits
  order-00000.bin            with keep_order: uint32 places of the points in their original file
"""

from __future__ import annotations

from pointseg.data.store.packing import PackSettings
from pointseg.data.store.reader import PackedScans, PackedStore, is_store
from pointseg.data.store.writer import pack

__all__ = ["PackSettings", "PackedScans", "PackedStore", "is_store", "pack"]
