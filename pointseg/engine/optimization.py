"""Optimizers and learning rate schedules: any of PyTorch's, from a configuration or from Python."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from pointseg.core.errors import ConfigError
from pointseg.core.targets import PARTIAL, arguments_of, build

__all__ = [
    "OptimizerMaker",
    "Schedule",
    "WarmupCosine",
    "adamw",
    "build_optimizer",
    "build_schedule",
    "freeze",
    "make_optimizer",
    "relative_rates",
    "warmup_cosine",
]

OptimizerMaker = Callable[[Iterable[dict[str, Any]]], Optimizer]
Interval = Literal["step", "epoch"]
Made = TypeVar("Made")


class WarmupCosine(LambdaLR):
    """The learning rate rises linearly from 0, then falls along half a cosine (Loshchilov and Hutter, ICLR 2017).

    Args:
        optimizer: its learning rates are the peaks.
        warmup_steps: length of the rise.
        final_lr_ratio: the last learning rate relative to the peak.
        planned_steps: gives the total number of steps. It is called after the rise: asking Lightning earlier would set up
            the training data before a resumed run knows its place in them.

    Example:
        >>> WarmupCosine(optimizer, warmup_steps=40, planned_steps=lambda: 1000)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 100,
        final_lr_ratio: float = 0.01,
        *,
        planned_steps: Callable[[], int],
    ) -> None:
        # a closure instead of attributes, which resuming would restore in place of the configured values
        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            progress = 0.0
            if step > warmup_steps:
                progress = min(1.0, (step - warmup_steps) / max(1, planned_steps() - warmup_steps))
            return final_lr_ratio + (1 - final_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)


@dataclass(frozen=True)
class Schedule:
    """A learning rate schedule, and when it advances.

    Args:
        make: makes the scheduler of an optimizer; gets the steps of the run as `total_steps` or `planned_steps` if it
            accepts one of them.
        interval: after each "step" of the optimizer, or each "epoch".
        monitor: the metric that `ReduceLROnPlateau` follows, such as "val/miou".

    Example:
        >>> Schedule(functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2), interval="epoch")
    """

    make: Callable[..., LRScheduler]
    interval: Interval = "epoch"
    monitor: str | None = None

    def __post_init__(self) -> None:
        if self.interval not in ("step", "epoch"):
            what = f"there is no interval {self.interval!r}"
            raise ConfigError(what, where="scheduler.interval", remedy="Use step or epoch.")

    def scheduler(self, optimizer: Optimizer, planned_steps: Callable[[], int]) -> LRScheduler:
        """The scheduler of one optimizer.

        Raises:
            ConfigError: if it cannot be made, or lacks the metric to follow.
        """
        accepted, given = arguments_of(self.make) or set(), getattr(self.make, "keywords", {})
        steps: dict[str, Any] = {"planned_steps": planned_steps} if "planned_steps" in accepted else {}
        if "total_steps" in accepted and given.get("total_steps") is None and "epochs" not in given:
            steps = {"total_steps": planned_steps()}
        scheduler = _call(functools.partial(self.make, **steps), optimizer, LRScheduler, "scheduler")
        if isinstance(scheduler, ReduceLROnPlateau) and (self.monitor is None or self.interval != "epoch"):
            raise ConfigError(
                "ReduceLROnPlateau follows a metric from epoch to epoch",
                where="scheduler.monitor" if self.monitor is None else "scheduler.interval",
                remedy="Set scheduler.monitor=val/miou scheduler.mode=max scheduler.interval=epoch.",
            )
        return scheduler


def adamw(lr: float = 1e-3, weight_decay: float = 0.01) -> OptimizerMaker:
    """Makes AdamW (Loshchilov and Hutter, ICLR 2019)."""
    return functools.partial(AdamW, lr=lr, weight_decay=weight_decay)


def warmup_cosine(warmup_steps: int = 100, final_lr_ratio: float = 0.01) -> Schedule:
    """`WarmupCosine`, advanced after each step."""
    make = functools.partial(WarmupCosine, warmup_steps=warmup_steps, final_lr_ratio=final_lr_ratio)
    return Schedule(make, "step")


def relative_rates(names: Iterable[str], rates: Mapping[str, float]) -> dict[str, float]:
    """The learning rate of each parameter relative to the optimizer's: that of the last pattern it matches, else 1.

    Args:
        names: of the parameters, and of buffers such as BatchNorm's statistics.
        rates: by patterns such as "head.*"; 0: frozen.

    Raises:
        ConfigError: for a negative rate, a pattern without a parameter, or if all are frozen.

    Example:
        >>> relative_rates(["encoder.weight", "head.weight"], {"encoder.*": 0.1})
        {'encoder.weight': 0.1, 'head.weight': 1.0}
    """
    names = list(names)
    found = dict.fromkeys(names, 1.0)
    for pattern, rate in rates.items():
        matching = [name for name in names if fnmatchcase(name, pattern)]
        where = f"optimizer.rates.{pattern}"
        if not matching:
            parts = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names))
            raise ConfigError("no parameter of the model has such a name", where=where, remedy=f"Parts: {parts}.")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < math.inf:
            raise ConfigError(
                f"{rate!r} is not a rate", where=where, remedy="Give 0 to freeze, 1 to leave it as it is."
            )
        found.update(dict.fromkeys(matching, float(rate)))
    if names and not any(found.values()):
        raise ConfigError("all parameters are frozen", where="optimizer.rates", remedy="Leave some to be trained.")
    return found


