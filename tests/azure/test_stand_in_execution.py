"""Command jobs that the stand-in for Azure ML really runs: their files, ranks, logs, ends and MLflow runs."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, running, scans, started
from azure_helpers import command_job, wait_for

pytestmark = [pytest.mark.azure, pytest.mark.slow]


PROGRAM = """
import os, pathlib, sys, time
given, made, word = sys.argv[1:]
rank = os.environ.get("RANK", "0")
print("rank", rank, "of", os.environ.get("WORLD_SIZE"), "says", word + ",", os.environ.get("LOCAL_RANK"), "of node", os.environ.get("NODE_RANK"), flush=True)
if word == "fail":
    sys.exit(3)
while word == "wait":
    time.sleep(0.1)
pathlib.Path(made, f"{rank}.txt").write_text(pathlib.Path(given, "0.bin").read_text().upper())
pathlib.Path("outputs", "run.txt").write_text(os.environ["AZUREML_RUN_ID"] + " " + os.environ["EXTRA"])
while word == "hold" and not pathlib.Path("go").exists():
    time.sleep(0.05)
"""


def executed(azure: Any, client: Any, cluster: str, code: Path, scans: Path, word: str, **settings: Any) -> Any:
    from azure.ai.ml import Input, Output

    azure.execute_jobs(sys.executable)
    (code / "main.py").write_text(PROGRAM)
    job = command_job(
        code,
        cluster,
        command="python main.py ${{inputs.given}} ${{outputs.made}} ${{inputs.word}}",
        inputs={"given": Input(type="uri_folder", path=str(scans)), "word": word},
        outputs={"made": Output(type="uri_folder")},
        environment_variables={"EXTRA": "of the job"},
        **settings,
    )
    return client.jobs.create_or_update(job)


@pytest.mark.slow
def test_a_job_runs_on_every_rank_and_its_outputs_come_back(
    azure: Any, client: Any, cluster: str, code: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = {"distribution": {"type": "pytorch", "process_count_per_instance": 2}, "instance_count": 2}
    job = executed(azure, client, cluster, code, scans, "hold", **ranks)
    run = azure.jobs.executor.runs[job.name]

    def let_it_end_when_its_log_was_streamed() -> None:
        log = run.folder / "artifacts/user_logs/std_log_process_0.txt"
        wait_for(lambda: log.is_file() and "rank" in log.read_text())
        asked = len(azure.calls.matching("GET runs/.*/details"))
        wait_for(lambda: len(azure.calls.matching("GET runs/.*/details")) > asked + 3)
        (run.folder / "code/go").touch()

    watcher = threading.Thread(target=let_it_end_when_its_log_was_streamed)
    watcher.start()
    client.jobs.stream(job.name)
    watcher.join()
    assert "rank 0 of 4 says hold" in capsys.readouterr().out
    assert client.jobs.get(job.name).status == "Completed"
    client.jobs.download(job.name, download_path=tmp_path / "all", all=True)
    for rank in "0123":
        assert (tmp_path / "all/named-outputs/made" / f"{rank}.txt").read_text() == tmp_path.name.upper()
        assert (
            f"rank {rank} of 4 says hold, {int(rank) % 2} of node {int(rank) // 2}"
            in (tmp_path / "all/artifacts/user_logs" / f"std_log_process_{rank}.txt").read_text()
        )
    assert (tmp_path / "all/artifacts/outputs/run.txt").read_text() == f"{job.name} of the job"


@pytest.mark.slow
def test_a_job_that_fails_says_so(azure: Any, client: Any, cluster: str, code: Path, scans: Path) -> None:
    from azure.ai.ml.exceptions import JobException

    job = executed(azure, client, cluster, code, scans, "fail")
    with pytest.raises(JobException, match="exited with status code 3"):
        client.jobs.stream(job.name)
    assert client.jobs.get(job.name).status == "Failed"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_running_job_is_ended(azure: Any, client: Any, cluster: str, code: Path, scans: Path, how: str) -> None:
    job = executed(azure, client, cluster, code, scans, "wait", timeout=2 if how == "timeout" else 600)
    run = azure.jobs.executor.runs[job.name]
    if how == "cancel":
        wait_for(lambda: bool(run.processes))
        client.jobs.begin_cancel(job.name).result()
    wait_for(lambda: client.jobs.get(job.name).status == "Canceled")
    wait_for(lambda: all(process.poll() is not None for process in run.processes))


ARGUMENTS = """
import json, os, pathlib, sys
print(json.dumps(sys.argv[1:]))
print(pathlib.Path(sys.argv[1]).read_text(), os.environ["AZURE_ML_INPUT_file"] == sys.argv[1])
"""


@pytest.mark.slow
def test_inputs_arrive_as_their_kinds_say(
    azure: Any, client: Any, cluster: str, code: Path, scans: Path, tmp_path: Path
) -> None:
    from azure.ai.ml import Input
    from azure.ai.ml.entities import Data

    azure.execute_jobs(sys.executable)
    (code / "main.py").write_text(ARGUMENTS)
    asset = client.data.create_or_update(Data(name="one-scan", path=str(scans / "0.bin"), type="uri_file"))
    words = "${{inputs.file}} ${{inputs.place}} ${{inputs.rate}}"
    inputs = {
        "file": Input(type="uri_file", path=f"azureml:one-scan:{asset.version}"),
        "place": Input(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/far", mode="direct"),
        "rate": 0.5,
    }
    job = client.jobs.create_or_update(command_job(code, cluster, command=f"python main.py {words}", inputs=inputs))
    wait_for(lambda: client.jobs.get(job.name).status in ("Completed", "Failed"))
    client.jobs.download(job.name, download_path=tmp_path / "all")
    log = (tmp_path / "all/artifacts/user_logs/std_log.txt").read_text()
    arguments = json.loads(log.splitlines()[0])
    assert arguments[1:] == ["azureml://datastores/workspaceblobstore/paths/far", "0.5"]
    assert log.splitlines()[1] == f"{tmp_path.name} True"


TRACKED = """
import mlflow, pathlib
with mlflow.start_run() as run:
    mlflow.log_params({"lr": 0.1})
    mlflow.log_metrics({"miou": 0.5}, step=1)
    mlflow.log_metrics({"miou": 0.7}, step=2)
    pathlib.Path("note.txt").write_text("of the run")
    mlflow.log_artifact("note.txt", "notes")
    try:
        mlflow.log_param("lr", 0.2)
    except mlflow.exceptions.MlflowException as error:
        print("refused:", error)
    print("run", run.info.run_id, mlflow.get_run(run.info.run_id).data.metrics)
    print(mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/note.txt"))
"""


@pytest.mark.slow
def test_a_job_writes_to_its_own_run_through_azureml_mlflow(
    azure: Any, client: Any, cluster: str, code: Path, tmp_path: Path
) -> None:
    azure.execute_jobs(sys.executable)
    (code / "main.py").write_text(TRACKED)
    job = client.jobs.create_or_update(command_job(code, cluster, experiment_name="tracked"))
    wait_for(lambda: client.jobs.get(job.name).status in ("Completed", "Failed"))
    client.jobs.download(job.name, download_path=tmp_path / "all")
    log = (tmp_path / "all/artifacts/user_logs/std_log.txt").read_text()
    assert client.jobs.get(job.name).status == "Completed", log
    assert f"run {job.name} {{'miou': 0.7}}" in log
    assert "refused: INVALID_PARAMETER_VALUE" in log
    assert "of the run" in log
    assert (tmp_path / "all/artifacts/notes/note.txt").read_text() == "of the run"
    run = azure.tracking.runs[job.name]
    assert [metric["value"] for metric in run["metrics"]] == [0.5, 0.7]
    assert run["params"] == {"lr": "0.1"}
