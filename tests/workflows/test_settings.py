"""The declarations of each task's configuration: declared once, each key with a meaning, and shown to users."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from pointseg.cli.help import groups_of, help_of
from pointseg.cli.hydra_options import config_folder
from pointseg.cli.override_checks import compose_checked
from pointseg.cli.schema import DECLARED_OPTIONS, declared_keys, verbs
from pointseg.core.config import FURTHER, PART, PARTS, SECRET, check_choices, keys_of
from pointseg.core.config_values import to_plain
from pointseg.core.redaction import MASK, redact
from pointseg.data.scan_datamodule import SPLITS
from pointseg.engine.prediction.files import ON_ERROR
from pointseg.engine.prediction.inputs import LABEL_TARGETS
from pointseg.tracking.packaging import MODEL_FORMATS
from pointseg.workflows import settings

TASKS = [
    name
    for _, name, _ in pkgutil.iter_modules(settings.__path__)
    # shared.py holds sections only; a pipeline has the settings of its steps, and its file their words
    if (config_folder() / f"{name}.yaml").is_file() and name != "pipeline"
]
CHOSEN = ("data", "model", "loss", "optimizer", "scheduler")
PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
NOT_DECLARED = ("compute", "hydra")  # where a task runs, and Hydra's own


def declared(task: str) -> Any:
    """The configuration of a task with nothing but defaults."""
    module = import_module(f"pointseg.workflows.settings.{task}")
    words = task.removesuffix("_model").split("_")  # register_model: RegisterConfig
    return getattr(module, "".join(word.capitalize() for word in words) + "Config")()


def composed(task: str) -> dict[str, Any]:
    """The same as Hydra composes it; what these groups bring is a choice of the task's file in configs/."""
    values: Any = OmegaConf.to_container(compose_checked(task, [], multirun=False)[0], resolve=True)
    return {key: {} if key in CHOSEN else value for key, value in values.items() if key not in NOT_DECLARED}


def test_there_are_tasks() -> None:
    assert {"evaluate", "predict"} <= set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_hydra_composes_the_declared_defaults(task: str) -> None:
    assert to_plain(declared(task)) == composed(task)


@pytest.mark.parametrize("task", TASKS)
def test_hydra_keeps_the_declared_order(task: str) -> None:
    own = [key for key in composed(task) if key not in ("data", "tracking")]
    assert [field.name for field in fields(declared(task)) if field.name not in ("data", "tracking")] == own


def _leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def declared_twice(file: Path, folder: Path) -> list[str]:
    """Keys of a file in configs/ that a dataclass declares with the same default."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    content = {name: value for name, value in content.items() if name not in ("defaults", "hydra")}
    group = file.relative_to(folder).parent.as_posix()
    is_global = file.read_text(encoding="utf-8").startswith("# @package _global_")
    values = dict(_leaves(content, "" if group == "." or is_global else f"{group}."))
    tasks = [file.stem] if group == "." else verbs()
    known = {key.path: key.default for task in tasks for key in declared_keys(task) if not key.is_section}
    return [path for path, value in values.items() if path in known and known[path] == value]


@pytest.mark.parametrize("file", sorted(config_folder().rglob("*.yaml")), ids=lambda file: file.stem)
def test_no_key_is_declared_in_a_file_as_well(file: Path) -> None:
    assert declared_twice(file, config_folder()) == []


def test_a_key_that_is_declared_twice_is_seen(tmp_path: Path) -> None:
    (tmp_path / "compute").mkdir()
    files = {
        "evaluate.yaml": "split: val\nviews: {count: 1, flip: false}\nown: 1\n",
        "compute/aml.yaml": "# @package _global_\nazure: {auth: default}\ncompute: {name: x}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert [declared_twice(tmp_path / name, tmp_path) for name in files] == [["split", "views.count"], ["azure.auth"]]


@pytest.mark.parametrize("task", verbs())
def test_every_key_is_shown_in_help_and_in_the_documentation(task: str) -> None:
    examples = f"python -m pointseg.{task} ..."
    shown = help_of(task, examples, [])
    assert shown.startswith(examples)
    keys = [key for key in declared_keys(task) if key.nature not in (PART, PARTS)]
    assert len(keys) > 5
    for key in keys:
        name = f"{key.path}.*" if key.is_section or key.entry else key.path
        name = f"{key.path.rpartition('.')[0]}.OPTION" if key.nature == FURTHER else name
        is_group = key.path in DECLARED_OPTIONS
        assert re.search(rf"^  {re.escape(key.path if is_group else name)}(?:=|\s|$)", shown, re.MULTILINE), name
        assert f"| `{name}` |" in PAGE or is_group, name
    for group in groups_of(task):
        assert f"  {group.name}={group.default} " in shown


@pytest.mark.parametrize("task", verbs())
def test_a_secret_is_masked_wherever_it_is_written(task: str) -> None:
    for key in declared_keys(task):
        if key.nature == SECRET:
            assert redact({key.path: "hush"}) == {key.path: MASK}


@pytest.mark.parametrize("task", TASKS)
def test_every_key_has_a_meaning_and_takes_its_default(task: str) -> None:
    assert [key.path for key in keys_of(declared(task)) if not key.what] == []
    check_choices(declared(task))


@pytest.mark.parametrize(
    ("task", "key", "known"),
    [
        ("predict", "write", LABEL_TARGETS),
        ("predict", "on_error", ON_ERROR),
        ("register_model", "format", MODEL_FORMATS),
        ("evaluate", "split", SPLITS),
    ],
)
def test_choices_are_what_the_library_takes(task: str, key: str, known: tuple[str, ...]) -> None:
    (choices,) = (one.choices for one in keys_of(declared(task)) if one.path == key)
    assert choices == known
