"""What the README tells its readers to type: its blocks, their commands, its figures and its sections."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, JAPANESE = ROOT / "README.md", ROOT / "README.ja.md"


@dataclass(frozen=True)
class Block:
    """Text that stands apart.

    Attributes:
        kind: "shell", "python" or "listing", which shows what is in a folder.
        title: the heading above it, and its first line, by which a test is called.
    """

    kind: str
    heading: str
    text: str
    line: int

    @property
    def title(self) -> str:
        first = re.sub(r"[^\w.=@:/+-]+", " ", self.text.splitlines()[0].split("  #")[0]).strip()
        return f"{self.line}: {first[:60]}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, without comments."""
        if self.kind != "shell":
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    @property
    def meaning(self) -> object:
        """What a translation must not change: commands, code, names of files."""
        if self.kind == "shell":
            return self.commands
        if self.kind == "python":
            return ast.dump(ast.parse(self.text))
        return [line.split()[0] for line in self.text.splitlines()]


def blocks(document: Path) -> list[Block]:
    """Indented and fenced blocks in their order."""
    found: list[Block] = []
    lines = document.read_text(encoding="utf-8").splitlines()
    heading, at = "", 0
    while at < len(lines):
        line, start = lines[at], at
        if line.startswith("```"):
            language = line.removeprefix("```").strip()
            at = lines.index("```", at + 1)
            found.append(_block(language, heading, lines[start + 1 : at], start + 2))
        elif line.startswith("    ") and not lines[at - 1].strip():
            while at < len(lines) and (lines[at].startswith("    ") or _goes_on(lines, at)):
                at += 1
            found.append(_block("", heading, lines[start:at], start + 1))
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        at += 1
    return found


def _goes_on(lines: list[str], at: int) -> bool:
    return not lines[at] and at + 1 < len(lines) and lines[at + 1].startswith("    ")


def _block(language: str, heading: str, lines: list[str], number: int) -> Block:
    if language == "python":
        return Block("python", heading, "\n".join(lines) + "\n", number)
    assert language in ("", "sh", "shell", "console"), f"a block of {language!r} at line {number}: nobody runs it"
    text = "\n".join(line.removeprefix("    ") for line in lines)
    kind = "listing" if lines[0].split()[0].endswith("/") else "shell"
    return Block(kind, heading, text, number)


def prose(document: Path) -> str:
    """The text outside blocks."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def sections(document: Path) -> list[str]:
    """The prose in front of the first heading of the second degree, and under each."""
    return re.split(r"^## ", prose(document), flags=re.MULTILINE)


def tables(document: Path) -> list[list[list[str]]]:
    """The figures in each cell of each row of each table."""
    found: list[list[list[str]]] = []
    inside = False
    for line in prose(document).splitlines():
        if line.startswith("|") and not inside:
            found.append([])
        inside = line.startswith("|")
        if inside:
            found[-1].append([" ".join(figures(cell)) for cell in line.strip("|").split("|")])
    return found


def figures(text: str) -> list[str]:
    """Numbers as they stand in a text."""
    return re.findall(r"(?<![a-zA-Z\d.])\d+(?:,\d{3})*(?:\.\d+)*", text)
