"""The shipped configurations as what a reader wants of them: keys, defaults, and the comments as descriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pointseg.cli.checks import OPEN_KEYS, config_folder

__all__ = ["Group", "Setting", "Settings", "choices", "files", "group_settings", "is_open", "load"]

LINE = re.compile(r"^(?P<indent> *)\"?(?P<key>[\w-]+)\"?: ?(?P<value>.*)$")  # "yes" is a word only in quotes
DEFAULT = re.compile(r'^ +- (?P<key>[+\w/ -]+)(?:: "?(?P<option>\w+)"?)?')


@dataclass(frozen=True)
class Setting:
    """A key of a configuration.

    Attributes:
        path: such as `check.max_range`.
        value: its default as the file has it; "" for a section.
        what: the comment beside it, or the line above it.
        paragraph: the number of the paragraph that it stands in; blank lines divide them.
    """

    path: str
    value: str
    what: str
    paragraph: int


@dataclass(frozen=True)
class Group:
    """A line of `defaults`: a configuration group, the option taken, and what it is for."""

    name: str
    option: str
    what: str


@dataclass(frozen=True)
class Settings:
    """A file: its title (the comment at its top), groups, keys, and the headings of its paragraphs by number."""

    title: str
    groups: tuple[Group, ...]
    keys: tuple[Setting, ...]
    headings: dict[int, str]


@cache
def load(file: str) -> Settings:
    """What a file below configs/ says, such as "train.yaml". The key `hydra` is left out: it is Hydra's own."""
    lines = (config_folder() / file).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    return _Reader(lines).settings()


class _Reader:
    """Reads line by line: the files have a value a line, no anchors and no text over several lines."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.keys: list[Setting] = []
        self.groups: list[Group] = []
        self.headings: dict[int, str] = {}
        self.above: list[str] = []  # comments that wait for their key
        self.parents: list[tuple[int, str]] = []  # indent and name of the sections around a line
        self.paragraph, self.fresh = 0, True  # fresh: nothing of this paragraph but comments was read

    def settings(self) -> Settings:
        for line in self.lines:
            if line.startswith("hydra:"):
                break
            if not line.strip():
                self.paragraph, self.fresh, self.above = self.paragraph + 1, True, []
            elif line.lstrip().startswith("#"):
                self._comment(line.lstrip("# "))
            elif line.lstrip().startswith("- "):
                self._default(line)
            elif not line.startswith("defaults:"):
                self._key(line)
        return Settings(self.headings.pop(0, ""), tuple(self.groups), tuple(self.keys), self.headings)

    def _comment(self, text: str) -> None:
        if self.fresh:
            self.headings[self.paragraph] = f"{self.headings.get(self.paragraph, '')} {text}".strip()
        else:
            self.above.append(text)

    def _default(self, line: str) -> None:
        text, comment = _divided(line)
        found = DEFAULT.match(text)
        assert found is not None, line
        if found["key"] != "_self_":
            self.groups.append(Group(found["key"], found["option"] or "", comment))

    def _key(self, line: str) -> None:
        self.fresh = False
        text, comment = _divided(line)
        found = LINE.match(text)
        assert found is not None, f"not a line of KEY: VALUE: {line}"
        indent = len(found["indent"])
        self.parents = [(deep, name) for deep, name in self.parents if deep < indent]
        path = ".".join([*(name for _, name in self.parents), found["key"]])
        what = " ".join([*self.above, comment]).strip()
        self.keys.append(Setting(path, found["value"].strip(), what, self.paragraph))
        self.above = []
        if not found["value"].strip():
            self.parents.append((indent, found["key"]))


def _divided(line: str) -> tuple[str, str]:
    """A line without its comment, and the comment."""
    quote = ""
    for place, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and line[place - 1] == " ":
            return line[:place].rstrip(), line[place + 1 :].strip()
    return line.rstrip(), ""


def group_settings(group: str, option: str) -> Settings:
    """An option of a group with what it takes over from another by its `defaults`; keys without the prefix compute."""
    own = load(f"{group}/{option}.yaml")
    keys = {key.path.removeprefix(f"{group}."): key for key in own.keys if key.path != group}
    own_keys = {path: replace(key, path=path) for path, key in keys.items()}
    if group == "experiment":
        return own
    inherited: dict[str, Setting] = {}
    for base in own.groups:
        inherited |= {key.path: key for key in group_settings(group, base.name).keys}
    merged = {**inherited, **{p: replace(k, what=k.what or _what(inherited, p)) for p, k in own_keys.items()}}
    return replace(own, keys=tuple(merged.values()))


def _what(known: dict[str, Setting], path: str) -> str:
    return known[path].what if path in known else ""


def is_open(path: str) -> bool:
    """Whether users add keys of their own to this section."""
    return path in OPEN_KEYS


def choices(what: str) -> list[str]:
    """The values that a description lists: `a | b (remark) | c: remark`, also after words and a colon."""
    parts = what.split(" | ")
    return [] if len(parts) < 2 else [_choice(part, first=number == 0) for number, part in enumerate(parts)]


def _choice(part: str, *, first: bool) -> str:
    begins = re.match(r"(\[.*?\]|[^\s;:,(]+)(?=:? |[:;,(]|$)", part)
    assert begins is not None, part
    if first and not re.match(r"[^\s;:,(]+(:| \(|$)", part):
        return part.split()[-1]
    return begins[1]


def files() -> list[Path]:
    """Every shipped configuration but Hydra's own settings."""
    folder = config_folder()
    return [file.relative_to(folder) for file in sorted(folder.rglob("*.yaml")) if "hydra" not in file.parts]
