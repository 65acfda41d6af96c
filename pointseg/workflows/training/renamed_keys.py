"""Keys of earlier versions: commands, experiments and run folders that use them keep their meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["RENAMED", "renamed", "renamed_word"]

# Of `train`: before -> now.
RENAMED = {
    "loss.class_weighting": "loss.cross_entropy.class_weighting",
    "loss.label_smoothing": "loss.cross_entropy.label_smoothing",
    "optimizer.warmup_steps": "scheduler.warmup_steps",
    "optimizer.final_lr_ratio": "scheduler.final_lr_ratio",
    "optimizer.gradient_clip": "trainer.gradient_clip_val",
}


def renamed_word(word: str) -> str:
    """An override of the command line with the key's present name.

    Example:
        >>> renamed_word("optimizer.warmup_steps=2")
        'scheduler.warmup_steps=2'
    """
    key, equals, value = word.partition("=")
    name = key.lstrip("+~")
    return f"{key[: len(key) - len(name)]}{RENAMED.get(name, name)}{equals}{value}"


def renamed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as plain values, with the present names of its keys.

    Example:
        >>> renamed({"optimizer": {"lr": 0.1, "gradient_clip": 5.0}})
        {'optimizer': {'lr': 0.1}, 'trainer': {'gradient_clip_val': 5.0}}
    """
    copy: dict[str, Any] = _copied(config)
    for before, now in RENAMED.items():
        *sections, name = before.split(".")
        section = _section(copy, sections, make=False)
        if section is not None and name in section:
            value = section.pop(name)
            *places, new = now.split(".")
            place = _section(copy, places, make=True)
            assert place is not None
            place[new] = value
    return copy


def _copied(value: Any) -> Any:
    return {key: _copied(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _section(config: dict[str, Any], names: Sequence[str], *, make: bool) -> dict[str, Any] | None:
    for name in names:
        inner = config.get(name)
        if not isinstance(inner, dict):
            if not make:
                return None
            inner = config[name] = {} if inner is None else {"weight": inner}  # a term of the loss by its weight alone
        config = inner
    return config
