"""The `pipeline` verb: the whole chain is checked before anything starts; what is unchanged is kept; the gate holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from verbs import SMALL_TRAINING, Done, run, spawn, trained_run

from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.pipeline_files import write_pipeline
from pointseg.cli.overrides import parse, quote_all
from pointseg.core.errors import ConfigError
from pointseg.jobs import JobSpec
from pointseg.jobs.content_identity import content_identity
from pointseg.jobs.pipeline import PipelineSpec, PipelineStep, Wire
from pointseg.jobs.spec import Place

WORLD = ["synthetic.scans=11", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
TRAIN = f"train=[{','.join(SMALL_TRAINING)}]"
ONLY = {step: [f"steps=[{step}]"] for step in ("prepare", "train")}
ONLY |= {step: [f"steps=[{step}]", "checkpoint=model"] for step in ("evaluate", "register", "deploy")}


def refused(*words: str, cwd: Path) -> str:
    """The message of a chain of which no step has begun."""
    message = run("pipeline", *words, cwd=cwd).message
    assert not list(cwd.rglob("pipeline.json"))
    assert not (cwd / "mlruns.db").exists()
    return message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["steps=[prepair]"], "Did you mean prepare?"),
        (["steps=[train,prepare]"], "steps=[prepare,train]"),
        (["steps=[train,train]"], "steps=[train]"),
        (["steps=[]"], "no step is asked for"),
        (["steps=[prepare,train,evaluate,register,deploy]"], "deploy: no target is named"),
        ([*ONLY["deploy"], "deploy=[target=moon]"], "deploy: there is no 'moon': target"),
        ([*ONLY["deploy"], "deploy=[target=batch]"], "deploy: no endpoint name is given"),
        ([*ONLY["deploy"], "deploy=[target=batch,endpoint=street,batch.instances=0]"], "batch.instances"),
        ([*ONLY["deploy"], "deploy=[target=batch,checkpoint=x]"], "the pipeline sets this itself"),
        (["steps=[evaluate,register]"], "checkpoint=RUN_FOLDER"),
        (["steps=[train]"], "nothing says what to train on"),
        (["checkpoint=run"], "the model comes from the step train"),
        (["steps=[prepare,train]", "gate.miou=0.5"], "a gate stands before register"),
        (["gate.mio=0.5"], "gate.miou"),
        ([*ONLY["prepare"], "prepare=[record=wider]"], "prepare: there is no 'wider'"),
        (["prepare=[format=csv]", "steps=[prepare,train]"], "this writes nothing that train reads"),
        ([*ONLY["prepare"], "synthetic.beams=63"], "synthetic.beams"),
        ([*ONLY["prepare"], "input=nowhere"], "prepare: there is no such file or folder"),
        ([*ONLY["prepare"], "input=azureml:kitti:1"], "an address in Azure is read by a job there"),
        ([*ONLY["train"], "train=[optimizer.lrr=1]"], "train: unknown key optimizer.lrr"),
        ([*ONLY["train"], "train=[trainer.max_epochs=0]"], "train: "),
        ([*ONLY["train"], "train=[data.points=0]"], "data.points"),
        ([*ONLY["train"], "input=y", "train=[data.root=x]"], "input=DIR"),
        ([*ONLY["train"], "train=[resume=x]"], "the pipeline sets this itself"),
        ([*ONLY["train"], "train=[seed=0,-m]"], "train: "),
        ([*ONLY["evaluate"], "evaluate=[split=training]"], "evaluate: there is no 'training'"),
        ([*ONLY["evaluate"], "evaluate=[views.count=0]"], "evaluate: "),
        ([*ONLY["register"], "register=[name='a b']"], "register: 'a b' cannot be the name of a model"),
        ([*ONLY["register"], "register=[promote=latest]"], "register: "),
        ([*ONLY["register"], "gate.miou=50"], "gate.miou"),
        ([*ONLY["register"], "tracking=off"], "tracking is off"),
        (["publish=nightly"], "publish is of pipelines in Azure"),
        (["-m", "seed=0,1"], "a pipeline is not swept over"),
    ],
)
def test_the_whole_chain_is_checked_before_it_begins(words: list[str], named: str, tmp_path: Path) -> None:
    assert named in refused(*words, cwd=tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("[name=x-y]", ["name=x-y"]),
        ("[+experiment=kitti, data.split.train=[0,1]]", ["+experiment=kitti", "data.split.train=[0,1]"]),
        ("['a=b,c',d={e: 1,f: 2}]", ["a=b,c", "d={e: 1,f: 2}"]),
        ("[]", []),
    ],
)
def test_words_within_brackets(given: str, meant: list[str]) -> None:
    (override,) = parse(quote_all("pipeline", [f"train={given}"], multirun=False))
    assert [getattr(value, "text", value) for value in override.value()] == meant  # type: ignore[union-attr]


def chain() -> PipelineSpec:
    first = JobSpec("pointseg.prepare", ("output=${{outputs.store}}",), outputs={"run": Place(""), "store": Place("")})
    reads = {"data": Place(""), "limit": Place("0.5", "number")}
    second = JobSpec("pointseg.train", ("data.root=${{inputs.data}}", "x=${{inputs.limit}}"), reads)
    return PipelineSpec(
        (PipelineStep("prepare", first), PipelineStep("train", second, {"data": Wire("prepare", "store")}))
    )


def test_steps_read_each_others_folders(tmp_path: Path) -> None:
    placed = [chain().in_folder(step, tmp_path).placed() for step in chain().steps]
    assert placed == [(f"output={tmp_path}/prepare/store",), (f"data.root={tmp_path}/prepare/store", "x=0.5")]


def test_a_wire_leads_to_an_earlier_step() -> None:
    steps = chain().steps
    with pytest.raises(ConfigError, match=r"no earlier step writes prepare\.store"):
        PipelineSpec(steps[::-1])


def test_the_files_for_azure(tmp_path: Path) -> None:
    on = AzureCompute(cluster="gpu-cluster", environment="azureml:env:1", shm="8g")
    path = write_pipeline(chain(), on, tmp_path / "pipeline", light_cluster="cpu-cluster", force_rerun=True)
    content = yaml.safe_load(path.read_text())
    assert content["inputs"] == {"limit": 0.5}
    assert content["settings"] == {"default_compute": "azureml:gpu-cluster", "force_rerun": True}
    assert content["jobs"]["train"] == {
        "type": "command",
        "component": "components/train.yaml",
        "inputs": {"data": "${{parent.jobs.prepare.outputs.store}}", "limit": "${{parent.inputs.limit}}"},
        "compute": "azureml:gpu-cluster",
        "resources": {"instance_count": 1, "shm_size": "8g"},
    }
    assert content["jobs"]["prepare"]["compute"] == "azureml:cpu-cluster"
    component = yaml.safe_load((path.parent / "components/train.yaml").read_text())
    assert component["inputs"] == {"data": {"type": "uri_folder", "mode": "ro_mount"}, "limit": {"type": "number"}}
    assert component["command"] == "python -m pointseg.train data.root=${{inputs.data}} x=${{inputs.limit}}"
    assert (component["code"], component["is_deterministic"]) == ("../code/train", True)
    assert (path.parent / "code/train/pointseg/train.py").is_file()


def test_a_secret_in_a_word_does_not_go_along(tmp_path: Path) -> None:
    step = PipelineStep("train", JobSpec("pointseg.train", ("tracking.uri=http://me:open-sesame@host:5000",)))
    on = AzureCompute(cluster="gpu-cluster", environment="azureml:env:1")
    with pytest.raises(ConfigError, match="a secret in a job's words"):
        write_pipeline(PipelineSpec((step,)), on, tmp_path)


def test_a_step_that_needs_an_extra_has_an_environment_of_its_own(tmp_path: Path) -> None:
    words = ["steps=[prepare,train,register,deploy]", *WORLD, TRAIN, "compute=aml_cpu", "compute.dry_run=true"]
    words += ["compute.environment=azureml:env:1", "register=[format=triton_model]", "hydra.run.dir=chain"]
    done = run("pipeline", *words, "deploy=[target=batch,endpoint=crossing]", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "azureml:env:1 may lack the extra export: conda-register.yaml has it" in done.out
    for step, package in (("train", None), ("register", "onnxruntime=="), ("deploy", "azure-ai-ml==")):
        component = yaml.safe_load((tmp_path / f"chain/pipeline/components/{step}.yaml").read_text())
        if package is None:
            assert component["environment"] == "azureml:env:1"
        else:
            file = tmp_path / "chain/pipeline/components" / component["environment"]["conda_file"]
            assert package in file.read_text()


def test_the_identity_of_a_run_is_its_model_and_scores(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained_run(tmp_path_factory), folder)
    before = content_identity(str(folder))
    (folder / "report.html").write_text("looked at")
    assert content_identity(str(folder)) == before
    (folder / "metrics.json").write_text("{}")
    assert content_identity(str(folder)) != before
    assert content_identity(str(tmp_path / "nowhere")) is None


def test_a_gate_of_the_script(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    words = [f"run={trained_run(tmp_path_factory)}", "tracking.uri=sqlite:///mlruns.db"]
    done = run("register_model", *words, "gate.miou=0.99", "gate.accuracy=0", cwd=tmp_path)
    assert done.code == 3
    assert "is not registered: miou 0." in done.err
    assert "is below 0.99" in done.err
    assert not (tmp_path / "registration.json").exists()


def pipeline(*words: str, cwd: Path) -> Done:
    return spawn("pipeline", *WORLD, TRAIN, "hydra.run.dir=chain", *words, cwd=cwd)


@pytest.mark.slow
def test_a_chain_runs_and_goes_on(tmp_path: Path) -> None:
    done = pipeline("gate.miou=0.99", cwd=tmp_path)
    assert done.code == 3, done.out + done.err
    assert "is below 0.99" in done.err
    record = json.loads((tmp_path / "chain/pipeline.json").read_text())["steps"]
    assert [record[name]["state"] for name in ("prepare", "train", "evaluate", "register")] == ["done"] * 3 + ["failed"]

    done = pipeline(cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    assert done.out.count("unchanged, kept") == 3
    registered = json.loads((tmp_path / "chain/register/registration.json").read_text())
    assert registered["version"] == "1"
    scores = [json.loads((tmp_path / f"chain/{name}/metrics.json").read_text()) for name in ("train", "evaluate")]
    assert scores[0] == scores[1]

    (tmp_path / "chain/evaluate/metrics.json").unlink()
    done = pipeline("evaluate=[split=train]", "steps=[prepare,train,evaluate]", cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    assert done.out.count("unchanged, kept") == 2
    assert "== evaluate: again, its words changed" in done.out
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    runs = client.search_runs([client.get_experiment_by_name("pointnet-semseg").experiment_id])
    parent = json.loads((tmp_path / "chain/mlflow_parent.json").read_text())["run_id"]
    assert sum(run.data.tags.get("mlflow.parentRunId") == parent for run in runs) == 3


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on(tmp_path: Path) -> None:
    assert pipeline("steps=[prepare,train]", cwd=tmp_path).code == 0
    path = tmp_path / "chain/pipeline.json"
    record = json.loads(path.read_text())
    record["steps"]["train"]["state"] = "running"
    del record["steps"]["train"]["outputs"]
    path.write_text(json.dumps(record))
    done = pipeline("steps=[prepare,train]", cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    assert "== train: goes on" in done.out
    assert not (tmp_path / "chain/train-1").exists()
