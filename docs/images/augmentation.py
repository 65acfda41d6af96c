"""Draws docs/images/augmentation.png: a synthetic street before and after each augmentation.

python docs/images/augmentation.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pointseg.core.labels import LabelMap
from pointseg.data import Augmentation, InstancePaste, PolarMix, SyntheticDataModule
from pointseg.data.batches import PointBatch, decode_batch
from pointseg.data.datasets import Draw, TrainingClouds

BACKGROUND = "#111417"


def main() -> None:
    """Every augmentation alone, on the same scan."""
    data = SyntheticDataModule({"train": 12, "val": 1, "test": 1}, world_seed=3, paste=InstancePaste(1.0, 12))
    _, table = data.table()
    clouds = TrainingClouds(table, data.sampling, 0, partners=True)
    loaded = clouds.__getitems__([Draw(0, 5, 5, 200_000)])
    assert loaded.partner is not None
    plain, partner = decode_batch(loaded, table.format), decode_batch(loaded.partner, table.format)
    label_map, metric = data.label_map, data.features.metric_columns
    things, ground = (label_map.train_ids_of(ids) for ids in (label_map.things, label_map.ground))

    def moved(**settings: float) -> PointBatch:
        none = {"yaw": 0.0, "flip_x": 0.0, "flip_y": 0.0, "scale": 0.0, "jitter": 0.0}
        points, mask = Augmentation(**{**none, **settings})(plain.points, plain.mask, plain.keys, metric)
        return plain._replace(points=points, mask=mask)

    panels = {
        "before": plain,
        "the other scan": partner,
        "PolarMix, swap": PolarMix(swap=1.0)(plain, partner, things),
        "PolarMix, paste": PolarMix(paste=1.0)(plain, partner, things),
        "objects of rare classes pasted": data.paste(plain, data.bank(), ground),
        "yaw 60 degrees": moved(yaw=60.0),
        "flip, scale 20 %": moved(flip_y=1.0, scale=0.2),
        "jitter 20 cm, dropout to 90 %": moved(jitter=0.2, dropout=0.9),
    }
    draw(panels, label_map, Path(__file__).with_suffix(".png"))


def draw(panels: dict[str, PointBatch], label_map: LabelMap, path: Path) -> None:
    """Two rows seen from above, coloured by class."""
    figure = Figure(figsize=(18, 9.4), facecolor=BACKGROUND)
    axes = figure.subplots(2, 4)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.955, bottom=0.005, wspace=0.02, hspace=0.08)
    for axis, (title, batch) in zip(axes.flat, panels.items(), strict=True):
        real = slice(None) if batch.mask is None else batch.mask[0].numpy()
        points, labels = batch.points[0].numpy()[real], batch.labels[0].numpy()[real]
        rare = np.isin(labels, label_map.train_ids_of(label_map.things))
        for chosen, size in ((~rare, 0.3), (rare, 2.5)):
            colors = label_map.colors[labels[chosen]] / 255
            axis.scatter(-points[chosen, 1], points[chosen, 0], s=size, c=colors, linewidths=0)
        axis.set_title(f"{title}   ({len(points):,} points)", color="w", fontsize=11)
        axis.set(xlim=(-30, 30), ylim=(-30, 30), xticks=[], yticks=[], facecolor=BACKGROUND, aspect="equal")
    figure.savefig(path, dpi=62, facecolor=BACKGROUND)


if __name__ == "__main__":
    main()
