"""A further column of the sensor by the words of the verbs: trained, scored, packed, predicted, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import KittiTree, write_tree
from verbs import SMALL_TRAINING, run, succeed

from pointseg import Predictor

COLUMNS = "[x,y,z,remission,ring]"
RING = ["features.use=[x,y,z,remission,ring]", "features.offset.ring=31.5", "features.scale.ring=16"]
SPLIT = ["data=semantickitti", "data.split.train=['00']", "data.split.val=['08']"]
TRAIN = ["train", *SPLIT, *SMALL_TRAINING, *RING, "trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> KittiTree:
    """Scans of a sensor that writes five columns."""
    tree = write_tree(tmp_path_factory.mktemp("five") / "kitti")
    for name, points in tree.points.items():
        np.column_stack([points, np.arange(len(points)) % 64]).astype("<f4").tofile(tree.bin(name))
    return tree


@pytest.fixture(scope="module")
def ring_run(five: KittiTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    words = [f"data.root={five.root}", f"data.columns={COLUMNS}", "hydra.run.dir=run"]
    succeed(run(*TRAIN, *words, cwd=folder))  # type: ignore[arg-type]
    return folder / "run"


def scores(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return content


def test_the_model_keeps_the_column(ring_run: Path) -> None:
    predictor = Predictor.load(ring_run)
    assert predictor.extra == ("ring",)
    assert predictor.trained.features.to_dict()["scale"]["ring"] == 16


def test_the_run_is_scored_on_its_own_data(ring_run: Path, tmp_path: Path) -> None:
    succeed(run("evaluate", f"checkpoint={ring_run}", "output=scores", cwd=tmp_path))
    assert scores(tmp_path / "scores") == scores(ring_run)


def test_files_need_their_columns_named(ring_run: Path, five: KittiTree, tmp_path: Path) -> None:
    words = ["predict", f"checkpoint={ring_run}", f"input={five.bin('08/000000')}", "output=out"]
    done = run(*words, cwd=tmp_path)  # type: ignore[arg-type]
    assert "columns=[x,y,z,remission,ring]" in done.message
    succeed(run(*words, f"columns={COLUMNS}", cwd=tmp_path))  # type: ignore[arg-type]
    points = np.fromfile(five.bin("08/000000"), "<f4").reshape(-1, 5)
    assert np.array_equal(np.fromfile(tmp_path / "out/000000.label", "<u4"), Predictor.load(ring_run)(points))


def test_a_store_serves_as_well(five: KittiTree, tmp_path: Path) -> None:
    words = ["output=store", f"columns={COLUMNS}", "check.allow_gaps=true", "report=false"]
    done = run("prepare", f"input={five.root}", *words, cwd=tmp_path)
    assert (tmp_path / "store" / "store.json").is_file(), done.out + done.err
    succeed(run(*TRAIN, "data.root=store", "hydra.run.dir=run", cwd=tmp_path))  # type: ignore[arg-type]
    assert Predictor.load(tmp_path / "run").extra == ("ring",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.columns=[x,y,z,remission,time]"], "no column ring among x, y, z, remission, time"),
        (["features.use=[x,y,z,rnig]", f"data.columns={COLUMNS}"], "no feature 'rnig'"),
        (["features.scale.rnig=1", f"data.columns={COLUMNS}"], "unknown key features.scale.rnig"),
    ],
)
def test_words_that_do_not_fit_are_refused(five: KittiTree, tmp_path: Path, words: list[str], message: str) -> None:
    done = run(*TRAIN, f"data.root={five.root}", *words, cwd=tmp_path)  # type: ignore[arg-type]
    assert message in done.message
