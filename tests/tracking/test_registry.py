"""Versions, aliases and formats in a real registry: a SQLite file, a server, and a server of the older API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_environment import bare_environment
from numpy.typing import NDArray
from registry_helpers import free_port, own_environment, running, server, without_logged_models
from verbs import empty_database

from pointseg.core.errors import ConfigError, TrackingError
from pointseg.engine.bundle import TrainedModel, load_bundle, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.exporting.triton import triton_repository
from pointseg.tracking import aliases, download_model
from pointseg.tracking.model_download import registered_version
from pointseg.tracking.model_registry import Registry, check_alias, check_name
from pointseg.tracking.packaging import MODEL_FORMATS, bundle_sha256, package

pytest.importorskip("mlflow", reason="MLflow is not installed")

FILES = {
    "mlflow_model": {"MLmodel", "pyfunc.py", "requirements.txt", "artifacts/bundle/weights.safetensors"},
    "custom_model": {"model.yaml", "weights.safetensors"},
    "triton_model": {"pointnetseg/config.pbtxt", "pointnetseg/1/model.onnx", "pointnetseg/1/model.yaml"},
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh database."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlruns.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    return folder


def register(registry: Registry, trained: TrainedModel, scratch: Path, form: str = "custom_model", **more: Any) -> Any:
    count = len(list(scratch.glob("made*")))
    folder = package(trained, scratch / f"made{count}" / "model", form, triton=triton_repository)
    return registry.register("street", folder, **({"tags": {"metrics.miou": 0.5}, "description": "Ours."} | more))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ---- formats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [form if form == "mlflow_model" else pytest.param(form, marks=pytest.mark.slow) for form in MODEL_FORMATS]
)
def test_a_version_of_any_format_predicts_as_its_bundle(
    form: str,
    home: Path,
    tmp_path: Path,
    trained: TrainedModel,
    scan: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry("auto", home)
    version = register(registry, trained, tmp_path, form)
    assert version.number == registry.holder("street", "candidate") == "1"
    stored = Path(version.source.removeprefix("file://"))
    assert FILES[form] <= names(stored)
    monkeypatch.chdir(home)
    found = Predictor.load("models:/street@candidate")(scan)
    assert np.mean(found == Predictor(trained)(scan)) > 0.999  # ONNX rounds another way


@pytest.mark.parametrize("form", ["mlflow_model", "custom_model"])
def test_files_that_were_changed_are_refused(
    form: str, home: Path, tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = save_bundle(tmp_path / "kept", trained)
    tags = {"bundle.sha256": bundle_sha256(kept)}
    version = register(Registry("auto", home), trained, tmp_path, form, tags=tags)
    monkeypatch.chdir(home)
    Predictor.load("models:/street@candidate")
    [weights] = Path(version.source.removeprefix("file://")).rglob("weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(TrackingError, match="not those that were registered"):
        Predictor.load("models:/street@candidate")


def test_an_mlflow_model_says_what_it_takes_and_nothing_of_this_machine(tmp_path: Path, trained: TrainedModel) -> None:
    import mlflow.models

    folder = package(trained, tmp_path / "model", "mlflow_model")
    info = mlflow.models.get_model_info(str(folder))
    signature = [(spec["type"], spec["tensor-spec"]) for spec in info.signature.inputs.to_dict()]
    assert signature == [("tensor", {"dtype": "float32", "shape": (-1, 4)})]
    example = json.loads((folder / "serving_input_example.json").read_text())["inputs"]
    assert np.array(example).shape == (64, 4)
    wanted = (folder / "requirements.txt").read_text()
    assert all(f"{name}==" in wanted for name in ("torch", "numpy", "scipy", "safetensors", "PyYAML"))
    assert "pointseg" not in wanted  # on no index: its code goes along
    assert (folder / "code/pointseg/engine/predictor.py").is_file()
    for file in folder.rglob("*"):
        assert file.suffix not in (".pkl", ".pth")
        assert not file.is_file() or str(tmp_path).encode() not in file.read_bytes()


@pytest.mark.slow
def test_the_bundle_in_a_model_is_the_bundle(tmp_path: Path, trained: TrainedModel) -> None:
    alone = save_bundle(tmp_path / "alone", trained)
    packed = package(trained, tmp_path / "model", "mlflow_model") / "artifacts" / "bundle"
    assert bundle_sha256(packed) == bundle_sha256(alone)
    assert load_bundle(packed).provenance == trained.provenance


def test_pyfunc_answers_as_the_predictor(tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    model = mlflow.pyfunc.load_model(str(package(trained, tmp_path / "model", "mlflow_model")))
    assert np.array_equal(model.predict(scan), Predictor(trained)(scan))
    for wrong in (scan[:, :3], np.column_stack([scan, scan[:, 0]]), scan.astype(np.float64), scan[:0]):
        with pytest.raises(MlflowException):
            model.predict(wrong)
    holed = scan.copy()
    holed[3, 2] = np.nan
    with pytest.raises(MlflowException, match="NaN"):
        model.predict(holed)


def test_a_format_that_is_not_there_is_refused(tmp_path: Path, trained: TrainedModel) -> None:
    with pytest.raises(ConfigError, match="mlflow_model, custom_model, triton_model"):
        package(trained, tmp_path / "model", "pickle")


# ---- versions ------------------------------------------------------------------------------------------------------


def test_a_version_holds_its_tags_description_and_run(home: Path, tmp_path: Path, trained: TrainedModel) -> None:
    registry = Registry("auto", home)
    first, second = (register(registry, trained, tmp_path) for _ in range(2))
    assert (first.number, second.number, registry.holder("street", "candidate")) == ("1", "2", "2")
    assert first.source != second.source
    stored = registry.client.get_model_version("street", "2")
    assert (stored.description, stored.tags, stored.status) == ("Ours.", {"metrics.miou": "0.5"}, "READY")
    assert registry.client.get_run(stored.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_run_that_is_there_holds_the_files(home: Path, tmp_path: Path, trained: TrainedModel) -> None:
    registry = Registry("auto", home)
    run = registry.client.create_run("0").info.run_id
    version = register(registry, trained, tmp_path, run_id=registry.find_run(run))
    assert version.run_id == run
    assert registry.client.get_run(run).info.status == "RUNNING"
    registry.client.delete_run(run)
    assert [registry.find_run(lost) for lost in (run, "0" * 32, None)] == [None, None, None]


@pytest.mark.slow
def test_secrets_and_long_texts_do_not_get_into_tags(home: Path, tmp_path: Path, trained: TrainedModel) -> None:
    tags = {"address": "https://user:plantedsecret@host/x", "long": "x" * 9000, "none": None}
    version = register(Registry("auto", home), trained, tmp_path, tags=tags)
    assert "plantedsecret" not in str(version.tags)
    assert (len(version.tags["long"]), "none" in version.tags) == (4000, False)


def test_tags_of_an_earlier_time_go(home: Path, tmp_path: Path, trained: TrainedModel) -> None:
    registry = Registry("auto", home)
    version = register(registry, trained, tmp_path)
    registry.replace_tags(version, "promotion.", {"decision": "refused", "reason": "worse"})
    registry.replace_tags(version, "promotion.", {"decision": "promoted"})
    assert registry.version("street", "1").tags == {"metrics.miou": "0.5", "promotion.decision": "promoted"}


def test_an_alias_that_moved_meanwhile_is_left_alone(home: Path, tmp_path: Path, trained: TrainedModel) -> None:
    registry = Registry("auto", home)
    for _ in range(3):
        register(registry, trained, tmp_path)
    registry.move_alias("street", "champion", "1", expected=None)
    registry.move_alias("street", "champion", "2", expected="1")
    with pytest.raises(TrackingError, match="version 1 when the comparison began and is version 2 now"):
        registry.move_alias("street", "champion", "3", expected="1")
    assert registry.holder("street", "champion") == "2"


@pytest.mark.slow
def test_of_many_that_move_an_alias_at_once_one_wins(home: Path, tmp_path: Path, trained: TrainedModel) -> None:
    registry = Registry("auto", home)
    for _ in range(4):
        register(registry, trained, tmp_path)
    registry.set_alias("street", "champion", "1")
    won: list[str] = []

    def move(number: str) -> None:
        try:
            Registry("auto", home).move_alias("street", "champion", number, expected="1")
            won.append(number)
        except TrackingError:
            pass

    threads = [threading.Thread(target=move, args=(number,)) for number in ("2", "3", "4")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [registry.holder("street", "champion")]


def test_what_is_not_there_is_none_or_explained(home: Path) -> None:
    registry = Registry("auto", home)
    assert registry.holder("none", "champion") is None
    with pytest.raises(TrackingError, match="does not exist"):
        registry.version("none", "1")
    with pytest.raises(TrackingError, match="tracking is off"):
        Registry("off", home)


@pytest.mark.parametrize("name", ["", "a/b", "a@b", ".a", "a b", None, 5])
def test_names_that_an_address_cannot_hold_are_refused(name: object) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_where_a_registry_keeps_no_aliases_tags_of_versions_are_them(
    home: Path, tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "keeps_aliases", lambda store: False)  # as of azureml://
    registry = Registry("auto", home)
    for number in ("1", "2", "3"):
        register(registry, trained, tmp_path)
        assert registry.holder("street", "candidate") == number
    assert registry.holder("street", "champion") is None
    registry.move_alias("street", "champion", "2", expected=None)
    registry.move_alias("street", "champion", "1", expected="2")  # back again
    assert registry.holder("street", "champion") == "1"
    with pytest.raises(TrackingError, match="when the comparison began"):
        registry.move_alias("street", "champion", "3", expected="2")
    assert registered_version("models:/street@champion", "auto", home)[1] == "1"
    with pytest.raises(TrackingError, match="no version of street has the alias winner"):
        registered_version("models:/street@winner", "auto", home)
    assert not registry.client.get_registered_model("street").aliases


def test_of_two_moves_at_once_the_later_tag_counts(
    home: Path, tmp_path: Path, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "keeps_aliases", lambda store: False)
    registry = Registry("auto", home)
    for _ in range(2):
        register(registry, trained, tmp_path, alias=None)
    for number, when in (("1", "200.0"), ("2", "100.0")):  # neither has taken the other's away yet
        registry.client.set_model_version_tag("street", number, "pointseg.alias.champion", when)
    assert registry.holder("street", "champion") == "1"


@pytest.mark.parametrize("alias", ["latest", "candidate", "v3", "3", "a b", None])
def test_aliases_that_mean_something_else_are_refused(alias: object) -> None:
    with pytest.raises(ConfigError):
        check_alias(alias)


# ---- interrupted ---------------------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from pathlib import Path
from pointseg.tracking.model_registry import Registry

class Killed(Registry):
    def {step}(self, *words, **more):
        os.kill(os.getpid(), signal.SIGKILL)

home, folder = map(Path, sys.argv[1:])
Killed("auto", home).register("street", folder, tags={{}}, description="")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "versions"), [("_make_model", 1), ("set_alias", 2)])
def test_a_registration_that_is_killed_leaves_the_alias_and_no_half_version(
    step: str, versions: int, home: Path, tmp_path: Path, trained: TrainedModel
) -> None:
    registry = Registry("auto", home)
    register(registry, trained, tmp_path)
    folder = package(trained, tmp_path / "model", "custom_model")
    words = [sys.executable, "-c", textwrap.dedent(KILLED.format(step=step)), str(home), str(folder)]
    done = subprocess.run(words, env=own_environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    assert registry.holder("street", "candidate") == "1"
    found = registry.client.search_model_versions("name = 'street'")
    assert len(found) == versions
    for version in found:  # each is whole
        assert load_bundle(download_model(f"models:/street/{version.version}", "auto", home))


# ---- servers -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_servers_of_the_newer_and_the_older_api(
    tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    expected = Predictor(trained)(scan)
    with server(tmp_path / "server") as address, without_logged_models(address) as (older, refused):
        for uri in (address, older):
            registry = Registry(uri, tmp_path)
            for form in MODEL_FORMATS:
                version = register(registry, trained, tmp_path, form)
                assert version.source.startswith("mlflow-artifacts:")
                folder = download_model(f"models:/street/{version.number}", uri, tmp_path)
                assert np.mean(Predictor.load(folder)(scan) == expected) > 0.999
            registry.move_alias("street", "champion", version.number, expected=registry.holder("street", "champion"))
            registry.replace_tags(version, "promotion.", {"decision": "promoted"})
            assert registry.holder("street", "champion") == version.number
            assert registry.version("street", version.number).tags["promotion.decision"] == "promoted"
        assert registry.holder("none", "champion") is None
        assert registry.find_run("0" * 32) is None
        # nothing here asks for what the older API lacks; MLflow's own shorter way does, and fails
        assert refused == []
        import mlflow

        with pytest.raises(Exception, match="404"):
            mlflow.tracking.MlflowClient(older).search_logged_models(["0"])
        assert refused != []


def post(address: str, content: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", content.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_mlflow_s_own_commands_answer_as_the_predictor(
    home: Path, tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    registry = Registry("auto", home)
    register(registry, trained, tmp_path, "mlflow_model")
    expected = Predictor(trained)(scan).tolist()
    rows = json.dumps({"inputs": scan.tolist()})
    (tmp_path / "scan.json").write_text(rows)
    model, port = ["-m", "models:/street@candidate", "--env-manager", "local"], free_port()
    words = ["models", "predict", *model, "-i", str(tmp_path / "scan.json"), "-t", "json", "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *words],
        env=own_environment(MLFLOW_TRACKING_URI=registry.uri),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out").read_text())["predictions"] == expected
    words = ["models", "serve", *model, "-h", "127.0.0.1", "-p", str(port)]
    with running(words, tmp_path / "serving", port, "ping", MLFLOW_TRACKING_URI=registry.uri) as address:
        assert post(address, rows) == (200, {"predictions": expected})
        for wrong in (
            "[[1, 2, 3]]",
            "[[1, 2, 3, 4, 5]]",
            '[["a", "b", "c", "d"]]',
            "[]",
            "[[1, 2, 3, NaN]]",
            "7",
            "[[1",
        ):
            status, said = post(address, f'{{"inputs": {wrong}}}')
            assert (wrong, status) == (wrong, 400)
            assert said["message"]
        assert post(address, rows)[0] == 200  # still there


@pytest.mark.slow
def test_an_environment_of_what_the_model_names_is_enough(
    tmp_path: Path, trained: TrainedModel, scan: NDArray[np.float32]
) -> None:
    folder = package(trained, tmp_path / "model", "mlflow_model")
    named = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
    python = bare_environment(tmp_path / "there", named)
    np.save(tmp_path / "scan.npy", scan)
    code = """
import sys
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model("model")
np.save("labels.npy", model.predict(np.load("scan.npy")))
import pointseg
print(pointseg.__file__)
assert "pytorch_lightning" not in sys.modules and "hydra" not in sys.modules
"""
    words = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", code], cwd=tmp_path, env=words, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[-1]).is_relative_to(folder / "code")
    assert np.array_equal(np.load(tmp_path / "labels.npy"), Predictor(trained)(scan))
