"""Writes docs/configuration.md, the reference of all commands' keys, from the comments in configs/: `make docs`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config_files import Setting, Settings, choices, group_settings, is_open, load

from pointseg.cli import checks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "configuration.md"
ORDER = (
    ("Models", ("prepare", "train", "evaluate", "predict", "report", "export", "serve", "pipeline", "register_model")),
    ("Azure ML", ("provision", "register_data", "deploy", "invoke")),
)
SHARED = {"azure": "The workspace", "views": "Views"}  # sections that several commands have alike
CODE = tuple(  # what a comment quotes without saying so
    map(
        re.compile,
        (
            r"(?:python (?:-m|scripts/)|pip install )[^;,()]*[^;,().\s]",
            r"\[[\w+=.,-]*=[\w+=.,-]*\]",
            r"(?<![\w'])[\w.+]+=[\w./:@*-]*[\w*]",
            r"\b(?:models|azureml|abfss):[\w:/@.-]*[\w/](?:\.{3})?",
            r"'[\d*][\d* ,/-]+'",
            r"(?<![\w/.])(?:null|auto|true|false|-1|0|1)(?=: )",
        ),
    )
)
PAGES = {  # where a command is explained
    "teardown": "teardown",
    "prepare": "data data_checks other_datasets",
    "train": "recipe data sweeps processes azure_jobs",
    "evaluate": "predict",
    "predict": "predict batch",
    "report": "report drift monitoring",
    "export": "export",
    "serve": "serve monitoring",
    "pipeline": "pipeline monitoring",
    "register_model": "register",
    "provision": "provision",
    "register_data": "data_assets",
    "deploy": "managed batch local_service container_instances",
    "invoke": "client managed batch",
}
INTRO = """# Configuration

Every key of every command, with its default. This page is made from the comments in `configs/` (`make docs`);
`python -m pointseg.VERB --help` says the same of one command.

- `KEY=VALUE` sets a key, `data.batch_size=16`; `null` is nothing, lists are `[a,b]`, mappings `{a: 1}`. Brackets and spaces
  need quotes in a shell.
