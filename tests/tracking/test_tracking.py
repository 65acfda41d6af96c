"""Runs in real SQLite databases and on a real MLflow server on 127.0.0.1."""

from __future__ import annotations

import http.server
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pointseg.core.errors import TrackingError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.models import PointNetSeg
from pointseg.tracking import MlflowTracker, download_model, finish_parent, resolve_uri, start, start_parent

pytest.importorskip("mlflow", reason="MLflow is not installed")

SECRET = "plantedsecret0123"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, empty_database: Path) -> Path:
    """A folder with a fresh tracking database; copied, since its migration takes seconds."""
    (tmp_path / "mlruns.db").write_bytes(empty_database.read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pointseg.tracking.store import open_store

    path = tmp_path_factory.mktemp("empty") / "mlruns.db"
    open_store(f"sqlite:///{path}")
    return path


def begin(home: Path, params: Mapping[str, Any] | None = None, **options: Any) -> MlflowTracker:
    options = {"uri": "auto", "experiment": None, "run_name": "run", "tags": {}, "system_metrics": False} | options
    tracker = start(
        options.pop("uri"), options.pop("experiment"), options.pop("run_name"),
        start_dir=home, params=params or {}, **options,
    )  # fmt: skip
    assert isinstance(tracker, MlflowTracker)
    return tracker


def stored(tracker: MlflowTracker) -> Any:
    return tracker.client.get_run(tracker.run_id)


def artifacts(home: Path) -> list[Path]:
    return [path for path in (home / "mlartifacts").rglob("*") if path.is_file()]


def python(code: str, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(home), *arguments],
        cwd=home, capture_output=True, text=True, timeout=180, check=False,
        env=clean | {"PYTHONPATH": root} | environment,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A real tracking server and its address, once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/server.db",
               "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    for _ in range(480):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.25)
    process.kill()
    pytest.fail((folder / "log").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process, address = launch(tmp_path_factory.mktemp("server"))
    yield address
    process.terminate()
    process.wait(30)


# ------------------------------------------------------------------------------------------------ URIs


def test_auto_is_a_file_in_the_start_folder(tmp_path: Path) -> None:
    assert resolve_uri("auto", tmp_path) == f"sqlite:///{tmp_path}/mlruns.db"


def test_auto_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000/")
    assert resolve_uri("auto", tmp_path) == "http://127.0.0.1:5000"


def test_an_explicit_uri_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert resolve_uri("http://other:1", tmp_path) == "http://other:1"


@pytest.mark.parametrize("uri", ["sqlite:///sub/x.db", "sub/x.db", "./sub/x.db"])
def test_relative_databases_count_from_the_start_folder(uri: str, tmp_path: Path) -> None:
    assert resolve_uri(uri, tmp_path) == f"sqlite:///{tmp_path}/sub/x.db"


@pytest.mark.parametrize("uri", ["auto", "x.db", "http://h:1/", "azureml://x/y", "databricks", "off"])
def test_resolving_twice_changes_nothing(uri: str, tmp_path: Path) -> None:
    once = resolve_uri(uri, tmp_path)
    assert resolve_uri(once, tmp_path) == once


@pytest.mark.parametrize("uri", [None, "off", ""])
def test_off_is_none(uri: str | None, tmp_path: Path) -> None:
    assert resolve_uri(uri, tmp_path) is None


@pytest.mark.parametrize("uri", ["file:///mlruns", "./mlruns", "/mlruns", "mlruns"])
def test_folders_are_refused_with_a_remedy(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="sqlite:///"):
        resolve_uri(uri, tmp_path)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_databases_in_memory_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="memory"):
        resolve_uri(uri, tmp_path)


# ------------------------------------------------------------------------------------------------ importing


def test_importing_loads_no_heavy_package(tmp_path: Path) -> None:
    result = python(
        """
        import sys, pointseg.tracking
        print([name for name in ("mlflow", "torch", "pytorch_lightning", "filelock", "numpy") if name in sys.modules])
        """,
        tmp_path,
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_a_missing_mlflow_is_explained_on_use(tmp_path: Path) -> None:
    result = python(
        """
        import sys
        from pathlib import Path
        sys.modules["mlflow"] = None
        from pointseg.tracking import start
        start("auto", None, "run", start_dir=Path(sys.argv[1]), params={}, tags={})
        """,
        tmp_path,
    )
    assert "pip install mlflow" in result.stderr.splitlines()[-1]


# ------------------------------------------------------------------------------------------------ one run


def test_params_are_flat_and_lists_json(home: Path) -> None:
    tracker = begin(home, {"model": {"depth": 3, "widths": [8, 16]}, "lr": 0.1, "note": None})
    assert stored(tracker).data.params == {
        "model.depth": "3", "model.widths": "[8, 16]", "lr": "0.1", "note": "None"
    }  # fmt: skip


def test_two_hundred_and_fifty_params_are_logged(home: Path) -> None:
    tracker = begin(home, {f"p{i}": i for i in range(250)})
    assert len(stored(tracker).data.params) == 250


def test_long_values_are_cut(home: Path) -> None:
    assert len(stored(begin(home, {"long": "x" * 7000})).data.params["long"]) == 6000


def test_metrics_have_their_steps(home: Path) -> None:
    tracker = begin(home)
    for step in range(3):
        tracker.log_metrics({"loss": step / 2}, step=step)
    history = tracker.client.get_metric_history(tracker.run_id, "loss")
    assert [(entry.step, entry.value) for entry in history] == [(0, 0.0), (1, 0.5), (2, 1.0)]


@pytest.mark.parametrize(
    ("name", "safe"), [("IoU (car)", "IoU _car_"), ("a//b/", "a/b"), ("/x", "x"), ("a,b=c", "a_b_c")]
)
def test_metric_names_are_made_acceptable(name: str, safe: str, home: Path) -> None:
    tracker = begin(home)
    tracker.log_metrics({name: 1.0})
    assert list(stored(tracker).data.metrics) == [safe]


def test_nan_infinity_and_tensors_are_logged_and_texts_left_out(home: Path) -> None:
    import torch

    tracker = begin(home)
    tracker.log_metrics({"nan": float("nan"), "inf": float("-inf"), "tensor": torch.tensor(2.0), "text": "x"})
    assert sorted(stored(tracker).data.metrics) == ["inf", "nan", "tensor"]


def test_artifacts_lie_beside_the_database(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracker = begin(home)
    tracker.log_text("hello", "notes/a.md")
    assert [path.read_text() for path in artifacts(home)] == ["hello"]


def test_nothing_is_written_to_the_current_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("current"))
    tracker = begin(home, {"a": 1})
    tracker.log_text("hello", "a.txt")
    tracker.finish()
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_is_logged_whole(home: Path) -> None:
    bundle = home / "bundle"
    (bundle / "sub").mkdir(parents=True)
    (bundle / "sub" / "weights.bin").write_bytes(b"\x00\x01")
    begin(home).log_artifact(bundle, "model")
    assert [path.name for path in artifacts(home)] == ["weights.bin"]


def test_a_missing_artifact_is_only_a_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin(home).log_artifact(home / "nothing.txt")
    assert "There is no file" in caplog.text


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_finish_sets_the_status(status: Any, home: Path) -> None:
    tracker = begin(home)
    tracker.finish(status)
    assert stored(tracker).info.status == status


def test_a_with_block_that_fails_ends_as_failed(home: Path) -> None:
    tracker = begin(home)
    with pytest.raises(ValueError, match="boom"), tracker:
        raise ValueError("boom")
    assert stored(tracker).info.status == "FAILED"


def test_the_hint_names_the_database(home: Path) -> None:
    assert begin(home).ui_hint == f"mlflow ui --backend-store-uri sqlite:///{home}/mlruns.db --host 127.0.0.1"


def test_the_environment_names_the_default_experiment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-environment")
    tracker = begin(home, experiment="pointnet-semseg")
    assert tracker.client.get_experiment(tracker.experiment_id).name == "from-environment"


def test_an_explicit_experiment_wins_over_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-environment")
    tracker = begin(home, experiment="mine")
    assert tracker.client.get_experiment(tracker.experiment_id).name == "mine"


def test_a_deleted_experiment_is_explained(home: Path) -> None:
    tracker = begin(home, experiment="gone")
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        begin(home, experiment="gone")


def test_the_caller_s_tracking_uri_is_left_alone(home: Path) -> None:
    begin(home).lightning_logger()
    assert "MLFLOW_TRACKING_URI" not in os.environ


# ------------------------------------------------------------------------------------------------ ranks, resumed, joined


def test_rank_one_logs_nothing(home: Path) -> None:
    before = (home / "mlruns.db").read_bytes()
    tracker = start("auto", None, "run", start_dir=home, params={"a": 1}, tags={}, rank=1)
    tracker.log_metrics({"loss": 1.0}, step=1)
    tracker.log_text("x", "x.txt")
    tracker.finish()
    assert ((home / "mlruns.db").read_bytes(), artifacts(home), tracker.run_id) == (before, [], None)


def test_tracking_off_gives_lightning_false(home: Path) -> None:
    assert start("off", None, "run", start_dir=home, params={}, tags={}).lightning_logger() is False


def test_other_ranks_get_a_logger_that_does_nothing(home: Path) -> None:
    logger = start("auto", None, "run", start_dir=home, params={}, tags={}, rank=1).lightning_logger()
    assert type(logger).__name__ == "DummyLogger"


def test_a_resumed_run_is_the_same_run_and_running_again(home: Path) -> None:
    first = begin(home)
    first.finish("FAILED")
    second = begin(home, run_id=first.run_id)
    assert (second.run_id, stored(second).info.status) == (first.run_id, "RUNNING")


def test_a_changed_param_of_a_resumed_run_becomes_a_tag(home: Path) -> None:
    first = begin(home, {"lr": 0.1, "depth": 3})
    second = begin(home, {"lr": 0.2, "depth": 3, "new": 1}, run_id=first.run_id)
    data = stored(second).data
    assert (data.params, data.tags["param_changed.lr"], "param_changed.depth" in data.tags) == (
        {"lr": "0.1", "depth": "3", "new": "1"}, "0.2", False
    )  # fmt: skip


def test_a_run_that_does_not_exist_is_explained(home: Path) -> None:
    with pytest.raises(TrackingError, match="does not exist"):
        begin(home, run_id="0" * 32)


def test_a_deleted_run_is_explained(home: Path) -> None:
    tracker = begin(home)
    tracker.client.delete_run(tracker.run_id)
    with pytest.raises(TrackingError, match="mlflow runs restore"):
        begin(home, run_id=tracker.run_id)


@pytest.fixture
def platform(home: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowTracker:
    """The run that a platform such as Azure ML made for this job."""
    tracker = begin(home, run_name="platform")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", tracker.run_id)
    return tracker


def test_the_environment_s_run_is_joined(home: Path, platform: MlflowTracker) -> None:
    assert begin(home).run_id == platform.run_id


def test_a_joined_run_is_not_ended(home: Path, platform: MlflowTracker) -> None:
    begin(home).finish()
    assert stored(platform).info.status == "RUNNING"


def test_the_failure_of_a_joined_run_is_a_tag(home: Path, platform: MlflowTracker) -> None:
    begin(home).finish("FAILED")
    assert stored(platform).data.tags["pointseg.status"] == "FAILED"


def test_a_run_that_another_job_began_is_left_as_it_was(home: Path, platform: MlflowTracker) -> None:
    earlier = platform.client.create_run(platform.experiment_id).info.run_id
    tracker = begin(home, {"lr": 0.1}, run_id=earlier)
    assert tracker.run_id == platform.run_id
    assert stored(tracker).data.tags["resumed_from"] == earlier
    assert platform.client.get_run(earlier).data.params == {}
    again = begin(home, run_id=platform.run_id)  # its machine was taken away
    assert again.run_id == platform.run_id


def test_with_a_parent_the_environment_s_run_is_not_joined(home: Path, platform: MlflowTracker) -> None:
    child = begin(home, parent_run_id=platform.run_id)
    assert stored(child).data.tags["mlflow.parentRunId"] == platform.run_id != child.run_id


def test_another_store_does_not_join_the_environment_s_run(home: Path, platform: MlflowTracker) -> None:
    assert begin(home, uri="other.db").run_id != platform.run_id


# ------------------------------------------------------------------------------------------------ sweeps


def test_the_parent_is_created_once(home: Path) -> None:
    ids = {start_parent("auto", None, "sweep", home, home / "sweep") for _ in range(3)}
    assert len(ids) == 1


def test_finish_parent_ends_it(home: Path) -> None:
    parent = start_parent("auto", None, "sweep", home, home / "sweep") or ""
    finish_parent("auto", home, home / "sweep", "FAILED")
    assert begin(home).client.get_run(parent).info.status == "FAILED"


def test_the_environment_s_run_is_the_parent(home: Path, platform: MlflowTracker) -> None:
    assert start_parent("auto", None, "sweep", home, home / "sweep") == platform.run_id


def test_a_parent_that_the_platform_owns_is_not_ended(home: Path, platform: MlflowTracker) -> None:
    start_parent("auto", None, "sweep", home, home / "sweep")
    finish_parent("auto", home, home / "sweep", "FINISHED")
    assert stored(platform).info.status == "RUNNING"


def test_a_sweep_without_tracking_has_no_parent(home: Path) -> None:
    assert start_parent("off", None, "sweep", home, home / "sweep") is None


def test_a_damaged_record_of_the_parent_is_explained(home: Path) -> None:
    (home / "sweep").mkdir()
    (home / "sweep" / "mlflow_parent.json").write_text("{")
    with pytest.raises(TrackingError, match="Delete it"):
        start_parent("auto", None, "sweep", home, home / "sweep")


# ------------------------------------------------------------------------------------------------ several processes

_WRITER = """
import sys
from pathlib import Path
from pointseg.tracking import start, start_parent
home = Path(sys.argv[1])
parent = start_parent("auto", None, "sweep", home, home / "sweep")
tracker = start("auto", None, sys.argv[2], start_dir=home, params={"i": sys.argv[2]}, tags={}, parent_run_id=parent)
for step in range(60):
    tracker.log_metrics({"loss": step}, step=step)
tracker.log_text("x", "x.txt")
tracker.finish()
"""


@pytest.mark.slow
def test_four_processes_on_a_missing_database_all_finish_below_one_parent(tmp_path: Path) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda name=str(i): results.append(python(_WRITER, tmp_path, name))) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sqlite3.connect(tmp_path / "mlruns.db") as connection:
        finished = connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone()[0]
        metrics = connection.execute("SELECT count(*) FROM metrics WHERE key = 'loss'").fetchone()[0]
        parents = connection.execute("SELECT DISTINCT value FROM tags WHERE key = 'mlflow.parentRunId'").fetchall()
    output = "".join(result.stdout + result.stderr for result in results)
    assert (finished, metrics, len(parents), output) == (4, 240, 1, "")


@pytest.mark.slow
def test_normal_work_prints_nothing_and_writes_nothing_here(tmp_path: Path) -> None:
    code = """
    import sys
    from pathlib import Path
    from pointseg.tracking import start
    home = Path(sys.argv[1]) / "runs"
    tracker = start("auto", None, "run", start_dir=home, params={"a": 1}, tags={"b": 2})
    tracker.log_metrics({"loss (val)": 1.0}, step=1)
    tracker.log_text("x", "x.txt")
    logger = tracker.lightning_logger()
    logger.log_metrics({"x": 1.0}, step=1)
    logger.finalize("success")
    tracker.finish()
    """
    result = python(code, tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert (result.returncode, result.stdout, result.stderr, written) == (0, "", "", ["runs"])


# ------------------------------------------------------------------------------------------------ secrets


def test_planted_secrets_reach_neither_database_nor_artifacts_nor_logs(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = home / "config.yaml"
    config.write_text(f"tracking:\n  token: {SECRET}\n  uri: https://me:{SECRET}@host\nepochs: 3\n")
    tracker = begin(
        home,
        {
            "azure": {"client_secret": SECRET},
            "argv": [f"a.password={SECRET}"],
            "url": f"https://x:{SECRET}@h/?sig={SECRET}",
        },
        tags={"api_key": SECRET, "command": f"train --token {SECRET}"},
    )
    tracker.log_params({"storage": f"AccountKey={SECRET};x=1"})
    tracker.log_text(f"run a.token={SECRET}", "command.txt")
    tracker.log_artifact(config)
    (home / "outputs").mkdir()
    config.rename(home / "outputs" / "config.yaml")
    tracker.log_artifact(home / "outputs", "outputs")
    tracker.finish()
    logging.getLogger("pointseg").info("end")
    found = [path for path in [home / "mlruns.db", *artifacts(home)] if SECRET.encode() in path.read_bytes()]
    assert (found, SECRET in caplog.text, len(artifacts(home))) == ([], False, 3)


def test_secrets_in_an_address_are_not_in_the_error() -> None:
    with pytest.raises(TrackingError) as caught:
        begin(Path("/tmp"), uri=f"http://me:{SECRET}@127.0.0.1:{free_port()}")
    assert SECRET not in str(caught.value)


# ------------------------------------------------------------------------------------------------ failures


def test_a_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "mlruns.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(TrackingError, match="damaged"):
        begin(tmp_path)


def test_a_database_damaged_inside_is_explained(home: Path) -> None:
    content = bytearray((home / "mlruns.db").read_bytes())
    content[100:200_000] = b"\xff" * 199_900
    (home / "mlruns.db").write_bytes(content)
    with pytest.raises(TrackingError, match="damaged"):
        begin(home)


def test_a_database_below_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrackingError, match="cannot be written"):
        begin(tmp_path, uri="file/mlruns.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TrackingError, match="cannot be written"):
        begin(tmp_path)


def test_a_server_that_is_not_there_fails_quickly() -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError, match="does not answer"):
        begin(Path("/tmp"), uri=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 20


def test_a_host_that_does_not_exist_is_explained() -> None:
    with pytest.raises(TrackingError, match="does not answer"):
        begin(Path("/tmp"), uri="http://no-such-host.invalid:5000")


class _Answers(http.server.BaseHTTPRequestHandler):
    status, body = 401, b"no"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None: ...


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [(401, b"no", "credentials"), (403, b"no", "403"), (404, b"<!DOCTYPE html>", "not an MLflow"),
     (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "403"),
     (200, b"<!DOCTYPE html>", "not an MLflow")],
)  # fmt: skip
def test_a_server_that_refuses_is_explained(status: int, body: bytes, message: str, tmp_path: Path) -> None:
    handler = type("Handler", (_Answers,), {"status": status, "body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        with pytest.raises(TrackingError, match=message):
            begin(tmp_path, uri=f"http://127.0.0.1:{refusing.server_port}")
        refusing.shutdown()


@pytest.fixture
def broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowTracker:
    """A run whose store is away."""
    tracker = begin(home)
    real = tracker.client.log_batch
    state = {"away": True}

    def log_batch(*args: Any, **kwargs: Any) -> Any:
        if state["away"]:
            raise ConnectionError("Connection refused")
        return real(*args, **kwargs)

    monkeypatch.setattr(tracker.client, "log_batch", log_batch)
    tracker.come_back = lambda: state.update(away=False)  # type: ignore[attr-defined]
    return tracker


def test_a_lost_store_is_one_warning_and_no_error(broken: MlflowTracker, caplog: pytest.LogCaptureFixture) -> None:
    for step in range(5):
        broken.log_metrics({"loss": 1.0}, step=step)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_metrics_are_sent_when_the_store_is_back(broken: MlflowTracker) -> None:
    for step in range(5):
        broken.log_metrics({"loss": 1.0}, step=step)
    broken.come_back()  # type: ignore[attr-defined]
    broken.finish()
    assert len(broken.client.get_metric_history(broken.run_id, "loss")) == 5


def test_tags_are_sent_when_the_store_is_back(broken: MlflowTracker) -> None:
    broken.set_tags({"a": "b"})
    broken.come_back()  # type: ignore[attr-defined]
    broken.finish()
    assert stored(broken).data.tags["a"] == "b"


# ------------------------------------------------------------------------------------------------ system metrics


def test_a_short_run_has_system_metrics_and_leaves_no_thread(home: Path) -> None:
    tracker = begin(home, system_metrics=True)
    tracker.finish()
    left = [thread for thread in threading.enumerate() if "SystemMetrics" in thread.name]
    assert ("system/cpu_utilization_percentage" in stored(tracker).data.metrics, left) == (True, [])


def test_a_resumed_run_continues_the_steps_of_system_metrics(home: Path) -> None:
    first = begin(home, system_metrics=True)
    first.finish()
    second = begin(home, system_metrics=True, run_id=first.run_id)
    second.finish()
    history = second.client.get_metric_history(first.run_id, "system/disk_usage_percentage")
    assert [entry.step for entry in history] == [0, 1]


# ------------------------------------------------------------------------------------------------ Lightning


@pytest.fixture
def fitted(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> MlflowTracker:
    """A run that a real Trainer logged to, in an empty current folder."""
    import pytorch_lightning as lightning
    import torch

    class Module(lightning.LightningModule):
        def __init__(self, depth: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.layer(batch).mean()
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monkeypatch.chdir(tmp_path_factory.mktemp("current"))
    tracker = begin(home)
    trainer = lightning.Trainer(
        max_epochs=1, logger=tracker.lightning_logger(), enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1, accelerator="cpu", enable_checkpointing=False,
    )  # fmt: skip
    rows: Any = torch.zeros(4, 2)
    trainer.fit(Module(), torch.utils.data.DataLoader(rows, batch_size=2))
    return tracker


def test_lightning_metrics_land_in_the_same_run(fitted: MlflowTracker) -> None:
    assert len(fitted.client.get_metric_history(fitted.run_id, "train/loss")) == 2


def test_lightning_makes_no_second_run(fitted: MlflowTracker) -> None:
    assert len(fitted.client.search_runs([fitted.experiment_id])) == 1


def test_lightning_does_not_end_the_run(fitted: MlflowTracker) -> None:
    assert stored(fitted).info.status == "RUNNING"


def test_lightning_writes_nothing_to_the_current_folder(fitted: MlflowTracker) -> None:
    assert list(Path.cwd().iterdir()) == []


# ------------------------------------------------------------------------------------------------ registry


def test_a_registered_model_comes_as_a_folder(home: Path) -> None:
    tracker = begin(home)
    bundle = home / "bundle"
    bundle.mkdir()
    (bundle / "model.yaml").write_text("a: 1")
    tracker.log_artifact(bundle, "model")
    tracker.client.create_registered_model("net")
    tracker.client.create_model_version("net", f"{stored(tracker).info.artifact_uri}/model", tracker.run_id)
    tracker.client.set_registered_model_alias("net", "champion", "1")
    folders = [download_model(f"models:/net{end}", "auto", home) for end in ("@champion", "/1", "/latest")]
    assert [(folder / "model.yaml").read_text() for folder in folders] == ["a: 1"] * 3


def test_a_predictor_is_loaded_from_the_registry(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the current folder's database, as its documentation says."""
    label_map = LabelMap.load("semantickitti")
    features = FeatureSpec(use=("x", "y", "z"))
    model = PointNetSeg(
        3,
        label_map.num_classes,
        local_widths=(4,),
        global_widths=(8,),
        head_widths=(8,),
        input_transform=False,
        feature_transform=False,
    )
    save_bundle(home / "bundle", TrainedModel(model, features, label_map))
    tracker = begin(home)
    tracker.log_artifact(home / "bundle", "model")
    tracker.client.create_registered_model("net")
    tracker.client.create_model_version("net", f"{stored(tracker).info.artifact_uri}/model", tracker.run_id)
    tracker.client.set_registered_model_alias("net", "champion", "1")
    monkeypatch.chdir(home)
    points = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = Predictor.load("models:/net@champion").logits(points)
    assert torch.equal(found, Predictor.load(home / "bundle").logits(points))


@pytest.mark.parametrize("uri", ["models:/none@champion", "models:/none/1", "models:/none/latest"])
def test_a_model_that_does_not_exist_is_explained(uri: str, home: Path) -> None:
    with pytest.raises(TrackingError, match="does not exist"):
        download_model(uri, "auto", home)


def test_a_malformed_model_uri_is_explained(home: Path) -> None:
    with pytest.raises(TrackingError, match="NAME@ALIAS"):
        download_model("models:net", "auto", home)


# ------------------------------------------------------------------------------------------------ a server


@pytest.mark.slow
def test_a_server_stores_params_metrics_and_artifacts(server: str, tmp_path: Path) -> None:
    tracker = begin(tmp_path, {"a": "", "b": list(range(3))}, uri=server)
    tracker.log_metrics({"loss": 1.0, "nan": float("nan"), "inf": float("inf")}, step=1)
    tracker.log_text("hello", "notes/a.md")
    tracker.finish()
    run = stored(tracker)
    names = [entry.path for entry in tracker.client.list_artifacts(tracker.run_id, "notes")]
    assert (run.info.status, run.data.params, sorted(run.data.metrics), names) == (
        "FINISHED", {"a": "", "b": "[0, 1, 2]"}, ["inf", "loss", "nan"], ["notes/a.md"]
    )  # fmt: skip


@pytest.mark.slow
def test_the_hint_for_a_server_is_the_link_of_the_run(server: str, tmp_path: Path) -> None:
    tracker = begin(tmp_path, uri=server)
    assert tracker.ui_hint == f"{server}/#/experiments/{tracker.experiment_id}/runs/{tracker.run_id}"


@pytest.mark.slow
def test_a_run_on_a_server_prints_nothing(server: str, tmp_path: Path) -> None:
    code = """
    import sys
    from pathlib import Path
    from pointseg.tracking import start
    tracker = start(sys.argv[2], None, "run", start_dir=Path(sys.argv[1]), params={"a": 1}, tags={"b": 2})
    tracker.log_artifact(__import__("os").__file__)
    tracker.finish()
    """
    result = python(code, tmp_path, server)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_changed_param_on_a_server_becomes_a_tag(server: str, tmp_path: Path) -> None:
    first = begin(tmp_path, {"lr": 1}, uri=server)
    second = begin(tmp_path, {"lr": 2}, uri=server, run_id=first.run_id)
    assert stored(second).data.tags["param_changed.lr"] == "2"


@pytest.mark.slow
def test_a_server_that_dies_does_not_end_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process, address = launch(tmp_path)
    try:
        tracker = begin(tmp_path, uri=address)
    finally:
        process.terminate()
        process.wait(30)
    started = time.monotonic()
    for step in range(50):
        tracker.log_metrics({"loss": 1.0}, step=step)
    assert (time.monotonic() - started < 20, caplog.text.count("tracking has gaps")) == (True, 1)


def test_the_record_of_a_parent_holds_no_address(home: Path) -> None:
    start_parent("auto", None, "sweep", home, home / "sweep")
    assert sorted(json.loads((home / "sweep" / "mlflow_parent.json").read_text())) == ["joined", "run_id"]
