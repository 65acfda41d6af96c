"""Choose the clouds that are worth labelling: unlike each other, and those that a model is unsure of.

python -m pointseg.select input=SCANS output=next.txt count=20                       by the model in this package
python -m pointseg.select input=SCANS output=next.txt copy=DIR                       copies of them as well
python -m pointseg.select input=SCANS output=more.txt known=next.txt checkpoint=RUN_FOLDER     the next ones
python -m pointseg.select input=KITTI output=next.txt spacing=10                     10 metres apart, by the poses
python -m pointseg.select 'input=SCANS/**/*.pcd' output=next.txt method=uniform      without a model
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.select`."""
    run("select", __doc__ or "")


if __name__ == "__main__":
    main()
