"""Draws docs/images/learning_curves.png: two runs of the same recipe and seed, one with the plain and one with the fast form.

python -m pointseg.train +experiment=kitti data.root=DIR seed=0 trainer.check_val_every_n_epoch=1 \\
    model.implementation=plain hydra.run.dir=PLAIN                                       # and again: fast, FAST
python docs/images/learning_curves.py PLAIN FAST
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from pointseg.engine.training.history import read_history


def main(plain: str, fast: str) -> None:
    """Loss and mIoU by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, miou = figure.subplots(1, 2)
    for folder, name, style in ((plain, "plain", "o-"), (fast, "fast", "s--")):
        rows = read_history(Path(folder) / "history.csv")
        epochs = [row["epoch"] for row in rows]
        loss.plot(epochs, [row["train/loss"] for row in rows], style, label=name, markersize=4)
        miou.plot(epochs, [100 * row["val/miou"] for row in rows], style, label=name, markersize=4)
    loss.set(xlabel="epoch", title="training loss", ylim=(0, None))
    miou.set(xlabel="epoch", title="mIoU on sequence 08, %", ylim=(0, None))
    for axes in (loss, miou):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
