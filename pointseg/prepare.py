"""Check scans and make them ready for training: a packed store, tables, or a synthetic data set.

  python -m pointseg.prepare input=DIR output=STORE                   check every file, pack to 8-byte records
  python -m pointseg.prepare input=DIR validate=true                  only check; exit code 2 if anything is wrong
  python -m pointseg.prepare input=DIR output=STORE on_error=skip     pack the good scans, list the rest
  python -m pointseg.prepare input=DIR output=STORE keyframes.distance=2.0
  python -m pointseg.prepare input=DIR output=TABLES format=parquet   Parquet files with an MLTable
  python -m pointseg.prepare output=DIR synthetic.scans=200           synthetic streets in SemanticKITTI's layout
  python -m pointseg.prepare output=STORE synthetic.scans=10000 synthetic.beams=16 format=packed

Then: python -m pointseg.train +experiment=kitti data.root=DIR (or STORE)
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.prepare`."""
    run("prepare", __doc__ or "")


if __name__ == "__main__":
    main()
