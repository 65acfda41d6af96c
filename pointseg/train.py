"""Train a segmentation model.

python -m pointseg.train                                          synthetic streets, nothing to download
python -m pointseg.train +experiment=kitti data.root=DIR          real SemanticKITTI scans
python -m pointseg.train +experiment=quick                        seconds, to see that it works
python -m pointseg.train data=semantickitti data.root=DIR 'data.split.train=[0,1]' 'data.split.val=[2]'
python -m pointseg.train data.labels=my_classes.yaml data=semantickitti data.root=DIR
python -m pointseg.train -m optimizer.lr=0.001,0.003 seed=0,1     four runs under one MLflow run
python -m pointseg.train -m compute.sweep.trials=20 'optimizer.lr=tag(log, interval(1e-4,1e-2))' 'data.batch_size=choice(4,8)'
python -m pointseg.train resume=RUN_FOLDER trainer.max_epochs=20  go on where it stopped
python -m pointseg.train rerun=RUN_FOLDER seed=1                  the same again, in a new folder
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.train`."""
    run("train", __doc__ or "")


if __name__ == "__main__":
    main()
