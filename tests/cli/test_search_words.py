"""The search space of a sweep from Hydra's own grammar: what it is, and what is refused before anything runs."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from verbs import run

from pointseg.azure.sweep_file import check_for_azure, names_of, searched_words, sweep_job
from pointseg.cli.overrides import parse
from pointseg.cli.searches import read_space
from pointseg.core.errors import ConfigError
from pointseg.jobs.search_space import Choice, Dimension, Real, SearchSpace, SweepSettings, Whole

LR = "optimizer.lr=tag(log, interval(1e-4,1e-2))"


def space(*words: str) -> SearchSpace:
    return read_space(parse(words))


@pytest.mark.parametrize(
    ("word", "dimension"),
    [
        ("x=interval(1,8)", Real("x", 1.0, 8.0)),
        ("x=tag(log, interval(1e-4,1e-2))", Real("x", 1e-4, 1e-2, log=True)),
        ("x=int(interval(1,8))", Whole("x", 1, 8)),
        ("x=tag(log, int(interval(1,1000)))", Whole("x", 1, 1000, log=True)),
        ("x=range(1,9,2)", Whole("x", 1, 7, step=2)),
        ("x=range(9,1,-2)", Whole("x", 3, 9, step=2)),
        ("x=range(0,1,0.25)", Choice("x", ("0.0", "0.25", "0.5", "0.75"))),
        ("x=choice(a,b)", Choice("x", ("a", "b"))),
        ("x=1,2,2", Choice("x", ("1", "2"))),
        ("x=[8,16],[16,32]", Choice("x", ("[8,16]", "[16,32]"))),
        ("model=pointnet,other", Choice("model", ("pointnet", "other"))),
        ("+x=true,null", Choice("x", ("True", "null"))),
    ],
)
def test_words_are_dimensions(word: str, dimension: Dimension) -> None:
    assert space("seed=3", word).dimensions == (dimension,)


def test_a_trial_is_the_words_with_its_values() -> None:
    searched = space("+experiment=quick", LR, "++x=1,2", "seed=3")
    words = searched.with_values({"optimizer.lr": 0.00123456789, "x": "2"})
    assert words == ["+experiment=quick", "optimizer.lr=0.00123457", "++x=2", "seed=3"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=1"], "nothing to search"),
        (["x=glob(*)"], "glob()"),
        (["x=shuffle(1,2)"], "an order of its own"),
        (["x=shuffle(range(1,4))"], "an order of its own"),
        (["x=interval(2,2)"], "the interval is empty"),
        (["x=interval(3,1)"], "the interval is empty"),
        (["x=interval(0,inf)"], "two finite numbers"),
        (["x=range(3,3)"], "the range is empty"),
        (["x=tag(log, interval(0,1))"], "no logarithm of 0"),
        (["x=tag(log, interval(-1,1))"], "no logarithm of -1"),
        (["x=tag(log, choice(1,2))"], "the tag log belongs to an interval"),
        (["x=tag(lgo, interval(1,2))"], "no tag 'lgo'"),
        (["data.root=a,b"], "a path is not searched"),
        (["compute.nodes=1,2"], "how a run is made"),
        (["compute=local,aml_cpu"], "how a run is made"),
        (["tracking.uri=a,b"], "a path is not searched"),
        (["hydra.verbose=true,false"], "how a run is made"),
    ],
)
def test_what_cannot_be_searched(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        space(*words)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("place", "values", "says"),
    [
        ("local", {"trials": 0}, "compute.sweep.trials"),
        ("local", {"trials": 2.5}, "compute.sweep.trials"),
        ("local", {"sampling": "bayesian"}, "known to compute=aml_* only"),
        ("local", {"sampling": "magic"}, "there is no sampling 'magic'"),
        ("local", {"early_termination": "bandit"}, "known to compute=aml_* only"),
        ("local", {"early_termination": "soon"}, "Use median, halving or null"),
        ("local", {"seed": -1}, "compute.sweep.seed"),
        ("azure", {"sampling": "tpe"}, "known to compute=local and local_ddp only"),
        ("azure", {"early_termination": "halving"}, "known to compute=local and local_ddp only"),
        ("azure", {"sampling": "bayesian", "early_termination": "median"}, "no trial of bayesian sampling early"),
        ("azure", {"parallel": 0}, "compute.sweep.parallel"),
        ("azure", {"slack": 0}, "compute.sweep.slack"),
        ("azure", {"share": 100}, "compute.sweep.share"),
        ("azure", {"trial_seconds": 0}, "compute.sweep.trial_seconds"),
    ],
)
def test_settings_that_mean_nothing(place: str, values: dict[str, Any], says: str) -> None:
    sampling = "tpe" if place == "local" else "random"
    with pytest.raises(ConfigError) as refused:
        SweepSettings(place, **{"trials": 4, "sampling": sampling, **values})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("sampling", "words", "says"),
    [
        ("grid", [LR], "a grid has no intervals"),
        ("bayesian", [LR], "knows no logarithm"),
        ("random", ["x=1,2", "y=range(3)"], "8 trials of only 6 combinations"),
    ],
)
def test_samplings_that_cannot_search_a_space(sampling: str, words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SweepSettings("azure", 8, sampling).check(space(*words))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("words", "values", "says"),
    [
        (["x=choice('a$b',c)"], {}, "signs that the shell"),
        (["x=1,2"], {"trials": 1001}, "1000 at most"),
        (["x=1,2"], {"trial_seconds": 7200}, "longer than all together"),
    ],
)
def test_what_azure_cannot_do(words: list[str], values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_for_azure(space(*words), SweepSettings("azure", **{"trials": 2, "sampling": "random", **values}), 3600)
    assert says in str(refused.value)


def test_names_in_azure_are_identifiers_and_differ() -> None:
    searched = space("a.b=1,2", "a_b=1,2", "+c=int(interval(1,4))")
    assert names_of(searched) == {"a.b": "a_b", "a_b": "a_b_", "c": "c"}
    assert searched_words(searched) == {
        "a.b": "a.b=${{search_space.a_b}}",
        "a_b": "a_b=${{search_space.a_b_}}",
        "c": "+c=int(${{search_space.c}})",
    }


def test_what_is_of_the_trial_and_what_of_the_sweep() -> None:
    command = {
        "type": "command",
        "command": "python",
        "code": "code",
        "environment": "azureml:e:1",
        "limits": {"timeout": 60},
    }
    command |= {"resources": {"instance_count": 2}, "tags": {"a": "b"}, "outputs": {}, "compute": "azureml:c"}
    job = sweep_job(command, space(LR), SweepSettings("azure", 3, "random", parallel=8, trial_seconds=30))
    assert set(job["trial"]) == {"command", "code", "environment", "resources"}
    assert job["limits"] == {"max_total_trials": 3, "max_concurrent_trials": 3, "trial_timeout": 30, "timeout": 60}
    ends = job["search_space"]["optimizer_lr"]
    assert [math.exp(ends[key]) for key in ("min_value", "max_value")] == pytest.approx([1e-4, 1e-2])
    assert not {"command", "code", "resources"} & set(job)


REFUSED = [
    (["-m", LR], "compute.sweep.trials=N"),
    (["-m", "compute.sweep.trials=3"], "nothing to search"),
    (["-m", "model=glob(*)", "compute.sweep.trials=3"], "choice(a,b)"),
    (["-m", "seed=range(1,4,0)", "compute.sweep.trials=3"], "steps of 0"),
]
REFUSED_TOO = [
    ([LR, "compute.sweep.trials=3"], "Add -m"),
    (["compute.sweep.trials=3"], "Add -m"),
    (["-m", "optimizer.lr=interval(a,b)", "compute.sweep.trials=3"], "not of the kind"),
    (["-m", "data.points=interval(64,128)", "compute.sweep.trials=3"], "int(interval(a,b))"),
    (["-m", "optimzer.lr=interval(1,2)", "compute.sweep.trials=3"], "Did you mean optimizer.lr?"),
    (["-m", "seed=1,2", "compute.sweep.sampling=random"], "compute.sweep.trials=N"),
    (["-m", LR, "compute.sweep.trials=3", "compute.sweep.register=a/b"], "cannot be the name of a model"),
    (["-m", LR, "compute.sweep.trials=3", "compute.sweep.register=net", "tracking=off"], "tracking is off"),
    (["compute.sweep.register=net"], "register_model.py"),
    (["-m", LR, "compute=aml_cpu", "compute.sweep.trials=3", "compute.sweep.register=net"], "compute.wait=true"),
    (["-m", LR, "compute=aml_cpu", "compute.sweep.trials=3", "compute.run=night"], "folders of their own"),
    (["-m", "seed=1,2", "compute=aml_cpu", "compute.sweep.register=net"], "compute.wait=true"),
]


@pytest.mark.parametrize(
    ("words", "says"), [*REFUSED, *(pytest.param(*case, marks=pytest.mark.slow) for case in REFUSED_TOO)]
)
def test_what_the_verb_refuses(words: list[str], says: str, tmp_path: Path) -> None:
    assert says in run("train", *words, cwd=tmp_path).message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_other_verbs_do_not_search(tmp_path: Path) -> None:
    words = ("-m", "checkpoint=x", "seed=1,2", "compute.sweep.trials=2")
    assert "Search with train" in run("evaluate", *words, cwd=tmp_path).message


@pytest.mark.slow
@pytest.mark.azure
def test_the_sweep_job_may_be_moved_and_is_what_the_sdk_loads(tmp_path: Path) -> None:
    load_job = pytest.importorskip("azure.ai.ml").load_job
    words = (
        "-m",
        LR,
        "seed=1,2",
        "compute=aml_spot",
        "compute.sweep.trials=4",
        "hydra.sweep.dir=sweep",
        "compute.dry_run=true",
    )
    done = run("train", *words, "compute.sweep.early_termination=truncation", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "az ml job create -f" in done.out
    shutil.move(tmp_path / "sweep/job", tmp_path / "moved")
    content = yaml.safe_load((tmp_path / "moved/job.yaml").read_text())
    assert content["queue_settings"] == {"job_tier": "spot"}
    job = load_job(tmp_path / "moved/job.yaml")
    assert type(job).__name__ == "SweepJob"
    assert job.objective.primary_metric == "val/miou"
    assert job.limits.max_total_trials == 4
    assert job.early_termination.truncation_percentage == 20
    assert set(job.search_space) == {"optimizer_lr", "seed"}
    assert job.trial.resources["instance_type"] == "Standard_NC24ads_A100_v4"
