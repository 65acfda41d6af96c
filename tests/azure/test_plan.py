"""Steps are said, done in order, and told exactly when one of them fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from pointseg.azure.errors import AzureError
from pointseg.azure.steps import Step, carry_out
from pointseg.core.errors import ConfigError


def steps_into(made: list[str]) -> list[Step]:
    def make(name: str) -> Callable[[], object]:
        return lambda: made.append(name)

    return [
        Step("workspace", "ml", "keep"),
        Step("compute cluster", "gpu-cluster", "update", ("max_nodes: 2 -> 4",), make("gpu-cluster")),
        Step("environment", "pointseg:1f", "create", (), make("pointseg:1f"), notes=("takes minutes",)),
    ]


def test_steps_are_done_in_order_and_said(caplog: pytest.LogCaptureFixture) -> None:
    made: list[str] = []
    with caplog.at_level(logging.INFO):
        carry_out(steps_into(made), plan=False)
    assert made == ["gpu-cluster", "pointseg:1f"]
    assert caplog.messages[:5] == [
        "keep    workspace        ml",
        "update  compute cluster  gpu-cluster",
        "    max_nodes: 2 -> 4",
        "create  environment      pointseg:1f",
        "    note: takes minutes",
    ]
    assert "1/2 updated: compute cluster gpu-cluster" in caplog.messages
    assert caplog.messages[-1] == "2/2 created: environment pointseg:1f"


def test_a_plan_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made: list[str] = []
    with caplog.at_level(logging.INFO):
        carry_out(steps_into(made), plan=True)
    assert made == []
    assert "max_nodes: 2 -> 4" in caplog.text
    assert "Nothing was changed: plan=true. 2 steps to do." in caplog.messages


@pytest.mark.parametrize("steps", [[], [Step("workspace", "ml", "keep")]])
def test_nothing_to_do_is_said(steps: list[Step], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        carry_out(steps, plan=False)
    assert "Nothing to do" in caplog.messages[-1]


def test_a_failure_says_what_was_made_before_it_and_what_was_not() -> None:
    def fail() -> None:
        raise AzureError("making the cluster: Azure answered 403", remedy="Ask for the role.")

    made: list[str] = []
    steps = [*steps_into(made)[:2], Step("compute cluster", "cpu-cluster", "create", (), fail), steps_into(made)[2]]
    with pytest.raises(AzureError) as caught:
        carry_out(steps, plan=False)
    assert str(caught.value) == (
        "compute cluster cpu-cluster failed: making the cluster: Azure answered 403. "
        "Done before it: compute cluster gpu-cluster (updated); not done: environment pointseg:1f. Ask for the role."
    )
    assert made == ["gpu-cluster"]


def test_a_failure_of_the_first_and_only_step() -> None:
    def fail() -> None:
        raise ConfigError("no such size", where="vm_size")

    with pytest.raises(AzureError, match="Done before it: nothing; not done: nothing else: vm_size"):
        carry_out([Step("compute cluster", "a", "create", (), fail)], plan=False)


def test_who_stops_it_is_told_how_far_it_was(caplog: pytest.LogCaptureFixture) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out([Step("compute cluster", "a", "create", (), stop), *steps_into([])], plan=False)
    assert "Stopped during: compute cluster a" in caplog.text


def test_a_step_that_nothing_does_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="nothing carries out create"):
        Step("workspace", "ml", "create")


# ---- what is taken back


class Made:
    """Things that are there, and steps that make them; `fails` names those that fail, by halves."""

    def __init__(self, *fails: str) -> None:
        self.there: list[str] = []
        self.fails = fails

    def step(self, name: str, settles: bool = False, stays: bool = False) -> Step:
        def make() -> None:
            self.there.append(name)
            if name in self.fails:
                raise AzureError(f"{name} is broken")

        def undo() -> str:
            if f"undo {name}" in self.fails:
                raise AzureError("refused")
            self.there.remove(name)
            return f"{name} is gone"

        return Step("thing", name, "create", do=make, undo=None if stays else undo, settles=settles)


def test_a_failure_takes_back_what_was_made_the_last_first() -> None:
    made = Made("c")
    steps = [made.step("model", stays=True), made.step("a"), made.step("b"), made.step("c"), made.step("d")]
    with pytest.raises(AzureError) as caught:
        carry_out(steps, plan=False)
    assert made.there == ["model"]
    assert "Taken back: c is gone; b is gone; a is gone." in str(caught.value)
    assert "not done: thing d" in str(caught.value)


def test_what_is_settled_stays() -> None:
    made = Made("c")
    with pytest.raises(AzureError):
        carry_out([made.step("a"), made.step("b", settles=True), made.step("c")], plan=False)
    assert made.there == ["a", "b"]


def test_what_cannot_be_taken_back_is_told_and_what_it_relies_on_stays() -> None:
    made = Made("c", "undo b")
    with pytest.raises(AzureError) as caught:
        carry_out([made.step("a"), made.step("b"), made.step("c")], plan=False)
    assert made.there == ["a", "b"]
    assert "c is gone; NOT taken back: thing b, thing a (refused)" in str(caught.value)


def test_ctrl_c_takes_back_too(caplog: pytest.LogCaptureFixture) -> None:
    made = Made()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out([made.step("a"), Step("thing", "b", "create", do=stop)], plan=False)
    assert made.there == []
    assert "Taken back: a is gone" in caplog.text


def test_a_way_back_that_steps_share_is_gone_once() -> None:
    calls: list[str] = []

    def back() -> str:
        calls.append("back")
        return "as before"

    def fail() -> None:
        raise AzureError("no")

    shared = [Step("traffic", "v", "update", do=lambda: None, undo=back) for _ in range(2)]
    with pytest.raises(AzureError, match=r"Taken back: as before\."):
        carry_out([*shared, Step("traffic", "v", "update", do=fail, undo=back)], plan=False)
    assert calls == ["back"]