- `GROUP=OPTION` takes another option of a [group](#groups), `data=semantickitti`; `+experiment=NAME` one of `experiment`.
- A word that does not exist, or is of another kind than the default, is refused before anything starts, with the nearest one.
- `hydra.run.dir=DIR` names the folder of a run (`outputs/DATE/TIME` otherwise), `hydra.sweep.dir=DIR` that of a sweep (`-m`).
- Your own option is a file in `configs/GROUP/`, your own recipe one in `configs/experiment/`.
"""


@dataclass(frozen=True)
class Command:
    """A command, such as `python -m pointseg.train`: its configuration's name, how it is called, and what it does."""

    name: str
    call: str
    what: str

    @property
    def heading(self) -> str:
        return self.call.split()[-1]


def page() -> str:
    """The whole page."""
    commands = [(title, [command(name) for name in names]) for title, names in ordered()]
    parts = [INTRO, *_contents(commands)]
    for _, listed in commands:
        for one in listed:
            more = ", ".join(f"[{name}]({name}.md)" for name in PAGES.get(one.name, "").split())
            parts += [f"## {one.heading}", f"`{one.call}`: {prose(one.what)}", *_command(one.name)]
            parts += [f"Explained in {more}."] if more else []
    parts += ["## Shared sections"]
    for section, title in SHARED.items():
        parts += [f"### {title}: {section}", *_shared(section)]
    parts += ["## Groups"]
    for group in checks.groups():
        parts += [f"### Group {group}", *_group(group)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def ordered() -> list[tuple[str, list[str]]]:
    """The commands as the page has them; those that no list here names come last."""
    there = [file.stem for file in sorted(checks.config_folder().glob("*.yaml"))]
    known = [name for _, names in ORDER for name in names]
    lists = [(title, [name for name in names if name in there]) for title, names in ORDER]
    lists[-1][1].extend(name for name in there if name not in known)
    return lists


def command(name: str) -> Command:
    """What a command says of itself in the first line of its docstring."""
    script = ROOT / "scripts" / f"{name}.py"
    files = [script, ROOT / "pointseg" / f"{name}.py", ROOT / "pointseg" / name / "__main__.py"]
    file = next(file for file in files if file.is_file())
    said = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[0]
    call = f"python scripts/{name}.py" if file == script else f"python -m pointseg.{name}"
    return Command(name, call, said)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _contents(commands: list[tuple[str, list[Command]]]) -> list[str]:
    lines = ["| command | what it does |", "| --- | --- |"]
    for _, listed in commands:
        lines += [f"| [`{one.call}`](#{slug(one.heading)}) | {prose(one.what)} |" for one in listed]
    groups = ", ".join(f"[{name}](#group-{name})" for name in checks.groups())
    shared = ", ".join(map(_link, SHARED))
    return ["\n".join(lines), f"Groups: {groups}. Sections that several commands have: {shared}."]


# ---- a command ---------------------------------------------------------------------------------------------------


def _command(name: str) -> list[str]:
    own = load(f"{name}.yaml")
    groups = [group for group in own.groups if "hydra/" not in group.name]
    parts = []
    if groups:
        lines = ["| group | default | |", "| --- | --- | --- |"]
        lines += [
            f"| [{group.name}](#group-{group.name}) | {code(f'{group.name}={group.option}')} | {prose(group.what)} |"
            for group in groups
        ]
        parts.append("\n".join(lines))
    shared = [section for section in SHARED if _is_shared(own, section)]
    keys = [key for key in own.keys if key.path.split(".")[0] not in shared]
    for number in dict.fromkeys(key.paragraph for key in keys):
        paragraph = [key for key in keys if key.paragraph == number]
        parts += [prose(own.headings.get(number, "")), _table(_rows(paragraph))]
    parts += [f"And {' and '.join(_link(section) for section in shared)}." if shared else ""]
    return [part for part in parts if part]


def _link(section: str) -> str:
    return f"[{section}](#{slug(f'{SHARED[section]}: {section}')})"


def _is_shared(own: Settings, section: str) -> bool:
    mine, everywhere = ({key.path: key.value for key in keys} for keys in (_section(own, section), _described(section)))
    return bool(mine) and mine == everywhere


def _section(own: Settings, section: str) -> list[Setting]:
    return [key for key in own.keys if key.path == section or key.path.startswith(f"{section}.")]


def _described(section: str) -> list[Setting]:
    """The section as the first command has it that describes every key of it."""
    for file in sorted(checks.config_folder().glob("*.yaml")):
        found = _section(load(file.name), section)
        if found and all(key.what for key in found):
            return found
    raise AssertionError(f"no command's configuration describes all keys of {section}")


def _shared(section: str) -> list[str]:
    return [_table(_rows(_described(section)))]


# ---- rows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of a table: a key, its defaults (one, or by the name of an option), what it is."""

    path: str
    defaults: dict[str, str]
    what: dict[str, str]


def _rows(keys: Sequence[Setting]) -> list[Row]:
    """Keys of one file. Those of entries with names of the user's, such as clusters.NAME, are put together."""
    merged: dict[str, Row] = {}
    for key in keys:
        parts = key.path.split(".")
        entry = next((n for n in range(1, len(parts)) if is_open(".".join(parts[:n]))), None)
        path, name = key.path, ""
        if entry is not None:
            path, name = ".".join([*parts[:entry], "NAME", *parts[entry + 1 :]]), parts[entry]
        row = merged.setdefault(path, Row(path, {}, {}))
        row.defaults[name] = key.value
        row.what[name] = key.what
    return [row for row in merged.values() if row.path.split(".")[-1] != "_target_"]


def _table(rows: Sequence[Row]) -> str:
    lines = ["| key | default | what it is |", "| --- | --- | --- |"]
    shown = [(row.path, _defaults(row), _said(row)) for row in rows]
    lines += [f"| `{path}` | {default} | {said} |" for path, default, said in shown if default or said]
    return "\n".join(lines)


def _defaults(row: Row) -> str:
    """The default, and after it those of the options that have another."""
    distinct = list(dict.fromkeys(row.defaults.values()))
    if len(distinct) == 1:
        return wrapped(distinct[0])
    return "<br>".join(
        f"{', '.join(name for name, value in row.defaults.items() if value == one)}: {wrapped(one)}" for one in distinct
    )


def _said(row: Row) -> str:
    distinct = list(dict.fromkeys(text for text in row.what.values() if text))
    if len(distinct) < 2:
        return prose("".join(distinct))
    return "<br>".join(
        f"{', '.join(name for name, text in row.what.items() if text == one)}: {prose(one)}" for one in distinct
    )


# ---- a group -----------------------------------------------------------------------------------------------------


def _group(group: str) -> list[str]:
    options = {option: group_settings(group, option) for option in checks.groups()[group]}
    lines = ["| option | what it is |", "| --- | --- |"]
    lines += [f"| {code(f'{group}={option}')} | {prose(_title(group, option))} |" for option in options]
    parts = ["\n".join(lines)]
    if group == "experiment":
        for option, own in options.items():
            parts += [f"{code(f'+experiment={option}')} sets:", f"```text\n{_as_words(own)}\n```"]
        return parts
    for family in _families(options):
        if len(options) > len(family):
            parts.append(f"**{', '.join(f'{group}={option}' for option in family)}**")
        parts.append(_table(_family_rows(group, {option: options[option] for option in family})))
    return parts


def _title(group: str, option: str) -> str:
    own = load(f"{group}/{option}.yaml")
    base = "".join(f"{group}={one.name} with other values" for one in own.groups if "/" not in one.name)
    kind = next((key.value for key in own.keys if key.path == "_target_"), "")
    return ". ".join(part.rstrip(".") for part in (own.title, base, f"Builds `{kind}`" if kind else "") if part)


def _families(options: dict[str, Settings]) -> list[list[str]]:
    """Options that have most of their keys in common, which one table shows."""
    families: list[list[str]] = []
    keys = {option: {key.path for key in own.keys} for option, own in options.items()}
    for option in options:
        home = next(
            (f for f in families if len(keys[option] & keys[f[0]]) > 0.5 * len(keys[option] | keys[f[0]])), None
        )
        families.append([option]) if home is None else home.append(option)
    return families


def _family_rows(group: str, options: dict[str, Settings]) -> list[Row]:
    rows: dict[str, Row] = {}
    for option, own in options.items():
        for key in own.keys:
            path = key.path if key.path.split(".")[0] in SHARED else f"{group}.{key.path}"
            row = rows.setdefault(path, Row(path, {}, {}))
            row.defaults[option], row.what[option] = key.value, key.what
    kept = [
        row for row in rows.values() if row.path.split(".")[-1] != "_target_" and row.path.split(".")[0] not in SHARED
    ]
    order = {
        path: number for number, path in enumerate(_in_order([[k.path for k in own.keys] for own in options.values()]))
    }
    kept.sort(key=lambda row: order[row.path.removeprefix(f"{group}.")])
    return [_of_some(row, list(options)) for row in kept]


def _in_order(lists: list[list[str]]) -> list[str]:
    """All entries of several lists, each before the one that it precedes in its own list."""
    order = list(lists[0])
    for one in lists[1:]:
        for place, entry in enumerate(one):
            if entry not in order:
                after = next((later for later in one[place:] if later in order), None)
                order.insert(len(order) if after is None else order.index(after), entry)
    return order


def _of_some(row: Row, options: list[str]) -> Row:
    """A key that not all options have says so."""
    if len(row.defaults) == len(options):
        return row
    only = f"(only {', '.join(row.defaults)})"
    return Row(row.path, row.defaults, {name: f"{text} {only}" for name, text in row.what.items()})


def _as_words(own: Settings) -> str:
    words = [f"{group.name.removeprefix('override /')}={group.option}" for group in own.groups]
    words += [
        f"{key.path}={key.value}  {'# ' + key.what if key.what else ''}".rstrip() for key in own.keys if key.value
    ]
    return "\n".join(words)


# ---- text --------------------------------------------------------------------------------------------------------


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def wrapped(value: str, width: int = 34) -> str:
    """A default as code; a long one in lines."""
    lines, line = [], ""
    for word in value.split(" "):
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "<br>".join(code(line) for line in [*lines, line] if line)


def prose(comment: str) -> str:
    """A comment as Markdown: values that can be taken as code, pages as links, nothing that Markdown would read."""
    parts = re.split(r"(`[^`]*`)", _marked(comment))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts).replace("|", "\\|")


def _marked(comment: str) -> str:
    for choice in choices(comment):
        word = rf"(?<![\w`/.-]){re.escape(choice)}"
        comment = re.sub(rf"{word}(?=:? \||\s*[;:,(]| \(|$|\s\|)", f"`{choice}`", comment, count=1)
        comment = re.sub(rf"(?<=; ){re.escape(choice)}(?=: )", f"`{choice}`", comment)
    comment = re.sub(r"'([^' ]*[*=][^']*)'", r"`\1`", comment)
    for pattern in CODE:
        comment = "".join(
            part if part.startswith("`") else pattern.sub(r"`\g<0>`", part) for part in re.split(r"(`[^`]*`)", comment)
        )
    return comment


def _escaped(text: str) -> str:
    text = re.sub(r"([*<>])", r"\\\1", text)
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", text)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
