"""What `invoke` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import READS, SECRET, TEXT, WRITES, section
from pointseg.core.config import key as declare  # one of the keys is called `key`
from pointseg.workflows.settings.predict import WRITE
from pointseg.workflows.settings.shared import ON_ERROR, AzureConfig

__all__ = ["InvokeConfig"]


@dataclass
class InvokeConfig:
    """Label point clouds by a scoring service, or by an endpoint in Azure ML.

    Example:
        >>> InvokeConfig(url="http://127.0.0.1:8000", input="scans", output="labels")
    """

    url: str | None = declare(None, "address of the service, with or without /score", TEXT)
    endpoint: str | None = declare(
        None,
        "instead of url, in Azure ML: online:NAME, whose address and key are fetched; batch:NAME labels a folder as a "
        "job",
        TEXT,
    )
    key: str | None = declare(
        None,
        "of the service or the Azure endpoint; better by POINTSEG_KEY, since others see a command line. Never written "
        "down",
        SECRET,
    )
    input: str | None = declare(
        None, "a file, a folder, a pattern such as 'SCANS/**/*.pcd', or a data set in SemanticKITTI's layout", READS
    )
    output: str | None = declare(None, "the folder that receives the labels; null: counts and latency alone", WRITES)
    write: str = declare(
        "auto",
        "own: a copy of the file with labels; label: a .label file; auto: own for las, laz, ply, pcd, csv, parquet",
        choices=WRITE,
    )
    probabilities: bool = declare(False, "also NAME.probs.npy, float16 (points, classes)")
    on_error: str = declare(
        "skip", "what to do with a file that cannot be used; after skipped files the exit code is 2", choices=ON_ERROR
    )
    overwrite: bool = declare(
        False, "label finished files again; needed where the folder holds labels of another model"
    )
    remission_scale: float | None = declare(
        None, "what intensity is divided by; null: 255 or 65535 where it goes beyond 1, except in .bin and .np*"
    )
    labels: str = declare(
        "semantickitti",
        "names and colours of the classes, where the service does not say (Azure's endpoints): a map or a YAML",
        READS,
    )
    deployment: str | None = declare(
        None, "deployment of a managed endpoint to ask, whatever the traffic rules say", TEXT
    )
    timeout: float = declare(60, "seconds for one file in all, retries included")
    retries: int = declare(4, "retries when the service is busy or the connection fails")
    compression: str = declare(
        "auto",
        "auto: none to this machine, else zstd, or gzip without zstandard",
        choices=("auto", "none", "gzip", "zstd"),
    )
    max_body: int | None = declare(None, "bytes; larger requests are not sent; such as 1500000")
    wait: bool = declare(False, "of a batch endpoint: stay until the job ends, and fetch the labels into output")
    job: str | None = declare(
        None, "of a batch endpoint: fetch what this job has written, instead of starting one", TEXT
    )
    azure: AzureConfig = section(AzureConfig, "the workspace of an endpoint")
