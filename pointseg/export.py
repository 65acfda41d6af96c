"""Write a trained model for other runtimes, checked against itself. Needs the extra export.

  python -m pointseg.export checkpoint=RUN_FOLDER output=DIR                    model.onnx, float32
  python -m pointseg.export checkpoint=RUN_FOLDER format=onnx-int8 output=DIR   8 bits, refused if labels change
  python -m pointseg.export checkpoint=RUN_FOLDER format=triton output=DIR      DIR/model_repository for Triton
  python -m pointseg.export checkpoint=RUN_FOLDER format=onnx-int8 scans=20 data=semantickitti data.root=DIR output=DIR
  python -m pointseg.export checkpoint=RUN_FOLDER format=half output=DIR        DIR/bundle, half the size
  python -m pointseg.evaluate checkpoint=DIR                                    scores what was exported

The extra: python -m pip install -c environments/constraints.txt -e '.[export]'
checkpoint is a .ckpt, a run folder (its best.ckpt), a bundle folder, or models:/NAME@ALIAS of the MLflow registry.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.export`."""
    run("export", __doc__ or "")


if __name__ == "__main__":
    main()
