"""Label point clouds with a trained model. Kinds beyond .bin, .npy, .npz need the extra formats.

  python -m pointseg.predict input=SCANS output=DIR picture=labels.png                 by the model in this package
  python -m pointseg.predict checkpoint=RUN_FOLDER input=street.laz output=DIR         a classified copy of the file
  python -m pointseg.predict checkpoint=RUN_FOLDER input=SCANS output=DIR              a folder; again: goes on
  python -m pointseg.predict checkpoint=RUN_FOLDER 'input=SCANS/**/*.pcd' output=DIR write=label probabilities=true
  python -m pointseg.predict checkpoint=RUN_FOLDER input=KITTI output=DIR              sequences/SS/predictions/*.label
  python -m pointseg.predict checkpoint=RUN_FOLDER input=SCANS output=DIR views.count=8        test-time augmentation
  python -m pointseg.predict checkpoint=RUN_FOLDER input=KITTI submission=FILE.zip     the test set, packed and checked
  torchrun --nproc-per-node 4 -m pointseg.predict checkpoint=RUN_FOLDER input=SCANS output=DIR

The extra: python -m pip install -c environments/constraints.txt -e '.[formats]'
checkpoint is a .ckpt, a run folder (its best.ckpt), a bundle folder, an export, models:/NAME@ALIAS of the MLflow registry,
or street: the model in this package, which is taken where none is named.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.predict`."""
    run("predict", __doc__ or "")


if __name__ == "__main__":
    main()
