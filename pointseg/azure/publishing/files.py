"""The files of a published pipeline: a component of components, behind a batch endpoint, with a schedule.

Beside the files of `pipeline_files`, in the same folder:

    published/component.yaml     the pipeline as a component of registered ones
    published/endpoint.yaml      the batch endpoint
    published/deployment.yaml    what the endpoint runs
    published/job.yaml           the pipeline as a job of registered components
    published/schedule.yaml      when that job is submitted

Nothing of Azure is imported.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pointseg.azure.pipeline_files import COMPONENTS, PIPELINE_FILE, SCHEMAS
from pointseg.azure.tags import PUBLISHED_TAG
from pointseg.core.errors import ConfigError
from pointseg.core.files import write_text

__all__ = ["CONTENT_TAG", "Publication", "check_cron", "check_publication_name", "write_publication"]

FOLDER = "published"
CONTENT_TAG = "content"  # the tag that says whether a version is what would be published
NAME = r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]"
VERSION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}"
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS = (("minutes", 0, 59), ("hours", 0, 23), ("days", 1, 31), ("months", 1, 12), ("days of the week", 0, 6))
IGNORED = ("days", "months")  # Azure ML treats any value of these as *


@dataclass(frozen=True)
class Publication:
    """What is written, under which names.

    Attributes:
        name: of endpoint and schedule.
        version: of the pipeline component, and so of what endpoint and schedule run.
        content: the digest of what is published; the version of the steps' components, which all publications share.
        deployment: behind the endpoint.
        folder: of the files.
        steps: their components' names, by the files' names.
        schedule: whether there is one.
    """

    name: str
    version: str
    content: str
    deployment: str
    folder: Path
    steps: dict[Path, str]
    schedule: bool

    @property
    def component(self) -> str:
        """The name of the pipeline component: only lower-case letters, digits and _."""
        return self.name.lower().replace("-", "_")

    @property
    def tags(self) -> dict[str, str]:
        """Tags that say that it is published, and with which content."""
        return {**PUBLISHED_TAG, CONTENT_TAG: self.content}

    def file(self, kind: str) -> Path:
        """The file of the component, endpoint, deployment, job or schedule."""
        return self.folder / FOLDER / f"{kind}.yaml"


def check_publication_name(name: str, where: str = "publish") -> None:
    """Raises ConfigError for a name that a batch endpoint cannot have."""
    if not re.fullmatch(NAME, name):
        remedy = "Use 3 to 32 letters, digits and -, a letter first, no - last."
        raise ConfigError(f"{name!r} is not a name that Azure accepts", where=where, remedy=remedy)


def check_cron(expression: str) -> None:
    """Refuse what Azure ML's schedules do not accept, or would accept and ignore.

    Raises:
        ConfigError: naming the field.

    Example:
        >>> check_cron("0 3 * * 1")
    """
    parts = expression.split()
    where = f"schedule={expression}"
    if len(parts) != len(FIELDS):
        remedy = "minutes hours days months days-of-the-week, such as '0 3 * * 1': Mondays at three."
        raise ConfigError(f"{len(parts)} fields, and a cron expression has five", where=where, remedy=remedy)
    for part, (name, least, most) in zip(parts, FIELDS, strict=True):
        if name in IGNORED and part != "*":
            text = f"Azure ML ignores the {name}, and would run on all of them"
            raise ConfigError(text, where=where, remedy=f"Write * for {name}.")
        if not all(_is_cron(item, least, most, name) for item in part.split(",")):
            remedy = f"Give {least} to {most}, lists a,b, ranges a-b, steps */n, or *."
            raise ConfigError(f"{part!r} is not a valid value for {name}", where=where, remedy=remedy)


def _is_cron(item: str, least: int, most: int, name: str) -> bool:
    """Whether a part between commas is valid."""
    if name == "days of the week":
        for number, day in enumerate(DAYS):
            item = re.sub(rf"\b{day}\b", str(number), item, flags=re.IGNORECASE)
    match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", item)
    if not match:
        return False
    first, last = (int(match[1] or least), int(match[2] or match[1] or most))
    step = int(match[3]) if match[3] else 1
    return least <= first <= last <= most and 1 <= step <= most


def write_publication(
    folder: Path, name: str, *, version: str | None = None, schedule: str | None = None, time_zone: str = "UTC"
) -> Publication:
    """Write what is published, for the pipeline that `write_pipeline` has written into the folder.

    Args:
        name: of component, endpoint and schedule.
        version: None: a digest of the content.
        schedule: a cron expression of five fields; None: no schedule.
        time_zone: by its Windows name.

    Raises:
        ConfigError: for names and times that Azure would not take.
        OutputError: if it cannot be written.

    Example:
        >>> write_publication(Path("pipeline"), "nightly", schedule="0 3 * * 1").version
        '3f0c9a1b2d4e'
    """
    check_publication_name(name)
    if version is not None and not re.fullmatch(VERSION, version):
        remedy = "Use letters, digits, - _ and ., at most 30."
        raise ConfigError(f"{version!r} is not a valid version", where="version", remedy=remedy)
    if schedule is not None:
        check_cron(schedule)
    content = yaml.safe_load((folder / PIPELINE_FILE).read_text(encoding="utf-8"))
    digest = _content(folder)
    version = version or digest
    steps = {path: f"pointseg_{path.stem}" for path in sorted((folder / COMPONENTS).glob("*.yaml"))}
    for step, node in content["jobs"].items():
        node["component"] = f"azureml:pointseg_{step}:{digest}"
    deployment = re.sub(r"[^a-zA-Z0-9-]", "-", f"v-{version}")[:32].rstrip("-")
    publication = Publication(name, version, digest, deployment, folder, steps, schedule is not None)
    _write(publication.file("component"), _component(content, publication))
    _write(publication.file("endpoint"), _endpoint(name))
    _write(publication.file("deployment"), _deployment(content, publication))
    content["display_name"] = content.get("display_name") or name
    content["tags"] = {**content.get("tags", {}), **PUBLISHED_TAG}
    _write(publication.file("job"), content)
    if schedule is not None:
        _write(publication.file("schedule"), _schedule(publication, schedule, time_zone))
    return publication


def _content(folder: Path) -> str:
    """Twelve digits of the SHA-256 of everything that is published."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and FOLDER not in path.parts[-2:]):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _component(content: dict[str, Any], publication: Publication) -> dict[str, Any]:
    component: dict[str, Any] = {"$schema": f"{SCHEMAS}/pipelineComponent.schema.json", "type": "pipeline"}
    inputs = {
        key: {"type": "number", "default": given} if isinstance(given, float) else {"type": given["type"]}
        for key, given in content.get("inputs", {}).items()
    }
    component |= {
        "name": publication.component,
        "version": publication.version,
        "display_name": publication.component,
        "tags": publication.tags,
    }
    return component | ({"inputs": inputs} if inputs else {}) | {"jobs": content["jobs"]}