def freeze(model: nn.Module, rates: Mapping[str, float]) -> list[nn.Module]:
    """Freeze the parameters whose rate is 0, and statistics such as BatchNorm's.

    Args:
        rates: of `relative_rates`, of parameters and buffers.

    Returns:
        The modules whose statistics are frozen, in eval mode: whoever calls `train` has to leave them in it.
    """
    for name, parameter in model.named_parameters():
        if rates.get(name) == 0:
            parameter.requires_grad_(False)
    at_rest = []
    for prefix, module in model.named_modules():
        names = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_buffers(recurse=False)]
        if names and all(rates.get(name) == 0 for name in names):
            at_rest.append(module.eval())
    return at_rest


def make_optimizer(
    module: nn.Module,
    make: OptimizerMaker,
    *,
    decay_all: bool = False,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> Optimizer:
    """The optimizer of all parameters that are trained, with weight decay on matrices only; with `decay_all` on everything.

    Args:
        rates: relative learning rates by name, of `relative_rates`; 1 for others.

    Raises:
        ConfigError: if it cannot be made of these parameters, or needs the loss several times a step.
    """
    kind, lr = getattr(make, "func", make), getattr(make, "keywords", {}).get("lr")
    if lr is not None and not lr > 0:
        raise ConfigError(f"{lr} is not positive", where="optimizer.lr")
    closure = inspect.signature(getattr(kind, "step", print)).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"{kind.__name__} needs the loss several times a step, and here a step computes it once",
            where="optimizer",
            remedy="Use an optimizer whose step() needs no closure, such as torch.optim.AdamW.",
        )
    trained = [(rates.get(name, 1.0), p) for name, p in module.named_parameters() if p.requires_grad]
    if lr is None and any(rate != 1 for rate, _ in trained):
        raise ConfigError(
            "rates are relative to a rate that is not given", where="optimizer.rates", remedy="Set optimizer.lr."
        )
    groups: list[dict[str, Any]] = []
    for rate in sorted({rate for rate, _ in trained}, reverse=True):
        own = {} if lr is None or rate == 1 else {"lr": rate * lr}
        groups += [
            {"params": [p for r, p in trained if r == rate and (p.ndim > 1 or decay_all)], **own},
            {
                "params": [p for r, p in trained if r == rate and p.ndim <= 1 and not decay_all],
                "weight_decay": 0.0,
                **own,
            },
        ]
    return _call(make, [group for group in groups if group["params"]], Optimizer, "optimizer")


def _call(make: Callable[..., Any], argument: Any, of: type[Made], where: str) -> Made:
    try:
        made = make(argument)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:240]
        raise ConfigError(f"cannot be built ({reason})", where=where, remedy=f"Check the values of {where}.") from error
    if not isinstance(made, of):
        what = f"{type(made).__module__}.{type(made).__qualname__} is not a {of.__module__}.{of.__qualname__}"
        raise ConfigError(what, where=f"{where}._target_", remedy="Name a subclass of it.")
    return made


def build_optimizer(section: Mapping[str, Any]) -> tuple[OptimizerMaker, bool, dict[str, float]]:
    """What makes the optimizer of an `optimizer` section, whether weight decay is on every parameter, and the relative rates.

    Raises:
        ConfigError: naming what the class does not accept.

    Example:
        >>> build_optimizer({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "decay": "all"})
    """
    values = dict(section)
    decay = values.pop("decay", "matrices")
    if decay not in ("matrices", "all"):
        what = f"weight decay cannot be on {decay!r}"
        raise ConfigError(what, where="optimizer.decay", remedy="Use matrices or all.")
    rates = values.pop("rates", None) or {}
    if not isinstance(rates, Mapping):
        raise ConfigError(
            f"{rates!r} is no mapping", where="optimizer.rates", remedy="Give patterns and rates: {head.*: 0.1}."
        )
    return build({**values, PARTIAL: True}, "optimizer"), decay == "all", dict(rates)


def build_schedule(section: Mapping[str, Any]) -> Schedule:
    """The schedule of a `scheduler` section.

    Raises:
        ConfigError: naming what the class does not accept.

    Example:
        >>> build_schedule({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2})
    """
    values = dict(section)
    interval, monitor = values.pop("interval", "epoch"), values.pop("monitor", None)
    return Schedule(build({**values, PARTIAL: True}, "scheduler"), interval, monitor)
