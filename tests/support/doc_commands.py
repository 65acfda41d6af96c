"""The commands that the pages of docs/ show."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from unittest.mock import patch

from omegaconf import DictConfig

from pointseg.cli.command_line import composed
from pointseg.cli.hydra_options import Composer, composer, parse_arguments

COMMAND = re.compile(r"^(?:\w+=\S+ )*python (?:-m pointseg\.\w|scripts/)")  # also with variables before it


def shown(page: Path) -> list[str]:
    """Commands of this project in a page: lines indented by four, and code within a line; lines that go on are joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    inline = re.findall(r"`(python (?:-m|scripts/)[^`]+)`", " ".join(text.split("\n")))
    return [line for line in [*lines, *inline] if COMMAND.match(line)]


def verb_and_words(command: str) -> list[str]:
    """The configuration's name and the words after it."""
    words = shlex.split(command, comments=True)
    words = words[words.index("python") + 1 :]
    if words[0] == "-m":
        return [words[1].removeprefix("pointseg."), *words[2:]]
    return [Path(words[0]).stem, *words[1:]]


_compose = Composer.composed  # half a second of the processor


@cache
def _once(verb: str, overrides: tuple[str, ...]) -> DictConfig:
    with composer(verb) as composing:
        return _compose(composing, list(overrides))


def _is_of_the_reader(word: str) -> bool:
    """Whether a word leads to a folder or a class of the reader's, which is not here."""
    return word == "--config-dir" or word.startswith("hydra.searchpath=") or "my_package" in word


def check(verb: str, words: list[str]) -> None:
    """Raises ConfigError for a word that the command does not take; does nothing else."""
    if "--help" not in words and "-h" not in words and not any(map(_is_of_the_reader, words)):
        options, overrides = parse_arguments(words)
        with patch.object(Composer, "composed", lambda self, given: _once(self.name, tuple(given)).copy()):
            composed(verb, overrides, multirun=options.multirun)