def _endpoint(name: str) -> dict[str, Any]:
    schema = f"{SCHEMAS}/batchEndpoint.schema.json"
    return {
        "$schema": schema,
        "name": name,
        "description": "A pipeline of pointseg.",
        "tags": PUBLISHED_TAG,
        "auth_mode": "aad_token",
    }


def _deployment(content: dict[str, Any], publication: Publication) -> dict[str, Any]:
    settings = content["settings"]
    return {
        "$schema": f"{SCHEMAS}/pipelineComponentBatchDeployment.schema.json",
        "name": publication.deployment,
        "endpoint_name": publication.name,
        "type": "pipeline",
        "component": f"azureml:{publication.component}:{publication.version}",
        "tags": {**publication.tags, "version": publication.version},
        "settings": {
            "default_compute": settings["default_compute"].removeprefix("azureml:"),
            "force_rerun": settings["force_rerun"],
            "continue_on_step_failure": False,
        },
    }


def _schedule(publication: Publication, expression: str, time_zone: str) -> dict[str, Any]:
    return {
        "$schema": f"{SCHEMAS}/schedule.schema.json",
        "name": publication.name,
        "tags": {**publication.tags, "version": publication.version},
        "trigger": {"type": "cron", "expression": expression, "time_zone": time_zone},
        "create_job": "job.yaml",
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, yaml.dump(content, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=2**20))


class _WithoutAliases(yaml.SafeDumper):
    """Writes a value that occurs several times in full each time."""

    def ignore_aliases(self, data: object) -> bool:
        return True
