"""What stands for a folder's content, and what must not be uploaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pointseg.azure.resources import folder_content as folders
from pointseg.azure.resources.folder_content import folder_content
from pointseg.core.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a/one.bin").write_bytes(b"1234")
    (root / "two.txt").write_bytes(b"two")
    return root


def test_the_hash_is_that_of_names_and_contents(folder: Path) -> None:
    lines = ""
    for name in ("a/one.bin", "two.txt"):
        content = (folder / name).read_bytes()
        lines += f'"{name}" {len(content)} {hashlib.sha256(content).hexdigest()}\n'
    found = folder_content(folder)
    assert (found.files, found.bytes) == (2, 7)
    assert found.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert found.version == found.sha256[:12]


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a/one.bin").write_bytes(b"1235"),
        lambda root: (root / "a/one.bin").rename(root / "a/two.bin"),
        lambda root: (root / "a/one.bin").rename(root / "one.bin"),
        lambda root: (root / "three").write_bytes(b""),
        lambda root: (root / "two.txt").unlink(),
    ],
)
def test_every_change_changes_it(folder: Path, change: Callable[[Path], object]) -> None:
    before = folder_content(folder)
    change(folder)
    assert folder_content(folder).sha256 != before.sha256


def test_times_places_and_empty_folders_do_not(folder: Path, tmp_path: Path) -> None:
    before = folder_content(folder)
    os.utime(folder / "two.txt", (0, 0))
    (folder / "empty").mkdir()
    moved = folder.rename(tmp_path / "moved")
    assert folder_content(moved) == before
    (tmp_path / "link").symlink_to(moved)
    assert folder_content(tmp_path / "link") == before


def test_a_file_to_be_written_counts_as_if_it_were_there(folder: Path) -> None:
    coming = folder_content(folder, {"MLTable": "type: mltable\n"})
    (folder / "MLTable").write_text("type: mltable\n")
    assert folder_content(folder) == coming


def link(target: str, name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (link("/etc/hostname", "out"), "a link leads out of the folder: out -> /etc/hostname"),
        (link("/etc", "a/out"), "a link leads out of the folder: a/out -> /etc"),
        (link("nowhere", "out"), "a link leads nowhere: out"),
        (link("a", "again"), "a link to a folder would be uploaded twice, or not at all: again"),
        (lambda root: os.mkfifo(root / "pipe"), "this is not a file: pipe"),
        (lambda root: (root / ".amlignore").write_text("*.bin"), "excludes others from the upload: .amlignore"),
        (lambda root: (root / "a/id_rsa").write_text("x"), "looks like a secret would be uploaded: a/id_rsa"),
        (lambda root: (root / ".env").write_text("x"), "looks like a secret would be uploaded: .env"),
        (
            lambda root: (root / "notes.txt").write_text("-----BEGIN " + "PRIVATE KEY-----\n"),
            "with a key in it would go along: notes.txt",
        ),
        (
            lambda root: (root / "conf.ini").write_text("password = abcdefghijklmnop1234\n"),
            "a value for password would go along: conf.ini",
        ),
    ],
)
def test_what_must_not_go_along(folder: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(folder)
    with pytest.raises(ConfigError) as caught:
        folder_content(folder)
    assert says in str(caught.value)
    assert "code" not in caught.value.remedy


def test_links_to_files_within_are_their_content(folder: Path) -> None:
    (folder / "copy.bin").write_bytes(b"1234")
    before = folder_content(folder)
    (folder / "copy.bin").unlink()
    (folder / "copy.bin").symlink_to("a/one.bin")
    assert folder_content(folder) == before


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_folder_and_none(tmp_path: Path, empty: bool) -> None:
    if empty:
        (tmp_path / "data/empty").mkdir(parents=True)
    with pytest.raises(DataError, match="the folder is empty" if empty else "no such folder"):
        folder_content(tmp_path / "data")


def test_large_files_are_not_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in gigabytes of a table is not looked for: they are read once, for the hash, a piece at a time."""
    monkeypatch.setattr(folders, "refuse_secret", lambda *_: pytest.fail("it was read whole"))
    (folder / "two.txt").unlink()
    with open(folder / "large.csv", "wb") as file:
        file.truncate(folders.SMALL + 1)
    assert folder_content(folder).files == 2
