"""Another data set is one label map away: SemanticPOSS's ids, remission 0..255, 32 beams."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from verbs import run, succeed

from pointseg.core.labels import LabelMap
from pointseg.data.datamodules import SemanticKITTIDataModule
from pointseg.data.store import PackedScans, PackedStore
from pointseg.data.synthetic import write_sequences

# SemanticPOSS's raw id of SemanticKITTI's, where it has the thing
POSS = {
    30: 4,
    254: 5,
    31: 6,
    32: 6,
    253: 6,
    255: 6,
    10: 7,
    252: 7,
    71: 8,
    70: 9,
    81: 10,
    80: 13,
    50: 15,
    51: 17,
    11: 21,
}
POSS |= {15: 21, 40: 22, 44: 22, 48: 22, 49: 22, 60: 22, 72: 22}


@pytest.fixture(scope="module")
def poss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streets of a 32-beam sensor with SemanticPOSS's ids and its scale of remission."""
    root = tmp_path_factory.mktemp("poss") / "raw"
    write_sequences(root, scans=6, seed=1, beams=32, azimuth_steps=300)
    table = np.zeros(1 << 16, np.uint32)
    table[list(POSS)] = list(POSS.values())
    for path in root.rglob("*.label"):
        labels = np.fromfile(path, np.uint32)
        (table[labels & 0xFFFF] | labels & np.uint32(0xFFFF0000)).tofile(path)
    for path in root.rglob("*.bin"):
        points = np.fromfile(path, np.float32).reshape(-1, 4)
        points[:, 3] = np.rint(points[:, 3] * 255)
        points.tofile(path)
    return root


def test_wrong_scale_is_found(poss: Path, tmp_path: Path) -> None:
    done = run("prepare", f"input={poss}", "output=store", "labels=semanticposs", cwd=tmp_path)
    assert done.code == 2
    assert "remission_scale=255" in done.out + done.err
    assert not (tmp_path / "store" / "store.json").exists()


def test_wrong_label_map_is_found(poss: Path, tmp_path: Path) -> None:
    done = run("prepare", f"input={poss}", "output=store", "remission_scale=255", cwd=tmp_path)
    assert done.code == 2
    assert "not in label map 'semantickitti'" in done.out + done.err


def test_it_is_packed_trained_and_scored(poss: Path, tmp_path: Path) -> None:
    packing = [f"input={poss}", "output=store", "labels=semanticposs", "remission_scale=255", "report=false"]
    succeed(run("prepare", *packing, cwd=tmp_path))
    store = PackedStore(tmp_path / "store")
    assert store.header.record == "wide"  # 256 levels of remission
    raw = SemanticKITTIDataModule(poss, labels="semanticposs", remission_scale=255, split={"train": ["00"]})
    packed = PackedScans(store, ["00"])[0]
    assert sorted(packed.points[:, 3].tolist()) == sorted(raw.source("train")[0].points[:, 3].tolist())
    words = ["+experiment=kitti", "data.root=store", "data.labels=semanticposs", "hydra.run.dir=run", "tracking=off"]
    words += ["data.split.train=[00,01,02]", "data.split.val=[08]", "trainer.max_epochs=1", "data.clouds_per_scan=4"]
    succeed(run("train", *words, cwd=tmp_path))
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(scores["iou"]) == list(LabelMap.load("semanticposs").class_names)
