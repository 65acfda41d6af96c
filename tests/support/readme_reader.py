"""A reader who types the README's commands, in a folder where its placeholders are real, in settings of seconds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from conftest import scan_points
from readme_text import ROOT, Block
from service import Service, serving
from verbs import SMALL_MODEL, SMALL_TRAINING, SMALL_WORLD, Done, own_environment, run

from pointseg.quality.submission import TEST_SCANS

# What stands in capitals for something of the reader's: there from the start, or made by a command before. Anything else in
# capitals is refused, so that nobody writes a command that this reader cannot type.
GIVEN = ("DIR", "SCANS", "NEW_SCANS", "RUN_FOLDER", "OTHER_RUN")
MADE = ("REPORT", "STORE", "TABLES", "EXPORTED", "FILE.zip")
CAPITALS = re.compile(r"(?<![\w-])[A-Z][A-Z_]+(?:\.zip)?(?![\w-])")

TRAINING = [word for word in SMALL_TRAINING if not word.startswith("trainer.max_epochs")] + ["trainer.max_epochs=1"]
OTHER_MODEL = [
    "model.channels=8",
    "data.points=400",
    "data.paste.probability=0",
    "data.streets.count=0",
    "inference.points_per_pass=null",
]
WHOLE_MODEL = [
    "data.clouds_per_scan=1",
    "data.batch_size=2",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
]
# Smaller than what the README says, where it says it; and what is added where the command does not say it itself.
SMALLER = {
    "synthetic.scans": "11",
    "synthetic.beams": "16",
    "data.azimuth_steps": "64",
    "compute.sweep.trials": "2",
    "gate.miou": "0",
}
WORLD = ["synthetic.scans=11", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
QUICK: dict[str, list[str]] = {
    "train": TRAINING,
    "models": ["names=[pointnet]", "points=2000"],
    "prepare": ["processes=1"],
    "evaluate": [],
    "predict": [],
    "select": ["spacing=0"],
    "report": ["bootstrap=100"],
    "export": ["scans=1"],
    "pipeline": [f"train=[+experiment=kitti,{','.join(TRAINING)}]"],
    "register_model": [],
    "serve": [],
    "invoke": [],
    "provision": [],
    "register_data": [],
    "deploy": [],
    "teardown": [],
}
# And of a target.
TARGETS: dict[str, list[str]] = {
    "target=local": ["local.port=0"],
    "target=managed": ["managed.step_seconds=0", "managed.checks=10", "managed.smoke_scan=000000.bin"],
}
# Programs of the benchmarks, as small as they go.
BENCHMARKS = {"tests/benchmarks/gradient_boosting.py": ["--points", "200"]}
# Run by .ci/run itself, or by a test of their own in test_readme.py.
MAKE = ("demo", "test", "test-all", "ui", "bench")
EXPORT = ["export", "POINTSEG_KEY=$(openssl", "rand", "-hex", "32)"]
ACTIVATE = ["source", ".venv/bin/activate"]


def verb_of(words: Sequence[str]) -> str:
    """The verb or script that a command starts; "" where it is none."""
    if words[:2] == ["python", "-m"]:
        return words[2].removeprefix("pointseg.") if words[2].startswith("pointseg.") else ""
    match = re.fullmatch(r"scripts/(\w+)\.py", words[1]) if words[0] == "python" else None
    return match[1] if match else ""


def what_is_odd(words: Sequence[str]) -> str:
    """Why this reader cannot type a command; "" if it can."""
    if words in (ACTIVATE, EXPORT):
        return ""
    for name in CAPITALS.findall(" ".join(words[1:])):
        if name not in GIVEN + MADE:
            return f"nobody knows what {name} stands for"
    if (words[0] == "make" and len(words) == 2 and words[1] in MAKE) or _extras(words):
        return ""
    if verb_of(words) in QUICK or (words[0] == "python" and words[1] in BENCHMARKS):
        return ""
    return "no test knows how to run it"


def _extras(words: Sequence[str]) -> list[str]:
    """The extras that a command installs from this folder."""
    if words[:4] != ["python", "-m", "pip", "install"] or words[4] != "-c" or words[6] != "-e" or len(words) != 8:
        return []
    match = re.fullmatch(r"\.\[([\w,]+)\]", words[7])
    return match[1].split(",") if match else []


def asks_azure(words: Sequence[str]) -> bool:
    """Whether a command needs a workspace."""
    here = "compute.dry_run=true" in words
    return (
        verb_of(words) in ("provision", "register_data", "teardown")
        or (verb_of(words) == "deploy" and "target=local" not in words)
        or any(word.startswith(("endpoint=batch:", "endpoint=online:", "data.root=azureml:")) for word in words)
        or (not here and any(word.startswith("compute=aml_") for word in words))
    )


def key_of(word: str) -> str:
    return word.split("=", 1)[0].lstrip("+")


class Reader:
    """Types commands one after another in one folder.

    Args:
        folder: gets a data set `DIR`, clouds `SCANS`, other small things of those names, and whatever commands leave.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.service: Service | None = None
        self.names: dict[str, object] = {"__name__": "readme"}  # of the Python blocks, which go on from each other
        self.environment: dict[str, str] = {}
        self._stack = stack
        self._runs = self._results_made = 0
        self._typed: dict[tuple[str, ...], Done] = {}

    def furnish(self) -> None:
        """What the README's reader has before the first command."""
        good(run("prepare", "output=DIR", *WORLD, *QUICK["prepare"], "report=false", cwd=self.folder))
        for sequence in TEST_SCANS:  # without labels, as the test sequences of SemanticKITTI are
            velodyne = self.folder / f"DIR/sequences/{sequence}/velodyne"
            velodyne.mkdir(parents=True)
            scan_points(200, seed=int(sequence)).tofile(velodyne / "000000.bin")
        (self.folder / "DIR/manifest.json").unlink()  # it knows only what prepare wrote
        for number, name in enumerate(("SCANS", "NEW_SCANS", "NEW_SCANS")):
            (self.folder / name).mkdir(exist_ok=True)
            scan_points(900, seed=number).tofile(self.folder / name / f"{number:06d}.bin")
        shutil.copy(self.folder / "SCANS/000000.bin", self.folder / "000000.bin")
        shutil.copy(ROOT / "pointseg/core/label_maps/semantickitti.yaml", self.folder / "my_classes.yaml")
        _write_laz(self.folder / "street.laz", scan_points(900, seed=9))

    def train(self, words: Sequence[str]) -> None:
        """The README's own training leaves RUN_FOLDER and, with another seed, OTHER_RUN."""
        self.type(words, into="RUN_FOLDER")
        good(self._verb("train", [*words[3:], "seed=7", "hydra.run.dir=OTHER_RUN"]))

    def read(self, block: Block) -> None:
        """All commands of a block. What a training in it leaves is the RUN_FOLDER of those below it."""
        run_folder = "RUN_FOLDER"
        for words in block.commands:
            typed = [word.replace("RUN_FOLDER", run_folder) for word in words]
            self.type(typed)
            if self._begins_a_run(words) and tuple(typed) not in self._typed:
                run_folder = f"run-{self._runs}"

    @staticmethod
    def _begins_a_run(words: Sequence[str]) -> bool:
        keys = {key_of(word) for word in words}
        return verb_of(words) == "train" and "-m" not in words[3:] and not keys & {"resume", "rerun", "hydra.run.dir"}

    def type(self, words: Sequence[str], into: str | None = None) -> Done | None:
        """One command; what was typed before is not typed again."""
        if tuple(words) in self._typed:
            return self._typed[tuple(words)]
        if words == ACTIVATE:
            return None
        if words == EXPORT:
            self.environment["POINTSEG_KEY"] = _exported(words)
            return None
        verb = verb_of(words)
        if verb == "serve":
            self.service = self._stack.enter_context(serving(self.folder, words[3:]))
            return None
        if "target=local" in words and "endpoint=street" in words and "local.action=stop" not in words:
            self._stack.callback(run, "deploy", "target=local", "local.action=stop", "endpoint=street", cwd=self.folder)
        if extras := _extras(words):
            known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert set(extras) <= set(known), f"there is no such extra: {extras}"
            assert (ROOT / words[5]).is_file()
            return None
        if not verb:
            return self._program(words)
        given = words[3:] if words[1] == "-m" else words[2:]
        if self._begins_a_run(words):
            self._runs += 1
            given = [*given, f"hydra.run.dir={into or f'run-{self._runs}'}"]
        done = good(self._verb(verb, given), words)
        if into:
            self._typed[tuple(words)] = done
        return done

    def _verb(self, verb: str, given: Sequence[str]) -> Done:
        words = self.quick(verb, given)
        promised = self._promised(words)
        done = run(verb, *words, cwd=self.folder, **self.environment)
        for path in promised:
            assert path.exists() and (path.is_file() or any(path.iterdir())), f"{path.name} was promised\n{done.out}"
        return done

    def quick(self, verb: str, given: Sequence[str]) -> list[str]:
        """The words of a command in settings of seconds."""
        words = [f"{key_of(w)}={SMALLER[key_of(w)]}" if key_of(w) in SMALLER else w for w in given]
        if "output=DIR" in words:  # DIR is the data set; and each result has a place of its own
            self._results_made += 1
            words[words.index("output=DIR")] = f"output=result-{self._results_made}"
        if self.service is not None:
            words = [re.sub(r"^url=http://127\.0\.0\.1:8000$", f"url={self.service.url}", word) for word in words]
        keys = {key_of(word) for word in words}
        more = [*QUICK[verb], *(key for word in given for key in TARGETS.get(word, []))]
        if keys & {"resume", "rerun"} and "resume=auto" not in words:
            more = []  # the run's own settings, which are small
        if verb == "train" and not keys & {"data.root", "resume", "rerun"}:
            more += SMALL_WORLD
        if any(word.startswith("+experiment=kitti_") for word in words):  # not PointNet
            whole = "init=street" in words  # begins with the weights of the whole model
            other = [*WHOLE_MODEL, *OTHER_MODEL[1:]] if whole else OTHER_MODEL
            known = {key_of(word) for word in other}
            more = [*other, *(word for word in more if word not in SMALL_MODEL and key_of(word) not in known)]
        if verb in ("prepare", "pipeline") and "input" not in keys:
            more += WORLD
        return [*words, *(word for word in more if key_of(word) not in keys)]

    def _promised(self, words: Sequence[str]) -> list[Path]:
        values = dict(word.split("=", 1) for word in words if "=" in word)
        if any(word.startswith("submission=") for word in words) and "input" not in values:
            return []
        return [self.folder / values[key] for key in ("output", "submission", "hydra.run.dir") if key in values]

    def _program(self, words: Sequence[str]) -> Done:
        command = [sys.executable, str(ROOT / words[1]), *words[2:], *BENCHMARKS[words[1]]]
        done = subprocess.run(
            command, cwd=self.folder, env=own_environment(), capture_output=True, text=True, timeout=300, check=False
        )
        return good(Done(done.returncode, done.stdout, done.stderr), words)


def _exported(words: Sequence[str]) -> str:
    """The value that a shell gives the variable."""
    line = f'{" ".join(words)}; printf %s "$POINTSEG_KEY"'
    value = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    assert len(value) == 64
    return value


def good(done: Done, words: Sequence[str] = ()) -> Done:
    assert done.code == 0, f"exit code {done.code}: {' '.join(words)}\n{done.out}\n{done.err}"
    return done


def _write_laz(path: Path, points: np.ndarray) -> None:
    import laspy

    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = np.full(3, 0.001), np.zeros(3)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points[:, 0], points[:, 1], points[:, 2]
    cloud.intensity = (points[:, 3] * 255).astype(np.uint16)
    cloud.write(path)
