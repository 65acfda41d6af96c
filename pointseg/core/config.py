"""How a configuration is declared: once, as a dataclass whose fields say their name, type, default, meaning and nature.

Hydra's schema, `--help`, docs/configuration.md, what a job takes along and brings back, masking and "did you mean" are
derived from these declarations; a Python user fills the same dataclass.

    >>> @dataclass
    ... class ScoreConfig:
    ...     '''Scores a model.'''
    ...     checkpoint: str | None = key(None, "a run folder or a .ckpt", READS)
    ...     split: str = key("val", "which scans", choices=("train", "val", "test"))
    >>> [declared.path for declared in keys_of(ScoreConfig)]
    ['checkpoint', 'split']
"""

from __future__ import annotations

import copy
import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pointseg.core.errors import ConfigError
from pointseg.core.targets import nearest

__all__ = [
    "FURTHER",
    "MAPPING",
    "PART",
    "PARTS",
    "READS",
    "SECRET",
    "TEXT",
    "WORDS",
    "WRITES",
    "Key",
    "Nature",
    "check_choices",
    "entry_keys",
    "key",
    "keys_of",
    "refuse_other_word",
    "section",
]

Nature = Literal["value", "reads", "writes", "text", "words", "mapping", "part", "parts", "further", "secret"]
READS: Nature = "reads"  # a path, an address or a registered model that the task reads
WRITES: Nature = "writes"  # a file or folder that the task writes
TEXT: Nature = "text"  # a name or sentence for people, a URL: never anything but text
WORDS: Nature = "words"  # a list of KEY=VALUE for another command
MAPPING: Nature = "mapping"  # names and values of the user's own
PART: Nature = "part"  # a section that says by `_target_` what it is
PARTS: Nature = "parts"  # several such sections, by names of the user's own
FURTHER: Nature = "further"  # the keys of the section around it that have no declaration: another library's options
SECRET: Nature = "secret"  # never written down

_META = "pointseg"


@dataclass(frozen=True)
class _About:
    what: str
    nature: Nature = "value"
    choices: tuple[str, ...] = ()
    heading: str = ""
    entry: type | None = None


@dataclass(frozen=True)
class Key:
    """One declared key.

    Attributes:
        path: with dots, such as `views.count`.
        hint: the type in the declaration, such as `int | None`.
        default: None also stands for what must be given.
        what: what it means, in a line.
        nature: what its value is about.
        choices: the words it takes, where it takes no others.
        heading: of the keys from here on, "" where it goes on with those above.
        entry: of a mapping, the dataclass of each of its values; None where they are of any kind.
        is_section: whether there are keys within.
    """

    path: str
    hint: Any
    default: Any
    what: str
    nature: Nature = "value"
    choices: tuple[str, ...] = ()
    heading: str = ""
    entry: type | None = None
    is_section: bool = False

    @property
    def takes(self) -> str:
        """What a value may be, for people: `train | val | test`, `whole number | null`; "" where anything goes."""
        kinds = self.choices or ((_NATURES[self.nature],) if self.nature in _NATURES else _kinds(self.hint))
        if self.choices and _is_list(self.hint):
            return f"list of {', '.join(kinds)}"
        optional = ["null"] if type(None) in typing.get_args(self.hint) else []
        return " | ".join([*kinds, *optional])


_NATURES = {
    READS: "path",
    WRITES: "path",
    MAPPING: "mapping",
    WORDS: "list of KEY=VALUE",
    PART: "section",
    PARTS: "sections",
}
_KINDS = {bool: "true | false", int: "whole number", float: "number", str: "text", list: "list", dict: "mapping"}


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) is list


def _kinds(hint: Any) -> tuple[str, ...]:
    """The words for the kinds of a union, without null."""
    options = [one for one in typing.get_args(hint) if one is not type(None)] if _is_union(hint) else [hint]
    named = [_KINDS.get(typing.get_origin(one) or one, "") for one in options]
    if _is_list(options[0]) and typing.get_args(options[0]):
        inner = " or ".join(f"{kind}s" for kind in _kinds(typing.get_args(options[0])[0]))
        named = [f"list of {inner}"]
    if {int, float} <= set(options):
        named.remove("whole number")
    return tuple(kind for kind in named if kind)


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType)


def key(
    default: Any,
    what: str,
    nature: Nature = "value",
    *,
    choices: Sequence[str] = (),
    heading: str = "",
    entry: type | None = None,
) -> Any:
    """A field of a configuration; a list or mapping as default is copied.

    Example:
        >>> seed: int = key(0, "random seed")
    """
    metadata = {_META: _About(what, nature, tuple(choices), heading, entry)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(make: Callable[[], Any], what: str, *, heading: str = "") -> Any:
    """A field that holds other fields: a dataclass, or a function that makes one.

    Example:
        >>> views: ViewsConfig = section(ViewsConfig, "test-time augmentation")
    """
    return field(default_factory=make, metadata={_META: _About(what, heading=heading)})


def keys_of(config: Any, prefix: str = "") -> list[Key]:
    """All declared keys of a configuration class or object, in order, sections before the keys within.

    Raises:
        TypeError: for a field that was not declared by `key` or `section`.
    """
    return list(_keys(config if not isinstance(config, type) else config(), prefix))


def _keys(config: Any, prefix: str) -> Iterator[Key]:
    hints = typing.get_type_hints(type(config))
    for one in dataclasses.fields(config):
        about = one.metadata.get(_META)
        if about is None:
            raise TypeError(f"{type(config).__name__}.{one.name} is not declared by key() or section()")
        value, path = getattr(config, one.name), f"{prefix}{one.name}"
        inner = dataclasses.is_dataclass(value)
        said = (about.what, about.nature, about.choices, about.heading, about.entry)
        yield Key(path, hints[one.name], None if inner else value, *said, is_section=inner)
        if inner:
            yield from _keys(value, f"{path}.")


def entry_keys(mapping: Key) -> list[Key]:
    """The keys of each value of a mapping, with NAME for the name that users choose; [] where they are of any kind.

    Example:
        >>> [one.path for one in entry_keys(clusters)][:2]  # doctest: +SKIP
        ['clusters.NAME.kind', 'clusters.NAME.vm_size']
    """
    return keys_of(mapping.entry, f"{mapping.path}.NAME.") if mapping.entry else []


def refuse_other_word(word: Any, declared: Key, where: str) -> None:
    """Refuse a value, or one in a list of values, that is none of a key's choices; null is refused elsewhere.

    Raises:
        ConfigError: with the nearest word.
    """
    for one in word if isinstance(word, list | tuple) else [word]:
        if declared.choices and one is not None and one not in declared.choices:
            remedy = f"{nearest(str(one), declared.choices)} Use {' | '.join(declared.choices)}.".strip()
            raise ConfigError(f"there is no {one!r}", where=where, remedy=remedy)


def check_choices(config: Any) -> None:
    """Refuse a value that is none of its key's choices.

    Raises:
        ConfigError: naming the key, and the nearest word.
    """
    for declared in keys_of(config):
        if declared.choices:
            value: Any = config
            for part in declared.path.split("."):
                value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
            refuse_other_word(value, declared, declared.path)
