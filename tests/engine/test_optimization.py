"""Any of PyTorch's optimizers and schedules: what is built, when it goes on, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from pointseg.core.errors import ConfigError
from pointseg.engine.optimization import (
    Schedule,
    WarmupCosine,
    build_optimizer,
    build_schedule,
    make_optimizer,
    relative_rates,
)


def optimizer_of(**section: Any) -> torch.optim.Optimizer:
    make, decay_all, _ = build_optimizer(section)
    return make_optimizer(nn.Linear(3, 2), make, decay_all=decay_all)


def test_a_section_names_any_optimizer() -> None:
    made = optimizer_of(_target_="torch.optim.SGD", lr=0.1, momentum=0.9, weight_decay=0.3)
    assert isinstance(made, torch.optim.SGD)
    assert [(g["momentum"], g["weight_decay"], len(g["params"])) for g in made.param_groups] == [
        (0.9, 0.3, 1),
        (0.9, 0, 1),
    ]


def test_weight_decay_on_everything_is_one_group() -> None:
    (group,) = optimizer_of(_target_="torch.optim.AdamW", weight_decay=0.3, decay="all").param_groups
    assert (group["weight_decay"], len(group["params"])) == (0.3, 2)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"_target_": "torch.optim.SGD", "momentun": 0.9}, r"Did you mean optimizer\.momentum"),
        ({"_target_": "torch.optim.AdamW", "betas": [2.0, 0.1]}, r"cannot be built \(Invalid beta.*optimizer"),
        ({"_target_": "torch.optim.LBFGS"}, r"LBFGS needs the loss several times a step"),
        ({"_target_": "torch.optim.AdamWW"}, r"optimizer\._target_. Did you mean AdamW"),
        ({"_target_": "torch.optim.SGD", "lr": -0.1}, r"-0\.1 is not positive: optimizer\.lr"),
        ({"_target_": "torch.optim.SGD", "decay": "some"}, r"optimizer\.decay"),
        ({"_target_": "torch.optim.SGD", "rates": 5}, r"5 is no mapping: optimizer\.rates"),
        ({"lr": 0.1}, r"Give optimizer\._target_"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        optimizer_of(**section)


def test_rates_of_parts_are_relative_and_go_along_with_the_schedule() -> None:
    module = nn.ModuleDict({"encoder": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    make, _, given = build_optimizer({"_target_": "torch.optim.SGD", "lr": 0.2, "rates": {"encoder.*": 0.1}})
    rates = relative_rates((name for name, _ in module.named_parameters()), given)
    optimizer = make_optimizer(module, make, rates=rates)
    assert [(group["lr"], len(group["params"])) for group in optimizer.param_groups] == [
        (0.2, 1),
        (0.2, 1),
        (pytest.approx(0.02), 1),
        (pytest.approx(0.02), 1),
    ]
    scheduler = build_schedule({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1, "gamma": 0.5})
    made = scheduler.scheduler(optimizer, lambda: 10)
    optimizer.step()
    made.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"haed.*": 1.0}, r"no parameter of the model has such a name: optimizer\.rates\.haed.*Parts: encoder.*, head"),
        ({"head.*": -1}, r"-1 is not a rate: optimizer\.rates\.head"),
        ({"head.*": "fast"}, r"'fast' is not a rate"),
        ({"head.*": True}, r"True is not a rate"),
        ({"*": 0}, r"all parameters are frozen: optimizer\.rates"),
    ],
)
def test_rates_that_cannot_be_are_refused(rates: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        relative_rates(["encoder.weight", "head.weight"], rates)


def rates(schedule: Schedule, steps: int, planned: int = 100) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule.scheduler(optimizer, lambda: planned)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_section_names_any_schedule() -> None:
    schedule = build_schedule({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "gamma": 0.5})
    assert schedule.interval == "epoch"
    assert rates(schedule, 5) == pytest.approx([1.0, 1.0, 0.5, 0.5, 0.25])


def test_the_steps_of_the_run_reach_a_schedule_that_asks_for_them() -> None:
    section = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 1.0, "pct_start": 0.5, "interval": "step"}
    found = rates(build_schedule(section), 9, planned=9)
    assert max(range(9), key=found.__getitem__) == 4  # in the middle: half up, half down
    assert rates(build_schedule({**section, "total_steps": 5}), 5, planned=9)[2] < 1.0


def test_warmup_is_not_told_the_steps_before_it_ends() -> None:
    def planned() -> int:
        raise AssertionError("it was asked")

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupCosine(optimizer, warmup_steps=3, planned_steps=planned)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    with pytest.raises(AssertionError, match="it was asked"):
        scheduler.step()


def test_a_schedule_of_another_length_goes_on_where_it_was() -> None:
    """Its state holds the place, not the settings: those are the ones of now."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    before = WarmupCosine(optimizer, warmup_steps=2, planned_steps=lambda: 10)
    optimizer.step()
    before.step()
    now = WarmupCosine(optimizer, warmup_steps=9, planned_steps=lambda: 10)
    now.load_state_dict(before.state_dict())
    now.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(3 / 10)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"_target_": "torch.optim.lr_scheduler.StepLR", "step_sise": 2}, r"Did you mean scheduler\.step_size"),
        ({"_target_": "torch.optim.lr_scheduler.StepLR"}, r"cannot be built .*step_size"),
        ({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "interval": "day"}, r"Use step or epoch"),
        ({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, r"Set scheduler\.monitor=val/miou"),
    ],
)
def test_a_schedule_that_cannot_be_used_is_refused(section: dict[str, Any], said: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ConfigError, match=said):
        build_schedule(section).scheduler(optimizer, lambda: 10)


def test_a_schedule_of_ones_own() -> None:
    make = functools.partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1 / (1 + step))
    assert rates(Schedule(make, "step"), 3) == pytest.approx([1, 1 / 2, 1 / 3])
