"""The families of networks beside PointNet through the verbs: trained, scored, predicted with, begun with, exported."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import yaml
from conftest import scan_points
from safetensors.torch import load_file
from service import OCTETS, serving
from verbs import SMALL_WORLD, run, succeed

from pointseg import Predictor

COMMON = [
    *SMALL_WORLD,
    "features.knots=[]",
    "data.points=400",
    "data.clouds_per_scan=2",
    "data.batch_size=2",
    "scheduler.warmup_steps=2",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]
FAMILIES = {
    "WaffleIron": (
        [
            "model=waffleiron_small",
            "model.channels=8",
            "model.layers=3",
            "loss=cross_entropy_lovasz",
            "data.sampling.voxel=0.1",
        ],
        {"channels": 8, "voxel": 0.15, "grid": [250, 250, 12]},
    ),
    "FRNet": (
        [
            "model=frnet_small",
            "model.channels=8",
            "model.width=64",
            "loss=frnet",
            "data.trained.count=100",
            "data.lasermix.probability=0.5",
        ],
        {"channels": 8, "width": 64, "beams": None, "auxiliary": [0]},
    ),
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def run_folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(family)
    succeed(run("train", *COMMON, *FAMILIES[family][0], "tracking=off", "hydra.run.dir=run", cwd=folder))
    return folder / "run"


def test_its_bundle_rebuilds_it(run_folder: Path, family: str) -> None:
    described = yaml.safe_load((run_folder / "bundle" / "model.yaml").read_text())
    expected = {"name": family, **FAMILIES[family][1]}
    assert {key: described["architecture"][key] for key in expected} == expected
    assert described["inference"]["points_per_pass"] is None


def test_the_verbs_label_every_point_as_the_predictor_does(run_folder: Path, tmp_path: Path) -> None:
    scan = scan_points(3000, seed=4)
    scan[:50, :3] *= 4  # outside the field of view
    scan.tofile(tmp_path / "a.bin")
    succeed(run("predict", f"checkpoint={run_folder}", "input=a.bin", "output=out", cwd=tmp_path))
    labels = np.fromfile(tmp_path / "out/a.label", "<u4")
    assert np.array_equal(labels, Predictor.load(run_folder)(scan))
    assert len(labels) == 3000
    assert np.array_equal(
        Predictor.load(run_folder / "bundle")(scan[100:101]), Predictor.load(run_folder)(scan[100:101])
    )


@pytest.mark.slow
def test_the_service_answers_as_predict_does(run_folder: Path, tmp_path: Path) -> None:
    scans = [scan_points(count, seed=count) for count in (1, 700, 3000)]
    predictor = Predictor.load(run_folder)
    headers = {"Content-Type": OCTETS, "Accept": OCTETS}
    with serving(tmp_path, [f"checkpoint={run_folder}"]) as service, ThreadPoolExecutor(3) as pool:
        answers = pool.map(
            lambda scan: httpx.post(f"{service.url}/score", content=scan.tobytes(), headers=headers, timeout=60), scans
        )
        for scan, answer in zip(scans, answers, strict=True):
            assert answer.status_code == 200, answer.text
            assert np.array_equal(np.frombuffer(answer.content, "<u4"), predictor(scan))


def test_it_scores_as_at_the_end_of_training(run_folder: Path, tmp_path: Path) -> None:
    succeed(run("evaluate", f"checkpoint={run_folder}", "output=scores", cwd=tmp_path))
    again, before = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "scores", run_folder))
    assert again == before


@pytest.mark.parametrize("form", ["onnx", "onnx-int8"])
def test_its_export_scores_as_it_does(run_folder: Path, form: str, tmp_path: Path) -> None:
    loose = ["min_agreement=0.5", "max_miou_loss=0.5"]  # a few steps of training leave most points undecided
    succeed(run("export", f"checkpoint={run_folder}", f"format={form}", "output=out", *loose, cwd=tmp_path))
    comparison = json.loads((tmp_path / "out" / "export.json").read_text())["comparison"]
    assert comparison["agreement"] > (0.999 if form == "onnx" else 0.5)
    succeed(run("evaluate", "checkpoint=out", *SMALL_WORLD, "output=scores", cwd=tmp_path))
    again, before = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "scores", run_folder))
    assert again["points"] == before["points"]
    if form == "onnx":
        assert again["miou"] == pytest.approx(before["miou"], abs=0.002)


# ---- weights to begin with -----------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "bundle" / "weights.safetensors")


def test_a_training_begins_with_the_weights_of_another(run_folder: Path, family: str, tmp_path: Path) -> None:
    still = [
        "optimizer.lr=1e-12",
        "optimizer.weight_decay=0",
        "trainer.max_epochs=1",
        "trainer.ema_decay=null",
        "seed=5",
    ]
    words = [*COMMON, *FAMILIES[family][0], *still, f"init={run_folder}", "tracking=off", "hydra.run.dir=run"]
    succeed(run("train", *words, cwd=tmp_path))
    before, after = weights(run_folder), weights(tmp_path / "run")
    learned = [name for name in before if "running" not in name and "batches" not in name]
    assert len(learned) > 20
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in learned)


def test_what_is_frozen_stays_as_it_was(run_folder: Path, family: str, tmp_path: Path) -> None:
    rates = "optimizer.rates={*: 0, head*: 1}"
    words = [*COMMON, *FAMILIES[family][0], rates, "trainer.ema_decay=null", f"init={run_folder}"]
    succeed(run("train", *words, "tracking=off", "hydra.run.dir=run", cwd=tmp_path))
    before, after = weights(run_folder), weights(tmp_path / "run")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert sorted(name for name in changed if not name.startswith("head")) == []


def test_weights_of_another_form_are_refused_before_the_data_are_read(
    run_folder: Path, family: str, tmp_path: Path
) -> None:
    words = [*COMMON, *FAMILIES[family][0], "model.channels=12", f"init={run_folder}", "tracking=off"]
    done = run("train", *words, cwd=tmp_path)
    assert done.code == 1
    assert f"a model of another form: channels is 8 there: init={run_folder}" in done.message
    assert "Data:" not in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["format=frnet"], "format=frnet is that of no file: format. Give init=FILE."),
        (["init=none.pth", "format=frnet"], "there is no such file: none.pth"),
        (["init=none.pth", "format=frne"], "format"),
        (["init=nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_begun_with_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    done = run("train", *COMMON, *FAMILIES["FRNet"][0], *words, "tracking=off", cwd=tmp_path)
    assert done.code == 1
    assert said in done.message
    assert "Data:" not in done.out
