"""The environment and the image of the scoring service, as far as they go without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import scan_points
from inference_server import LAUNCHER, ROOT, Server, free_port, serving_python, until_ready
from verbs import trained_run

from pointseg import Client, Predictor

REQUIREMENTS = ROOT / "environments" / "serving.txt"
MONITORING = ROOT / "environments" / "serving-monitoring.txt"  # which the tests' environment has as well
KEY = "k3y-of-the-container"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(*files: Path) -> dict[str, str]:
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in found.items()}


@pytest.mark.inference_server
def test_the_environment_is_what_its_file_says() -> None:
    listing = [serving_python(), "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"]
    done = subprocess.run(listing, capture_output=True, text=True, check=True)
    installed = {normal(one["name"]): one["version"].partition("+")[0] for one in json.loads(done.stdout)}
    for own in ("pip", "pointseg"):
        installed.pop(own, None)
    assert installed == pins(REQUIREMENTS, MONITORING)


# ---- the image -----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile, in order."""
    text = (ROOT / "environments" / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, " ".join(words.split())) for name, _, words in pairs]


def last(name: str) -> str:
    return [words for instruction, words in instructions() if instruction == name][-1]


def test_the_image_is_not_run_by_root() -> None:
    names = [name for name, _ in instructions()]
    assert last("USER") == "scorer"
    assert names.index("USER") < names.index("CMD")
    assert instructions()[0] == ("FROM", "python:3.11-slim")


def test_what_is_copied_is_sent_to_the_builder() -> None:
    """.dockerignore lets through what COPY names, and neither environments, scans nor runs."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    sent = {line[1:] for line in lines if line.startswith("!")}
    for name, words in instructions():
        for source in words.split()[:-1] if name == "COPY" else []:
            assert (ROOT / source).exists()
            assert any(source == one or source.startswith(one + "/") for one in sent), source
    assert not {"tests", "outputs", ".venv", "docs"} & sent


class Built:
    """The Dockerfile's steps, done below a folder instead of in a container."""

    def __init__(self, folder: Path) -> None:
        self.root, self.venv = folder / "root", folder / "venv"
        self.here = Path("/")
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = {**kept, "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "TORCH_INDEX": ""}
        subprocess.run([sys.executable, "-m", "venv", str(self.venv)], check=True)
        for name, words in instructions():
            getattr(self, f"do_{name.lower()}", lambda words: None)(words)

    def inside(self, path: str) -> Path:
        return self.root / str(self.here / path).lstrip("/")

    def do_workdir(self, words: str) -> None:
        self.here = self.here / words
        self.inside(".").mkdir(parents=True, exist_ok=True)

    def do_copy(self, words: str) -> None:
        *sources, target = words.split()
        for source in sources:
            place = self.inside(target)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)

    def do_run(self, words: str) -> None:
        if words.startswith("useradd "):
            return  # users of this machine are left alone
        subprocess.run(["sh", "-ec", words], cwd=self.inside("."), env=self.environment, check=True, timeout=800)

    def do_env(self, words: str) -> None:
        self.environment |= dict(pair.split("=", 1) for pair in shlex.split(words))

    def start(self, model: Path, port: int, **more: str) -> Server:
        """CMD, with paths below the folder, on 127.0.0.1 and another port."""
        command = json.loads(last("CMD"))
        assert command[0] == "azmlinfsrv"
        arguments = [
            str(port) if word == "5001" else word.replace("/app", str(self.inside("/app"))) for word in command[1:]
        ]
        log = self.root / f"server-{port}.log"
        environment = self.environment | {"AZUREML_MODEL_DIR": str(model), **more}
        with open(log, "wb") as out:
            words = [str(self.venv / "bin" / "python"), "-c", LAUNCHER, *arguments]
            process = subprocess.Popen(
                words, cwd=self.inside("."), env=environment, stdout=out, stderr=subprocess.STDOUT
            )
        return Server(f"http://127.0.0.1:{port}", process, log)

    def health(self, port: int) -> int:
        """The exit code of HEALTHCHECK's command."""
        words = json.loads(last("HEALTHCHECK").partition("CMD ")[2].replace("5001", str(port)))
        return subprocess.run(words, env=self.environment, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("image")
    yield Built(folder)
    shutil.rmtree(folder)  # a gigabyte


@pytest.mark.slow
@pytest.mark.inference_server
def test_the_image_scores_for_who_has_the_key(built: Built, tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = trained_run(tmp_path_factory) / "bundle"
    port = free_port()
    assert built.health(port) != 0
    server = built.start(bundle, port, POINTSEG_API_KEY=KEY)
    try:
        until_ready(server)
        assert built.health(port) == 0
        assert server.addresses() == {"127.0.0.1"}
        points = scan_points(800, seed=1)
        with Client(server.url, KEY) as client:
            assert (client.score(points).labels == Predictor.load(bundle)(points)).all()
        answer = requests.post(server.url + "/score", data=points.tobytes(), timeout=30)
        assert answer.status_code == 401
        assert answer.json()["error"]["what"] == "a key is needed"
        assert KEY not in server.said
    finally:
        server.process.terminate()
        server.process.wait(30)


@pytest.mark.slow
@pytest.mark.inference_server
def test_the_image_does_not_start_without_a_key(built: Built, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = built.start(trained_run(tmp_path_factory) / "bundle", free_port())
    assert server.process.wait(90) != 0
    assert "error: there is no key, and everybody could use the service: POINTSEG_API_KEY." in server.said
