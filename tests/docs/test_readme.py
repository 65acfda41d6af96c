"""Every command of README.md and README.ja.md works: typed in one folder, in the order of a reader, in settings of seconds."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from readme_reader import ACTIVATE, MAKE, Reader, asks_azure, verb_of, what_is_odd
from readme_text import ENGLISH, JAPANESE, ROOT, Block, blocks, figures, prose, sections, tables
from verbs import empty_database, own_environment

from pointseg.quality import submission

BLOCKS = blocks(ENGLISH)
SHELL = [block for block in BLOCKS if block.kind == "shell"]
COMMANDS = [words for block in SHELL for words in block.commands]
HERE = [  # the others are make's, or Azure's: typed in tests/azure/test_readme_on_azure.py
    block
    for block in BLOCKS
    if block.kind == "python"
    or (
        any(words[0] != "make" and words != ACTIVATE for words in block.commands)
        and not any(map(asks_azure, block.commands))
    )
]
NAMED = (
    "az login",
    "az ml job create",
    "mlflow models serve",
)  # other people's programs that are spoken of, not asked for
TRAINING = ["python", "-m", "pointseg.train", "+experiment=kitti", "data.root=DIR"]


# ---- what can be seen by reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_known_to_the_reader(words: list[str]) -> None:
    assert not what_is_odd(words), f"{what_is_odd(words)}: {' '.join(words)}"


def test_a_command_that_nobody_runs_is_found() -> None:
    assert what_is_odd(["python", "-m", "pointseg.tran"])
    assert what_is_odd(["make", "coffee"])
    assert what_is_odd(["curl", "http://127.0.0.1:8000"])
    assert what_is_odd(["python", "-m", "pointseg.train", "data.root=FOLDER"])


def test_both_languages_give_the_same_commands_and_code() -> None:
    mine, theirs = blocks(ENGLISH), blocks(JAPANESE)
    for one, other in zip(mine, theirs, strict=False):
        assert one.meaning == other.meaning, f"README.md:{one.line} and README.ja.md:{other.line}"
    assert len(mine) == len(theirs)


def test_both_languages_give_the_same_figures() -> None:
    assert tables(ENGLISH) == tables(JAPANESE)
    mine, theirs = sections(ENGLISH), sections(JAPANESE)
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        measured = [sorted(f for f in figures(text) if "." in f or len(f) > 2) for text in (one, other)]
        assert measured[0] == measured[1], one.splitlines()[0]


@pytest.mark.parametrize("document", [ENGLISH, JAPANESE], ids=["en", "ja"])
def test_commands_stand_in_blocks_where_they_are_run(document: Path) -> None:
    inline = re.findall(
        r"`((?:python|pip|mlflow|az|docker|curl) [^`]+|make [\w-]+)`", prose(document).replace("\n", " ")
    )
    typed = {" ".join(words) for words in COMMANDS}
    assert [code for code in inline if code not in typed and code not in NAMED] == []


def test_the_main_commands_are_run_from_nothing_by_ci() -> None:
    steps = (ROOT / ".ci/run").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^make demo\b", steps, re.MULTILINE)
    assert re.search(r"^make test\b", steps, re.MULTILINE)
    assert re.search(r"^make test-slow\b", steps, re.MULTILINE)
    assert re.search(r"^test-all: test test-slow$", makefile, re.MULTILINE)
    assert steps.index("rm -rf .venv") < steps.index("make demo")
    assert re.search(r"^VENV \?= \.venv$", makefile, re.MULTILINE)  # which the README activates
    assert {words[1] for words in COMMANDS if words[0] == "make"} == set(MAKE)


def test_azure_has_its_commands() -> None:
    """They are typed in tests/azure/test_readme_on_azure.py."""
    assert {verb_of(words) for words in COMMANDS if asks_azure(words)} >= {"train", "deploy", "invoke", "provision"}


# ---- what is typed -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "mlruns.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for sequence in submission.TEST_SCANS:  # the server wants 20,351 scans; here each sequence has one
            patch.setitem(submission.TEST_SCANS, sequence, 1)
        reader = Reader(folder, stack)
        reader.furnish()
        reader.train(next(words for words in COMMANDS if words == TRAINING))
        yield reader


@pytest.mark.slow
@pytest.mark.parametrize("block", HERE, ids=lambda block: block.title)
def test_a_block_works(block: Block, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.kind == "shell":
        reader.read(block)
        return
    text = block.text
    if "127.0.0.1:8000" in text:
        assert reader.service is not None, "the README serves before it calls"
        text = text.replace("http://127.0.0.1:8000", reader.service.url)
    monkeypatch.chdir(reader.folder)
    exec(compile(text, f"README.md:{block.line}", "exec"), reader.names)


@pytest.mark.slow
def test_a_run_leaves_what_the_listing_says(reader: Reader) -> None:
    (listing,) = [block for block in BLOCKS if block.kind == "listing"]
    names = [line.split()[0] for line in listing.text.splitlines()[1:]]
    assert len(names) >= 6
    for name in names:
        assert (reader.folder / "RUN_FOLDER" / name).exists(), name
    assert {path.name for path in (reader.folder / "RUN_FOLDER/bundle").iterdir()} == {
        "weights.safetensors",
        "model.yaml",
    }


@pytest.mark.slow
def test_make_ui_answers(reader: Reader) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with make("ui", f"PORT={port}", "-o", ".venv/.main", cwd=reader.folder) as process:
        assert b"MLflow" in _page(f"http://127.0.0.1:{port}", process)


@pytest.mark.slow
def test_make_bench_measures() -> None:
    small = "ARGS=--points 2000 --clouds 2 --cloud-points 64 --memory-points 64 --rounds 1"
    with make("bench", small, "-o", ".venv/.dev", cwd=ROOT) as process:
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert b"fast" in said


@contextmanager
def make(*words: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`make WORDS` with this environment instead of .venv; what it started ends with it."""
    command = ["make", "-f", str(ROOT / "Makefile"), f"BIN={Path(sys.executable).parent}", *words]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def _page(url: str, process: subprocess.Popen[bytes], seconds: float = 240) -> bytes:
    end = time.monotonic() + seconds
    while True:
        try:
            with urlopen(url, timeout=10) as answer:
                return bytes(answer.read())
        except (URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < end, "it does not answer"
            time.sleep(0.3)
