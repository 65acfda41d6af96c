"""Links and paths in the texts lead somewhere, and every page of docs/ can be reached from the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
LINK = re.compile(r"(?<!`)!?\[(?:[^\]\[]|!?\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)?)\)")
DOCUMENT = re.compile(r"(?<![\w/(.])docs/[\w/-]+\.(?:md|png|py|svg)")
# in code spans: files of the project, by their path from its root
CODE = re.compile(
    r"`(?:python )?((?:tests|configs|environments|scripts|pointseg|docs|notebooks|\.ci|\.github)/[\w./-]+\.[a-z]+)`"
)
URL = re.compile(r"https?://(?!\.\.\.)[^\s`'\"<>)\]\\]+")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """Without fenced blocks, whose brackets are code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", text_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (unique := slug if not number else f"{slug}-{number}") in found:
            number += 1
        found.add(unique)
    return found


def targets(page: Path) -> Iterator[tuple[str, Path, str]]:
    """(as written, file, fragment) of whatever a page points at in the project."""
    text = text_of(page)
    for link in LINK.findall(text):
        parts = urlsplit(unquote(link))
        if not parts.scheme:
            yield link, (page.parent / parts.path).resolve() if parts.path else page, parts.fragment
    for path in DOCUMENT.findall(text):
        yield path, ROOT / path, ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for written, file, fragment in targets(page):
        assert file.exists(), f"{name(page)} points at {written}, which is not there"
        assert file.is_relative_to(ROOT), f"{name(page)} points at {written}, which is outside"
        assert not fragment or fragment in anchors(file), f"{name(page)}: {written} has no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    missing = [path for path in CODE.findall(text_of(page)) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_addresses_elsewhere_are_well_formed(page: Path) -> None:
    """They are not asked: the tests need no network."""
    for link in LINK.findall(text_of(page)):
        scheme = urlsplit(link).scheme
        assert scheme in ("", "http", "https", "mailto"), link
    for address in URL.findall(page.read_text(encoding="utf-8")):
        parts = urlsplit(address.rstrip(".,;:"))
        assert parts.hostname, address
        assert re.fullmatch(r"[\w.*-]+", parts.hostname), address


@pytest.mark.parametrize("door", ["README.md", "README.ja.md"])
def test_every_page_is_reached_from_the_readme(door: str) -> None:
    seen, waiting = set(), [ROOT / door]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        if page == ROOT / door or page.parent == ROOT / "docs":  # through docs/, but not through the other language
            waiting += [file for _, file, _ in targets(page) if file.exists()]
    unreached = sorted(name(page) for page in ROOT.glob("docs/**/*.md") if page not in seen)
    assert unreached == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = ROOT / "docs/architecture.md"
    assert anchors(ROOT / "README.md") >= {"measured", "register-and-serve", "azure-ml"}
    assert "制限" in anchors(ROOT / "README.ja.md")
    broken = tmp_path / "page.md"
    broken.write_text("[a](nowhere.md) and [b](page.md#part)\n\n# Part\n\n```\n[c](code.md)\n```\n", encoding="utf-8")
    found = [(written, file.exists(), fragment in anchors(broken)) for written, file, fragment in targets(broken)]
    assert found == [("nowhere.md", False, False), ("page.md#part", True, True)]
    assert page.is_file()
