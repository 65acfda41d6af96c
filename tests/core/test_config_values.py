"""Configurations as plain values, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pointseg.core.config import FURTHER, MAPPING, key, section
from pointseg.core.config_values import from_plain, to_plain
from pointseg.core.errors import ConfigError


@dataclass
class Inner:
    steps: int | None = key(3, "so many")
    share: int | float | None = key(None, "a number or a share")
    others: dict[str, Any] = key({}, "of another library", FURTHER)


@dataclass
class Outer:
    rate: float = key(0.5, "how fast")
    name: str | None = key(None, "of it")
    on: bool = key(False, "whether")
    names: list[str] = key(["a"], "some")
    tags: dict[str, str] = key({}, "own", MAPPING)
    inner: Inner = section(Inner, "within")


def test_plain_values_make_the_configuration_they_came_from() -> None:
    config = Outer(rate=2.0, tags={"a": "b"}, inner=Inner(steps=None, others={"profiler": "simple"}))
    plain = to_plain(config)
    assert plain["inner"] == {"steps": None, "share": None, "profiler": "simple"}
    assert from_plain(Outer, plain) == config


def test_what_is_not_said_keeps_its_default() -> None:
    assert from_plain(Outer, {"inner": {"steps": 4}}) == Outer(inner=Inner(steps=4))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"rate": 1}, ("rate", 1.0)),
        ({"rate": "1e-3"}, ("rate", 0.001)),  # as YAML 1.1 reads it
        ({"name": 7}, ("name", "7")),
        ({"name": Path("a")}, ("name", "a")),
        ({"names": ("x", "y")}, ("names", ["x", "y"])),
        ({"inner": {"share": 0.5}}, ("inner", Inner(share=0.5))),
        ({"inner": {"share": 2}}, ("inner", Inner(share=2))),
    ],
)
def test_values_become_what_is_declared(values: dict[str, Any], found: tuple[str, Any]) -> None:
    made = getattr(from_plain(Outer, values), found[0])
    assert (made, type(made)) == (found[1], type(found[1]))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rates": 1}, "unknown key rates: rates. Did you mean rate?"),
        ({"rate": "fast"}, "'fast' is not a number: rate"),
        ({"rate": True}, "True is not a number: rate"),
        ({"rate": None}, "null is not a number: rate"),
        ({"on": 1}, "1 is not true or false: on"),
        ({"names": "x"}, "'x' is not a list: names"),
        ({"inner": 3}, "3 is not"),
        ({"inner": {"steps": 1.5}}, "1.5 is not a whole number or null: inner.steps"),
    ],
)
def test_other_values_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_plain(Outer, values)
    assert said in str(refused.value)


def test_an_object_cannot_be_written_down() -> None:
    with pytest.raises(ConfigError, match=r"object is no plain value: inner\.profiler"):
        to_plain(Outer(inner=Inner(others={"profiler": object()})))
