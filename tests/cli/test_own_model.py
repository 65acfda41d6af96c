"""A network of somebody's own, in a module of their own: from the words that name it to labels, and nowhere without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import scan_points
from my_networks import Pillars, Plain, Pointwise, Shrunken
from verbs import SMALL_WORLD, run, succeed

from pointseg import Predictor, SegmentationModule, SyntheticDataModule
from pointseg.core.errors import CheckpointError
from pointseg.data.augmentation import Augmentation
from pointseg.data.batches import Batch
from pointseg.data.features import FeatureSpec
from pointseg.data.formats import PointCloud
from pointseg.data.sampling import Sampling
from pointseg.engine import bundle
from pointseg.models import TrainingOutputs, rebuild_model
from pointseg.serving.engine import Engine
from pointseg.serving.model_source import Source
from pointseg.workflows.evaluation.evaluate import evaluate
from pointseg.workflows.settings.evaluate import EvaluateConfig

SMALL = [
    *SMALL_WORLD,
    "data.points=64",
    "data.clouds_per_scan=4",
    "data.batch_size=4",
    "scheduler.warmup_steps=2",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]
PILLARS = ["model._target_=my_networks.Pillars", "model.width=8", "model.edge=4.0"]
SCAN = scan_points(2500, seed=3)


def train(folder: Path, *words: str) -> Path:
    folder.mkdir(exist_ok=True)
    succeed(run("train", *SMALL, *words, "hydra.run.dir=run", cwd=folder))
    return folder / "run"


def scores(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("own"), *PILLARS, "data.num_workers=2", "data.augmentation.dropout=0.5")


def test_the_bundle_says_what_it_is(own_run: Path) -> None:
    described = yaml.safe_load((own_run / "bundle" / "model.yaml").read_text())
    assert described["architecture"] == {
        "name": "my_networks.Pillars",
        "in_features": 156,
        "num_classes": 19,
        "width": 8,
        "edge": 4.0,
    }
    assert {k: described["inference"][k] for k in ("points_per_pass", "votes")} == {"points_per_pass": None, "votes": 1}
    assert yaml.safe_load((own_run / "config.yaml").read_text())["model"] == {
        "_target_": "my_networks.Pillars",
        "width": 8,
        "edge": 4.0,
    }


@pytest.mark.parametrize("what", ["", "bundle", "checkpoints/best.ckpt"])
def test_it_is_loaded_where_it_is_handed_over(own_run: Path, what: str) -> None:
    predictor = Predictor.load(own_run / what, models=[Pillars])
    assert isinstance(predictor.model, Pillars)
    expected = bundle.load(own_run / "bundle", [Pillars])
    points = torch.from_numpy(SCAN)
    features = expected.features(expected.features.measure(points))
    extras = {k: t[None] for k, t in predictor.model.prepare(points[:, :3], features).items()}
    with torch.inference_mode():
        logits = expected.model(features[None], extras=extras)[0]  # of the whole scan at once
    assert np.array_equal(predictor.train_ids(SCAN), logits.argmax(dim=1).numpy() + 1)


@pytest.mark.parametrize("models", [(), [Pointwise]])
def test_it_is_refused_where_it_is_not(own_run: Path, models: Any) -> None:
    with pytest.raises(CheckpointError, match=r"no model 'my_networks\.Pillars'.*models=\[MyNet\]") as caught:
        Predictor.load(own_run / "bundle", models=models)
    assert str(own_run) in str(caught.value.where)


def test_it_is_scored(own_run: Path, tmp_path: Path) -> None:
    words = ["evaluate", f"checkpoint={own_run}", "output=scores"]
    assert "no model 'my_networks.Pillars'" in run(*words, cwd=tmp_path).message  # type: ignore[arg-type]
    succeed(run(*words, "models=[my_networks.Pillars]", cwd=tmp_path))  # type: ignore[arg-type]
    assert scores(tmp_path / "scores") == scores(own_run)
    done = evaluate(EvaluateConfig(checkpoint=str(own_run), models=["my_networks.Pillars"]), folder=tmp_path / "again")
    assert done is not None
    assert scores(tmp_path / "again") == scores(own_run)


def test_it_labels_files(own_run: Path, tmp_path: Path) -> None:
    SCAN.tofile(tmp_path / "a.bin")
    words = [f"checkpoint={own_run}", "input=a.bin", "output=out", "models=[my_networks.Pillars]"]
    succeed(run("predict", *words, cwd=tmp_path))
    expected = Predictor.load(own_run, models=[Pillars])(SCAN)
    assert np.array_equal(np.fromfile(tmp_path / "out/a.label", "<u4"), expected)


def test_it_is_served(own_run: Path) -> None:
    predictor, model = Source(str(own_run / "bundle"), models=["my_networks.Pillars"]).load()
    assert model["name"] == "Pillars"
    engine = Engine(predictor, model, threads=1)
    answers = [engine.submit(PointCloud(SCAN[:count])) for count in (900, 40, 2500)]
    expected = Predictor.load(own_run, models=[Pillars])
    for answer, count in zip(answers, (900, 40, 2500), strict=True):
        assert np.array_equal(answer.result(60).raw_ids, expected(SCAN[:count]))
    assert engine.close(30)


def test_it_goes_on(own_run: Path, tmp_path: Path) -> None:
    shutil.copytree(own_run, tmp_path / "run")
    refused = run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path)
    assert (
        "names my_networks.Pillars, which could run any code" in refused.message
    )  # the folder may be of somebody else
    succeed(run("train", "resume=run", PILLARS[0], "trainer.max_epochs=3", cwd=tmp_path))
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert (tmp_path / "run" / "history.csv").read_text().startswith((own_run / "history.csv").read_text())


def test_another_architecture_does_not_go_on(own_run: Path, tmp_path: Path) -> None:
    words = [PILLARS[0], "model.width=9", PILLARS[2], "trainer.max_epochs=3"]
    done = run("train", f"resume={own_run}", *words, cwd=tmp_path)
    assert "width: 8 in it, 9 here" in done.message


def test_the_same_words_and_loading_processes_give_the_same_model(own_run: Path, tmp_path: Path) -> None:
    again = train(tmp_path, *PILLARS, "data.num_workers=0", "data.augmentation.dropout=0.5")
    one, other = (bundle.load_bundle(r / "bundle", [Pillars]).model for r in (own_run, again))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.widht=9"], "unknown key model.widht"),
        (["model.local_widths=[8]"], "unknown key model.local_widths"),
        (["model._target_=my_networks.Nothing"], "has no Nothing"),
        (["model._target_=my_networks.Shrunken", "features.use=[x,y]"], "heights are needed"),
    ],
)
def test_words_that_it_does_not_take_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    done = run("train", *SMALL, "model._target_=my_networks.Pillars", *words, cwd=tmp_path)
    assert message in done.message


def test_a_penalty_and_subsets_of_its_own(tmp_path: Path) -> None:
    words = ["model._target_=my_networks.Shrunken", "trainer.max_epochs=1"]
    folder, without = (
        train(tmp_path, *words, "loss.penalty=5.0"),
        train(tmp_path / "without", *words, "loss.penalty=0.0"),
    )
    trained = bundle.load(folder, [Shrunken])
    assert (trained.inference["points_per_pass"], trained.inference["votes"]) == (300, 2)
    sizes = [float(bundle.load(f, [Shrunken]).model.layer.weight.detach().norm()) for f in (folder, without)]  # type: ignore[union-attr, arg-type]
    assert sizes[0] < sizes[1]


@pytest.mark.slow
def test_a_plain_module_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Nothing but PYTHONPATH says where the class is."""
    (tmp_path / "modules").mkdir()
    text = (Path(__file__).parents[1] / "support" / "my_networks.py").read_text(encoding="utf-8")
    (tmp_path / "modules" / "nets_of_mine.py").write_text(text, encoding="utf-8")
    root = Path(__file__).parents[2]
    words = [*SMALL, "model._target_=nets_of_mine.Plain", "tracking=off", "hydra.run.dir=run"]
    environment = {"PYTHONPATH": f"{tmp_path / 'modules'}:{root}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pointseg.train", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Model: Plain" in done.stdout + done.stderr
    predictor = Predictor.load(tmp_path / "run", models=[Plain])  # the same class, which has moved
    assert predictor.predict(SCAN).raw_ids.shape == (2500,)
    assert "nets_of_mine" not in sys.modules


# ---- with Lightning alone ----------------------------------------------------------------------------------------------

FEATURES = FeatureSpec(use=("x", "y", "z", "height"))


def streets(**settings: Any) -> SyntheticDataModule:
    given = {"beams": 16, "azimuth_steps": 100, "points": 200, "batch_size": 3, "features": FEATURES, **settings}
    return SyntheticDataModule({"train": 4, "val": 1, "test": 1}, **given)


class SaysWhereFrom(Pillars):
    """Keeps which processes have prepared its clouds, and how large they were."""

    seen: list[tuple[int, int]] = []

    def forward(self, features: torch.Tensor, *rest: Any, **others: Any) -> torch.Tensor:
        extras = others.get("extras") or rest[2]
        SaysWhereFrom.seen += [(int(pid), features.shape[1]) for pid in extras["pid"]]
        return super().forward(features, *rest, **others)


def test_a_trainer_of_one_s_own_gets_whole_scans_of_different_sizes_prepared(tmp_path: Path) -> None:
    data = streets(points=100_000, num_workers=2, augmentation=Augmentation(dropout=0.3))
    module = SegmentationModule(SaysWhereFrom(4, 19), data.label_map, FEATURES)
    SaysWhereFrom.seen.clear()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, data)
    assert module.scores is not None
    assert os.getpid() not in {pid for pid, _ in SaysWhereFrom.seen}
    assert len(SaysWhereFrom.seen) == 3 + 1  # clouds of the one whole batch, the validation scan


