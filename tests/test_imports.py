"""Who may import whom: by the source text, and by running with packages taken away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from import_graph import IMPORTS, PACKAGE, imports_of, ours, within
from numpy.typing import NDArray

from pointseg.bundle import TrainedModel, save_bundle
from pointseg.predictor import Predictor

VERBS = {"train", "evaluate", "predict", "prepare", "report.__main__", "export", "serve", "pipeline"}

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
    assert {"pointseg", "pointseg.labels", "pointseg.models.pointnet"} <= set(IMPORTS)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("pointseg.errors", set()),
        ("pointseg.labels", {"errors"}),
        ("pointseg.features", {"errors"}),
        ("pointseg.randomness", {"errors"}),
        ("pointseg.losses", {"errors"}),
        ("pointseg.metrics", {"errors"}),
        ("pointseg.bundle", {"errors", "features", "files", "labels", "models", "randomness"}),
        (
            "pointseg.predictor",
            {
                "bundle",
                "errors",
                "features",
                "files",
                "inference",
                "input_check",
                "labels",
                "memory",
                "models",
                "views",
            },
        ),
        ("pointseg.inference", {"bundle", "errors", "features", "memory", "models", "randomness"}),
        ("pointseg.serving.wire", {"errors", "labels", "serving"}),
        ("pointseg.labelling", {"formats", "input_check", "labels", "predictor"}),
        ("pointseg.client", {"errors", "extras", "service_address", "transport"}),
        ("pointseg.transport", {"errors", "redact"}),
        ("pointseg.service_address", {"errors"}),
        ("pointseg.serving.engine", {"errors", "formats", "labelling", "predictor", "serving"}),
        ("pointseg.input_check", {"errors"}),
        ("pointseg.memory", set()),
        ("pointseg.data.seen", set()),
        (
            "pointseg.promotion",
            {"bootstrap", "data", "errors", "evaluation", "labels", "metrics", "predictor", "words"},
        ),
        # MLflow copies this file into models, which must work with later versions of the package
        ("pointseg.serving.pyfunc", {"errors", "Predictor"}),
    ],
)
def test_module_imports_only_what_it_may(module: str, allowed: set[str]) -> None:
    permitted = {f"pointseg.{name}" for name in allowed}
    assert {name for name in ours(module) if not within(name, permitted)} == set()


@pytest.mark.parametrize(
    "module", ["bundle", "errors", "features", "files", "input_check", "labels", "memory", "predictor", "randomness"]
)
def test_prediction_needs_four_packages(module: str) -> None:
    assert theirs(f"pointseg.{module}") <= {"torch", "numpy", "safetensors", "yaml"}


@pytest.mark.parametrize("module", ["client", "service_address", "transport"])
def test_a_caller_needs_two_packages(module: str) -> None:
    assert theirs(f"pointseg.{module}") <= {"numpy", "requests", "urllib3"}


def test_the_inference_server_stays_in_its_script() -> None:
    assert importers("azureml_inference_server_http", "flask") == {"pointseg.serving.score"}


def test_models_know_nothing_of_the_rest() -> None:
    models = [module for module in IMPORTS if within(module, {"pointseg.models"})]
    found = {name for module in models for name in ours(module)}
    assert {name for name in found if not within(name, {"pointseg.models", "pointseg.errors"})} == set()


def test_models_need_only_torch_and_numpy() -> None:
    models = [module for module in IMPORTS if within(module, {"pointseg.models"})]
    assert {name for module in models for name in theirs(module)} <= {"torch", "numpy"}


def test_data_knows_nothing_of_models_and_training() -> None:
    data = [module for module in IMPORTS if within(module, {"pointseg.data"})]
    unwanted = {"pointseg.models", "pointseg.module", "pointseg.training", "pointseg.tracking", "pointseg.cli"}
    assert {name for module in data for name in ours(module) if within(name, unwanted)} == set()


def test_hydra_stays_in_the_verbs() -> None:
    allowed = {f"pointseg.{name}" for name in VERBS | {"cli", "compute"}}
    assert {module for module in importers("hydra", "omegaconf") if not within(module, allowed)} == set()


def test_mlflow_stays_in_tracking() -> None:
    allowed = {"pointseg.tracking", "pointseg.serving.pyfunc"}
    assert {module for module in importers("mlflow") if not within(module, allowed)} == set()


def test_azure_stays_in_its_place() -> None:
    allowed = {"pointseg.azure", "pointseg.compute.azureml"}
    assert {module for module in importers("azure") if not within(module, allowed)} == set()


def test_a_script_is_as_thin_as_a_verb() -> None:
    for path in sorted((PACKAGE.parent / "scripts").glob("*.py")):
        names = {name for name in imports_of(path) if name not in sys.stdlib_module_names | {"__future__"}}
        assert {name for name in names if not within(name, {"pointseg.cli"})} == set()


def test_library_does_not_import_its_verbs() -> None:
    verbs = {f"pointseg.{name}" for name in VERBS}
    library = {module for module in IMPORTS if not within(module, verbs | {"pointseg.cli"})}
    found = {m for m in library for name in ours(m) if within(name, {"pointseg.cli", "pointseg.train"})}
    assert found == set()
