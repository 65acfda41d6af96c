"""A trained model's scores, pictures and scans in 3D as one HTML file that needs no network.

  python -m pointseg.report run=RUN_FOLDER                                  RUN_FOLDER/report.html
  python -m pointseg.report run=RUN_FOLDER against=OTHER_RUN                what got better and worse, by class
  python -m pointseg.report run=RUN_FOLDER split=test scans_shown=4 output=report.html
  python -m pointseg.report checkpoint=BUNDLE data=semantickitti data.root=DIR output=report.html
  python -m pointseg.report run=RUN_FOLDER tracking=mlflow                  also kept in MLflow
  python -m pointseg.report drift=NEW_SCANS against=RUN_FOLDER              are new scans like the training scans?
  python -m pointseg.report drift=NEW_SCANS against=PACKED_STORE checkpoint=BUNDLE
  python -m pointseg.report drift=COLLECTED against=RUN_FOLDER days=7             what a service collected

run is a run folder (its best.ckpt, its learning curve); checkpoint is a .ckpt, a bundle folder, an exported model, or
models:/NAME@ALIAS of the MLflow registry.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.report`."""
    run("report", __doc__ or "")


if __name__ == "__main__":
    main()
