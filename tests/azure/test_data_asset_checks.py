"""What cannot be a data asset is refused by name, and a job is told which ones it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pointseg.azure.resources.data_assets import DataAsset, check_address, version_of_address
from pointseg.core.errors import ConfigError
from pointseg.jobs.context import JobContext
from pointseg.jobs.spec import JobSpec, Place
from pointseg.workflows.data import register_data
from pointseg.workflows.training.earlier_run import warn_of_other_assets

STORE = "azureml://datastores/scans/paths/kitti"
LONG = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/scans/paths/kitti/"


@pytest.mark.parametrize(
    ("make", "key", "says"),
    [
        (lambda: DataAsset("a b", "1", "uri_folder", "."), "name", "at most 255"),
        (lambda: DataAsset("", "1", "uri_folder", "."), "name", "no data asset name is given"),
        (lambda: DataAsset("a", "1/2", "uri_folder", "."), "version", "at most 255"),
        (lambda: DataAsset("a", "1", "uri_folder", ".", tags={"key": "x" * 257}), "tags.key", "256 characters"),
        (lambda: DataAsset("a", "1", "uri_folder", ".", tags={"password": "x"}), "tags.password", "shown to all"),
    ],
)
def test_an_asset_that_cannot_be(make: Callable[[], object], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.where == key
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        STORE,
        LONG,
        "azureml://jobs/kind_box_1/outputs/run/paths/x",
        "abfss://scans@account.dfs.core.windows.net/kitti/",
        "https://account.blob.core.windows.net/scans/kitti",
    ],
)
def test_addresses_of_folders(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("azureml:semantic-kitti:3", "a data asset already"),
        ("azureml://datastores/scans/kitti", "not the address of a folder"),
        ("azureml://datastores/scans/paths/", "not the address of a folder"),
        ("http://account.blob.core.windows.net/scans/kitti", "not the address of a folder"),
        ("abfss://scans/kitti", "not the address of a folder"),
        ("s3://bucket/kitti", "not the address of a folder"),
        ("azureml://datastores/${{name}}/paths/kitti", "not the address of a folder"),
        ("https://account.blob.core.windows.net/scans/kitti?sv=1&sig=abcdef", "holds a signature"),
    ],
)
def test_addresses_that_are_none(address: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert says in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_the_version_of_an_address_is_that_of_its_place() -> None:
    assert version_of_address("uri_folder", STORE) == version_of_address("uri_folder", LONG)
    assert version_of_address("uri_folder", STORE) != version_of_address("uri_folder", STORE + "2")
    assert version_of_address("uri_folder", STORE) != version_of_address("mltable", STORE)


# ---- jobs --------------------------------------------------------------------------------------------------------

INPUTS = {
    "data_root": Place("azureml:kitti@latest", key="data.root"),
    "checkpoint": Place("runs/best.ckpt", "uri_file", key="checkpoint"),
}
SPEC = JobSpec("pointseg.train", ("data.root=${{inputs.data_root}}",), INPUTS, config={"seed": 1})


def test_a_job_is_told_the_assets_that_it_reads() -> None:
    told = SPEC.with_assets(lambda key, place: replace(place, path="azureml:kitti:7"))
    assert told.inputs["data_root"].path == "azureml:kitti:7"
    assert told.inputs["checkpoint"] == INPUTS["checkpoint"]
    assert told.arguments == SPEC.arguments
    assert told.config is not None
    assert JobContext.from_dict(told.config["job_context"]).inputs == {"data.root": "azureml:kitti:7"}


def test_a_job_that_reads_none_stays_as_it_is() -> None:
    spec = JobSpec("pointseg.train", (), {"data_root": Place("data/kitti", key="data.root")})
    assert spec.with_assets() is spec


def test_a_label_stays_where_nobody_settles_it() -> None:
    assert SPEC.with_assets().inputs["data_root"].path == "azureml:kitti@latest"


def test_a_run_that_goes_on_with_other_data_says_so(caplog: pytest.LogCaptureFixture) -> None:
    now = {"data.root": "azureml:kitti:7"}
    warn_of_other_assets({}, now)
    warn_of_other_assets({"data.root": "azureml:kitti:7"}, now)
    assert not caplog.records
    warn_of_other_assets({"data.root": "azureml:kitti:6"}, now)
    assert caplog.messages == ["The run began with data.root=azureml:kitti:6 and continues with azureml:kitti:7."]


# ---- through the script ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no folder is given: path"),
        (["path=here", "type=table"], "Use uri_folder | mltable"),
        (["path=here", "name='a b'"], "not a valid data asset name"),
        (["path=here", "tags.token=abc"], "tags.token"),
        (["path=s3://bucket/kitti"], "not the address of a folder"),
    ],
)
def test_mistakes_are_refused_before_anybody_is_asked(tmp_path: Path, words: list[str], says: str) -> None:
    from verbs import run

    assert says in run("register_data", *words, cwd=tmp_path).message  # where no workspace is named


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["path=nowhere"], "there is no such folder: path=nowhere"),
        (["path=file"], "a folder is needed, and this is a file"),
        (["path=other"], "neither SemanticKITTI's layout nor a packed store"),
        (["path=other", "type=mltable"], "the folder has no tables"),
        (["path=other", "check=false", "plan=true"], "Azure"),  # it is taken, and Azure is asked
        (["path=tables"], "Give type=mltable"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    from verbs import run

    from pointseg.azure.errors import AzureError

    class Nobody:
        def __getattr__(self, name: str) -> None:
            raise AzureError("Azure is not asked in this test")

    monkeypatch.setattr(register_data, "client_for", lambda azure, plan: (None, Nobody()))
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("notes\n")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/MLTable").write_text("type: mltable\n")
    assert says in run("register_data", *words, cwd=tmp_path).message
