"""Paths and names come through as the shell passed them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from verbs import KITTI_SPLIT, SMALL_TRAINING, run, succeed

from pointseg.cli.hydra_options import parse_arguments
from pointseg.cli.override_checks import compose_checked
from pointseg.cli.overrides import parse, quote_all
from pointseg.cli.schema import literal_keys
from pointseg.core.errors import ConfigError

WEIRD = "we ird=(a),b ~é'x"
NASTY = [
    WEIRD,
    "a=b",
    "~/x",
    '"half',
    "it's",
    "c:\\data\\",
    "\\'",
    "${oc.env:HOME}",
    "\\${x}",
    "[1,2]",
    "{a:b}",
    "null ",
    "true",
    "17",
    "mysql://me@host:3306/db?x=1&y=2#z",
    "für/世界 ☃",
    "%20",
    "#",
    "a:b",
]
printable = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("=,()~ '\"\\${}[]:é世"),
    min_size=1,
    max_size=30,
)


def is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


@settings(max_examples=300, deadline=None)
@given(text=printable.filter(lambda text: text != "null" and not is_quoted(text)))
@pytest.mark.parametrize("key", ["checkpoint", "hydra.sweep.dir"])
def test_any_text_arrives_unchanged(key: str, text: str) -> None:
    """Hydra's grammar and then OmegaConf's reading, as when a configuration is composed."""
    if key.startswith("hydra.") and "${" in text:
        return  # ${now:...} is a setting of Hydra's own folders
    (override,) = parse(quote_all("evaluate", [f"{key}={text}"], multirun=False))
    assert override.key_or_group == key
    assert OmegaConf.create({"value": override.value()}).value == text


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_arrive_in_the_real_configuration(text: str) -> None:
    config, _ = compose_checked("train", quote_all("train", [f"resume={text}"], multirun=False), multirun=False)
    assert config.resume == text


@pytest.mark.parametrize(
    ("verb", "key"),
    [("train", "data.labels"), ("train", "rerun"), ("train", "tracking.uri"), ("train", "tracking.run_name"),
     ("evaluate", "checkpoint"), ("evaluate", "output"), ("prepare", "output"), ("prepare", "input"), ("prepare", "labels"),
     ("prepare", "manifest"), ("export", "checkpoint"),
     ("export", "output"), ("predict", "checkpoint"), ("predict", "input"), ("predict", "output"),
     ("report", "run"), ("report", "checkpoint"), ("report", "against"), ("report", "output"),
     ("register_data", "path"), ("register_data", "labels"), ("register_data", "description"),
     ("register_data", "version"), ("pipeline", "version")],
)  # fmt: skip
def test_every_path_key_is_taken_as_it_is(verb: str, key: str) -> None:
    assert key in literal_keys(verb)
    config, _ = compose_checked(verb, quote_all(verb, [f"{key}={WEIRD}"], multirun=False), multirun=False)
    assert OmegaConf.select(config, key) == WEIRD


@pytest.mark.parametrize("quoted", ["'a, b'", '"a, b"'])
def test_quotes_for_hydra_stay_what_they_are(quoted: str) -> None:
    config, _ = compose_checked("train", quote_all("train", [f"resume={quoted}"], multirun=False), multirun=False)
    assert config.resume == "a, b"


def test_commas_separate_values_in_a_sweep() -> None:
    (override,) = parse(quote_all("train", ["data.root=a b,c=d,~e"], multirun=True))
    assert override.is_sweep_override()
    assert [str(value).strip("'") for value in override.sweep_string_iterator()] == ["a b", "c=d", "~e"]


def test_quoted_commas_stay_in_a_sweep() -> None:
    (override,) = parse(quote_all("train", ["data.root='a,b'"], multirun=True))
    assert not override.is_sweep_override()


def test_other_values_keep_hydras_grammar() -> None:
    words = ["optimizer.lr=0.1", "data.split.train=[0,1]", "data.scans={train: 2}", "~tracking.tags"]
    assert quote_all("train", words, multirun=False) == words


def test_flags_and_overrides_are_told_apart() -> None:
    options, overrides = parse_arguments(["-m", "seed=1", "--config-dir", "conf", "~x", "+a=-1"])
    assert (options.flags, options.multirun, options.config_dir) == (("-m", "--config-dir", "conf"), True, "conf")
    assert overrides == ["seed=1", "~x", "+a=-1"]
    with pytest.raises(ConfigError, match="'seed' is not NAME=VALUE"):
        parse_arguments(["seed"])
    with pytest.raises(ConfigError, match="there is no option --fast"):
        parse_arguments(["--fast"])


@pytest.mark.slow
def test_paths_that_need_quotes_work_in_every_verb(tmp_path: Path) -> None:
    home = tmp_path / WEIRD
    home.mkdir()
    small = ["synthetic.scans=2", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
    succeed(run("prepare", f"output={home}/kitti", f"hydra.run.dir={home}/log", *small, cwd=tmp_path))
    assert (home / "kitti" / "sequences" / "08" / "velodyne" / "000000.bin").is_file()

    words = ["data=semantickitti", *SMALL_TRAINING, *KITTI_SPLIT[1:], "data.split.train=[0]", "tracking=off"]
    succeed(run("train", *words, f"data.root={WEIRD}/kitti", f"hydra.run.dir={WEIRD}/run", cwd=tmp_path))
    assert (home / "run" / "metrics.json").is_file()

    succeed(run("train", f"resume={WEIRD}/run", "trainer.max_epochs=3", cwd=tmp_path))
    succeed(run("train", f"rerun={WEIRD}/run", "trainer.max_epochs=1", f"hydra.run.dir={WEIRD}/re", cwd=tmp_path))
    succeed(run("evaluate", f"checkpoint={WEIRD}/run", f"output={WEIRD}/scores", cwd=tmp_path))
    scores = [json.loads((home / name / "metrics.json").read_text()) for name in ("run", "scores")]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("recipe", ["kitti", "kitti_frnet_small"])
@pytest.mark.parametrize("points", ["4096", "[1024,4096]"])
def test_a_cloud_s_points_are_a_number_or_a_range(recipe: str, points: str) -> None:
    words = [f"+experiment={recipe}", "data.root=DIR", f"data.points={points}"]
    config, _ = compose_checked("train", words, multirun=False)
    assert config.data.points == json.loads(points)
