"""Who may import whom: by the source text, and by running with packages taken away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from house_graph import (
    FILES,
    FRONT_DOOR,
    IMPORTS,
    PACKAGE,
    PROGRAMS,
    circles,
    floor_of,
    imports_of,
    ours,
    room_imports,
    room_of,
    within,
)
from numpy.typing import NDArray

from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.predictor import Predictor

WITH_SCIPY = "pointseg.models.waffleiron.preparation"  # searches neighbours

# Blocks each installed package that is neither one of the four that prediction needs nor one that those require.
BLOCK = """
import re, sys
from importlib.metadata import packages_distributions, requires

def required(name, seen):
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name not in seen:
        seen.add(name)
        try:
            lines = requires(name) or []
        except ModuleNotFoundError:
            lines = []
        for line in lines:
            if "extra ==" not in line:
                required(re.match(r"[A-Za-z0-9._-]+", line)[0], seen)
    return seen

needed = set()
for name in ("torch", "numpy", "safetensors", "PyYAML", "pointseg"):
    required(name, needed) if name != "pointseg" else needed.add(name)
blocked = {
    package
    for package, distributions in packages_distributions().items()
    if not any(re.sub(r"[-_.]+", "-", d).lower() in needed for d in distributions)
}
blocked |= {"pytorch_lightning", "lightning_fabric", "torchmetrics", "hydra", "omegaconf", "mlflow", "matplotlib"}
blocked |= {"tqdm", "psutil", "filelock", "sklearn", "pandas", "scipy", "azure"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Blocker())
"""


def python(program: str, *arguments: object) -> str:
    """Output of a program in a fresh interpreter."""
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_of_pointseg_is_light() -> None:
    heavy = "['torch', 'pytorch_lightning', 'lightning_fabric', 'hydra', 'omegaconf', 'mlflow', 'numpy']"
    assert python(f"import sys, pointseg; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_import_of_the_predictor_needs_no_training_packages() -> None:
    unwanted = "['pytorch_lightning', 'lightning_fabric', 'hydra', 'omegaconf', 'mlflow', 'matplotlib', 'sklearn']"
    program = f"import sys; from pointseg import Predictor; print([m for m in {unwanted} if m in sys.modules])"
    assert python(program) == "[]"


def test_prediction_works_without_the_other_packages(
    tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    save_bundle(tmp_path / "bundle", trained)
    np.save(tmp_path / "scan.npy", scan)
    program = BLOCK + (
        "import numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "from pointseg import Predictor\n"
        "folder = sys.argv[1]\n"
        "np.save(folder + '/ids.npy', Predictor.load(folder + '/bundle')(np.load(folder + '/scan.npy')))\n"
    )
    python(program, tmp_path)
    assert np.array_equal(np.load(tmp_path / "ids.npy"), Predictor(trained)(scan))


def test_the_packages_are_really_blocked() -> None:
    program = BLOCK + "try:\n    import pytorch_lightning\nexcept ImportError as error:\n    print(error.name)"
    assert python(program) == "pytorch_lightning"


# ---- by the source text ------------------------------------------------------------------------------------------


def theirs(module: str) -> set[str]:
    """Third-party packages."""
    names = {name.partition(".")[0] for name in IMPORTS[module]}
    return {name for name in names if name not in sys.stdlib_module_names and name not in {"pointseg", "__future__"}}


def importers(*packages: str) -> set[str]:
    return {module for module, names in IMPORTS.items() if any(within(name, set(packages)) for name in names)}


def test_the_package_was_found() -> None:
    assert {"pointseg", "pointseg.core.labels", "pointseg.models.pointnet.network"} <= set(IMPORTS)


def test_every_kind_of_import_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pointseg.core.labels import LabelMap\n"
        "def on_use():\n    from pointseg.engine import bundle\n"
        "BY_NAME = 'pointseg.serving.client'\n"
    )
    assert imports_of(file) == {"typing", "pointseg.core.labels", "pointseg.engine.bundle", "pointseg.serving.client"}


def test_a_room_imports_from_lower_floors_only() -> None:
    wrong = {
        f"{module} imports {name}"
        for (room, other), pairs in room_imports().items()
        if floor_of(other) >= floor_of(room)
        for module, name in pairs
    }
    assert wrong == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles({module: ours(module) for module in IMPORTS if module not in PROGRAMS}) == []


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["b", "c"]]


def test_nothing_imports_what_other_programs_start() -> None:
    assert {module for module in IMPORTS for name in ours(module) if name in PROGRAMS} == set()


def test_nothing_imports_the_front_door() -> None:
    allowed = PROGRAMS | {"pointseg.errors"}
    assert {m for m in IMPORTS for name in ours(m) if name in FRONT_DOOR and m not in allowed} == set()


def test_prediction_needs_four_packages() -> None:
    reached, waiting = set(), ["pointseg.engine.predictor"]
    while waiting:
        module = waiting.pop()
        if module not in reached and module != "pointseg.engine.onnx_model":  # imported on use, for exported models
            reached.add(module)
            waiting += [name for name in ours(module) if name in IMPORTS]
    assert "pointseg.models.pointnet.network" in reached
    reached -= {WITH_SCIPY}
    assert {name for module in reached for name in theirs(module)} <= {"torch", "numpy", "safetensors", "yaml"}


def test_scipy_is_asked_for_where_a_model_needs_it() -> None:
    assert importers("scipy") == {WITH_SCIPY}
    assert theirs(WITH_SCIPY) == {"numpy", "scipy"}
    assert "from scipy" not in FILES[WITH_SCIPY].read_text(encoding="utf-8").split("\ndef ")[0]  # on use


@pytest.mark.parametrize("module", ["client", "transport"])
def test_a_caller_needs_two_packages(module: str) -> None:
    assert theirs(f"pointseg.serving.{module}") <= {"numpy", "requests", "urllib3"}


@pytest.mark.parametrize(
    ("packages", "rooms"),
    [
        (("torch", "numpy"), None),
        (("mlflow",), {"tracking"}),
        (("hydra", "omegaconf"), {"cli"}),
        (("pytorch_lightning", "lightning_fabric"), {"data", "engine", "tracking"}),
        (("torchmetrics",), {"engine"}),
        (("azure",), {"azure"}),
        (("fastapi", "uvicorn", "starlette"), {"serving"}),
        (("optuna",), {"jobs"}),
        (("jinja2", "matplotlib"), {"pages"}),
        (("azureml_inference_server_http", "flask"), {"serving"}),
    ],
)
def test_a_package_stays_in_its_rooms(packages: tuple[str, ...], rooms: set[str] | None) -> None:
    if rooms is None:  # models are plain networks
        models = [module for module in IMPORTS if room_of(module) == "models" and module != WITH_SCIPY]
        assert {name for module in models for name in theirs(module)} <= set(packages)
        return
    allowed = rooms | {"verbs"} if "hydra" in packages else rooms
    found = {module for module in importers(*packages) if module not in PROGRAMS}
    assert {module for module in found if room_of(module) not in allowed} == set()


def test_a_script_is_as_thin_as_a_verb() -> None:
    for path in sorted((PACKAGE.parent / "scripts").glob("*.py")):
        names = {name for name in imports_of(path) if name not in sys.stdlib_module_names | {"__future__"}}
        assert {name for name in names if not within(name, {"pointseg.cli"})} == set()