def test_padding_and_parts_change_no_gradient() -> None:
    data = streets(
        points=(50, 300), batch_size=4, augmentation=Augmentation(dropout=0.5), sampling=Sampling("block", block=8.0)
    )
    model = Pillars(4, 19, edge=4.0).double()
    data.prepare_with(model.preparation())
    (batch,) = data.train_dataloader()
    assert isinstance(batch, Batch) and batch.mask is not None
    batch = batch._replace(features=batch.features.double(), coords=batch.coords.double())
    gradients = []
    for accumulate in (1, 4):
        module = SegmentationModule(model, data.label_map, FEATURES, accumulate=accumulate).double()
        module.zero_grad()
        module.backward_parts(batch)
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    # each cloud by itself, without its padding
    module = SegmentationModule(model, data.label_map, FEATURES).double()
    module.zero_grad()
    normalisers = module.loss.normalisers(batch)
    for cloud in range(4):
        real = batch.mask[cloud]
        coords, features = batch.coords[cloud][real], batch.features[cloud][real]
        extras = {name: tensor[None] for name, tensor in model.prepare(coords, features).items()}
        alone = Batch(features[None], coords[None], batch.labels[cloud][real][None], None, None, extras)
        logits, penalty = model.logits_and_penalty(alone.features, alone.coords, None, extras)
        module.loss.total(module.loss.shares(TrainingOutputs(logits, penalty), alone, normalisers)).backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.allclose(a, b) for a, b in zip(gradients[0], found, strict=True))


def test_a_class_of_one_s_own_builds_from_its_description() -> None:
    model = Pillars(4, 19, width=3)
    assert (
        rebuild_model({"name": "my_networks.Pillars", **model.hyperparameters}, [Pillars]).hyperparameters["width"] == 3
    )
