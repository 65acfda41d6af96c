"""Score a trained model on whole scans, every point, by SemanticKITTI's official rule.

  python -m pointseg.evaluate checkpoint=RUN_FOLDER                             on the data it was trained with
  python -m pointseg.evaluate checkpoint=RUN_FOLDER split=test
  python -m pointseg.evaluate checkpoint=RUN_FOLDER data=semantickitti data.root=DIR
  python -m pointseg.evaluate checkpoint=RUN/checkpoints/last.ckpt 'data.split.val=[10]' output=DIR
  python -m pointseg.evaluate checkpoint=RUN_FOLDER views.count=8                test-time augmentation, and what it brings
  python -m pointseg.evaluate submission=FILE.zip data=semantickitti data.root=DIR     whether the server would take it

checkpoint is a .ckpt, a run folder (its best.ckpt), a bundle folder, or models:/NAME@ALIAS of the MLflow registry.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.evaluate`."""
    run("evaluate", __doc__ or "")


if __name__ == "__main__":
    main()
