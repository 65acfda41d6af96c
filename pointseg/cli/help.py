"""`--help`: worked examples, then the groups and keys of a verb, made of its declaration."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pointseg.cli.hydra_options import config_folder, groups
from pointseg.cli.schema import DECLARED_OPTIONS, declared_keys
from pointseg.core.config import FURTHER, PART, PARTS, Key, entry_keys, keys_of

__all__ = ["Group", "Row", "groups_of", "help_of", "option_file", "option_rows", "option_title", "rows_of", "written"]

WIDTH = (80, 120)  # of the text, at least and at most
LEFT = 30  # columns for KEY=DEFAULT
TOGETHER, HARD_SPACE = 40, "\N{NO-BREAK SPACE}"  # what a key takes stays on a line, if it has at most so many letters
MEANINGS = {  # of groups that no dataclass has a field for
    "compute": "where it runs",
    "experiment": "a recipe: it sets keys and options of several groups",
}


@dataclass(frozen=True)
class Group:
    """A configuration group of a verb: its default, the options that there are, and what it is for."""

    name: str
    default: str
    options: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Row:
    """A key as a reader wants it.

    Attributes:
        path: such as `views.count`, `clusters.NAME.vm_size` or, of a section with keys, `views.*`.
        default: as YAML; "" for a section.
        takes: what values it takes.
        what: what it means.
        heading: of the keys from here on, "" where they go on with those above.
    """

    path: str
    default: str
    takes: str
    what: str
    heading: str = ""


def groups_of(verb: str) -> list[Group]:
    """The groups that a verb begins with, and `+experiment` of a training."""
    config = yaml.safe_load((config_folder() / f"{verb}.yaml").read_text(encoding="utf-8"))
    entries = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    defaults = {group: option for entry in entries for group, option in entry.items() if "hydra" not in group}
    meanings = MEANINGS | {key.path: key.what for key in declared_keys(verb)}
    options = groups()
    found = [Group(name, option, tuple(options[name]), meanings[name]) for name, option in defaults.items()]
    if verb == "train":
        found.append(Group("+experiment", "NAME", tuple(options["experiment"]), meanings["experiment"]))
    return found


def rows_of(verb: str) -> list[Row]:
    """The keys of a verb; without those that options of groups bring."""
    elsewhere = (*DECLARED_OPTIONS, *(key.path for key in declared_keys(verb) if key.nature in (PART, PARTS)))
    return list(_rows(key for key in declared_keys(verb) if key.path.split(".")[0] not in elsewhere))


def option_rows(group: str, option: str) -> list[Row]:
    """The keys of a declared option, such as trainer=default."""
    return list(_rows(keys_of(DECLARED_OPTIONS[group][option](), f"{group}.")))


def option_title(group: str, option: str) -> str:
    """What a declared option is, in a sentence."""
    return (inspect.getdoc(DECLARED_OPTIONS[group][option]) or "").splitlines()[0]


def option_file(group: str, option: str) -> str:
    """An option of another group, as its file has it; "" where there is no such file."""
    file = config_folder() / group / f"{option}.yaml"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _rows(keys: Iterable[Key]) -> Iterator[Row]:
    for key in keys:
        if key.nature == FURTHER:
            yield Row(f"{key.path.rpartition('.')[0]}.OPTION", "VALUE", "", key.what, key.heading)
        elif key.is_section or key.entry:
            optional = "section | null" if "None" in str(key.hint) else ""
            yield Row(f"{key.path}.*", "", optional, key.what, key.heading)
            yield from (_entry_row(one, key.default) for one in entry_keys(key))
        else:
            yield Row(key.path, written(key.default), key.takes, key.what, key.heading)


def _entry_row(key: Key, entries: Mapping[str, Any]) -> Row:
    """A key of each value of a mapping, with what the shipped ones have."""
    values = {name: written(entry[key.path.rpartition(".")[2]]) for name, entry in entries.items()}
    if len(set(values.values())) == 1:
        return Row(key.path, next(iter(values.values())), key.takes, key.what)
    shipped = ", ".join(f"{name}: {value}" for name, value in values.items())
    return Row(key.path, written(key.default), key.takes, f"{key.what}; {shipped}")


def written(value: Any) -> str:
    """A value as a line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


# ---- the text ----------------------------------------------------------------------------------------------------


def help_of(verb: str, examples: str, arguments: Sequence[str]) -> str:
    """What `--help` says.

    Args:
        examples: that it begins with.
        arguments: those given beside --help; GROUP=OPTION chooses what is shown of a group.
    """
    shown_groups = groups_of(verb)
    lines = [examples.strip()]
    if shown_groups:
        lines += ["", "Configuration groups (GROUP=OPTION), each with its default:"]
        lines += _table([Row(one.name, one.default, " | ".join(one.options), one.what) for one in shown_groups])
    lines += ["", "Keys (KEY=VALUE), each with its default; -m runs every combination of comma-separated values:"]
    lines += _table(rows_of(verb))
    for group in shown_groups:
        given = [word.partition("=")[2] for word in arguments if word.startswith(f"{group.name.lstrip('+')}=")]
        lines += _option(group.name, given[-1] if given else group.default)
    return "\n".join(lines)


def _option(group: str, option: str) -> list[str]:
    if option in DECLARED_OPTIONS.get(group, ()):
        return ["", f"{group}={option}: {option_title(group, option)}", *_table(option_rows(group, option))]
    text = option_file(group.lstrip("+"), option)
    return ["", f"{group}={option}:", *textwrap.indent(text, "  ").splitlines()] if text else []


def _table(rows: Iterable[Row]) -> list[str]:
    lines: list[str] = []
    width = min(max(shutil.get_terminal_size((100, 24)).columns, WIDTH[0]), WIDTH[1])
    for row in rows:
        lines += ["", f"  {row.heading}"] if row.heading else []
        left = f"{row.path}={row.default}" if row.default else row.path
        takes = row.takes if len(row.takes) > TOGETHER else row.takes.replace(" ", HARD_SPACE)
        said = f"{row.what} [{takes}]" if takes else row.what
        indent = " " * (LEFT + 2)
        text = textwrap.wrap(said, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        if len(left) < LEFT:
            lines.append(f"  {left:<{LEFT}}{text[0].strip()}")
            lines += text[1:]
        else:
            lines += textwrap.wrap(left, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
            lines += text
    return [line.replace(HARD_SPACE, " ") for line in lines]
