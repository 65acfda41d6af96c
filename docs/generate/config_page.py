"""Writes docs/configuration.md, the reference of all commands' keys, from the keys' declarations: `make docs`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pointseg.cli import help as shown
from pointseg.cli.help import Row
from pointseg.cli.hydra_options import config_folder, groups
from pointseg.cli.schema import DECLARED_OPTIONS, verbs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "configuration.md"
ORDER = (
    (
        "Models",
        (
            "models",
            "select",
            "prepare",
            "train",
            "evaluate",
            "predict",
            "report",
            "export",
            "serve",
            "pipeline",
            "register_model",
        ),
    ),
    ("Azure ML", ("provision", "register_data", "deploy", "invoke")),
)
SHARED = {"azure": "The workspace", "views": "Views"}  # sections that several commands have alike
CODE = tuple(  # what a meaning quotes without saying so
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
    "models": "own_model",
    "prepare": "data data_checks other_datasets",
    "train": "recipe data sweeps processes azure_jobs",
    "evaluate": "predict",
    "predict": "predict batch",
    "select": "select",
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

Every key of every command, with its default and the values that it takes. This page is made from the declarations in
`pointseg/workflows/settings/` and the options in `configs/` (`make docs`); `python -m pointseg.VERB --help` says the same of
one command.

- `KEY=VALUE` sets a key, `data.batch_size=16`; `null` is nothing, lists are `[a,b]`, mappings `{a: 1}`. Brackets and spaces
  need quotes in a shell.
- `GROUP=OPTION` takes another option of a [group](#groups), `data=semantickitti`; `+experiment=NAME` one of `experiment`.
- A word that does not exist, or a value that its key does not take, is refused before anything starts, with the nearest word.
- `hydra.run.dir=DIR` names the folder of a run (`outputs/DATE/TIME` otherwise), `hydra.sweep.dir=DIR` that of a sweep (`-m`).
- Your own option is a file `GROUP/NAME.yaml`, your own recipe a file `experiment/NAME.yaml`, in a folder that `--config-dir`
  names ([Hydra and Lightning](hydra_and_lightning.md)).
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
    for group in groups():
        parts += [f"### Group {group}", *_group(group)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def ordered() -> list[tuple[str, list[str]]]:
    """The commands as the page has them; those that no list here names come last."""
    there = [file.stem for file in sorted(config_folder().glob("*.yaml"))]
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
    listed_groups = ", ".join(f"[{name}](#group-{name})" for name in groups())
    shared = ", ".join(map(_link, SHARED))
    return ["\n".join(lines), f"Groups: {listed_groups}. Sections that several commands have: {shared}."]


# ---- a command ---------------------------------------------------------------------------------------------------


def _command(name: str) -> list[str]:
    parts = []
    if listed := shown.groups_of(name):
        lines = ["| group | default | |", "| --- | --- | --- |"]
        for group in listed:
            title = group.name.lstrip("+")
            lines.append(
                f"| [{title}](#group-{title}) | {code(f'{group.name}={group.default}')} | {prose(group.what)} |"
            )
        parts.append("\n".join(lines))
    rows = shown.rows_of(name)
    sections = [section for section in SHARED if any(_is_in(row, section) for row in rows)]
    rows = [row for row in rows if not any(_is_in(row, section) for section in sections)]
    starts = [0, *(number for number, row in enumerate(rows) if row.heading and number)]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        parts += [prose(rows[start].heading), _table(rows[start:end])]
    parts += [f"And {' and '.join(_link(section) for section in sections)}." if sections else ""]
    return [part for part in parts if part]


def _is_in(row: Row, section: str) -> bool:
    return row.path.split(".")[0] == section


def _link(section: str) -> str:
    return f"[{section}](#{slug(f'{SHARED[section]}: {section}')})"


def _shared(section: str) -> list[str]:
    """The section as the first command has it."""
    of_commands = ([row for row in shown.rows_of(name) if _is_in(row, section)] for name in verbs())
    return [_table(next(rows for rows in of_commands if rows))]


def _table(rows: Sequence[Row]) -> str:
    lines = ["| key | default | takes | what it is |", "| --- | --- | --- | --- |"]
    for row in rows:
        takes = row.takes.replace("|", "\\|")
        lines.append(f"| `{row.path}` | {wrapped(row.default)} | {takes} | {prose(row.what, row.takes.split(' | '))} |")
    return "\n".join(lines)


# ---- a group -----------------------------------------------------------------------------------------------------


def _group(group: str) -> list[str]:
    """Options that are declared as tables, those that are files as they are."""
    parts = []
    for option in groups()[group]:
        word = f"{'+' if group == 'experiment' else ''}{group}={option}"
        if option in DECLARED_OPTIONS.get(group, ()):
            title = f"{code(word)}: {prose(shown.option_title(group, option))}"
            parts += [title, _table(shown.option_rows(group, option))]
        else:
            parts += [f"{code(word)}:", f"```yaml\n{shown.option_file(group, option)}\n```"]
    return parts


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


def prose(text: str, choices: Sequence[str] = ()) -> str:
    """A meaning as Markdown: values that can be taken as code, pages as links, nothing that Markdown would read."""
    parts = re.split(r"(`[^`]*`)", _marked(text, choices))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts).replace("|", "\\|")


def _marked(text: str, choices: Sequence[str]) -> str:
    words = "|".join(map(re.escape, choices))
    patterns = [re.compile(rf"(?<![\w`/.-])(?:{words})(?=: )")] if words else []
    text = re.sub(r"'([^' ]*[*=][^']*)'", r"`\1`", text)
    for pattern in (*patterns, *CODE):
        text = "".join(
            part if part.startswith("`") else pattern.sub(r"`\g<0>`", part) for part in re.split(r"(`[^`]*`)", text)
        )
    return text


def _escaped(text: str) -> str:
    text = re.sub(r"([*<>])", r"\\\1", text)
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", text)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
