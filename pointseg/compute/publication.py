"""A pipeline as Azure ML keeps it: a component of components, behind a batch endpoint, and a time at which it runs.

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

from pointseg.compute.pipeline_files import COMPONENTS, PIPELINE_FILE, SCHEMAS
from pointseg.errors import ConfigError
from pointseg.files import write_text

__all__ = ["CONTENT", "MARK", "Publication", "check_cron", "check_name", "write_publication"]

FOLDER = "published"
MARK = {"made-by": "pointseg.pipeline"}  # the tag by which `list=true` finds them
CONTENT = "content"  # the tag that tells whether a version is what would be published
NAME = r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]"
VERSION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}"
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS = (("minutes", 0, 59), ("hours", 0, 23), ("days", 1, 31), ("months", 1, 12), ("days of the week", 0, 6))
IGNORED = ("days", "months")  # Azure ML takes * for whatever stands there


@dataclass(frozen=True)
class Publication:
    """What is written, and under which names.

    Attributes:
        name: of endpoint and schedule.
        version: of the pipeline component, and so of what endpoint and schedule run.
        content: tells what is published; the version of the steps' components, which all publications share.
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
        """The name of the pipeline component: components take small letters, digits and _ only."""
        return self.name.lower().replace("-", "_")

    @property
    def tags(self) -> dict[str, str]:
        """By which what is published is known, and whether it is this."""
        return {**MARK, CONTENT: self.content}

    def file(self, kind: str) -> Path:
        """Where component, endpoint, deployment, job or schedule is described."""
        return self.folder / FOLDER / f"{kind}.yaml"


def check_name(name: str, where: str = "publish") -> None:
    """Raises ConfigError for a name that no batch endpoint takes."""
    if not re.fullmatch(NAME, name):
        remedy = "3 to 32 letters, digits and -, a letter first, no - last."
        raise ConfigError(f"{name!r} is no name that Azure takes", where=where, remedy=remedy)


def check_cron(expression: str) -> None:
    """Refuse what Azure ML's schedules do not take, or would take and not do.

    Raises:
        ConfigError: naming the field.

    Example:
        >>> check_cron("0 3 * * 1")
    """
    parts = expression.split()
    where = f"schedule={expression}"
    if len(parts) != len(FIELDS):
        raise ConfigError(
            f"{len(parts)} fields, and a cron expression has five",
            where=where,
            remedy="minutes hours days months days-of-the-week, such as '0 3 * * 1': Mondays at three.",
        )
    for part, (name, least, most) in zip(parts, FIELDS, strict=True):
        if name in IGNORED and part != "*":
            raise ConfigError(
                f"Azure ML does not look at the {name}, and would run on all of them",
                where=where,
                remedy=f"Write * for {name}.",
            )
        if not all(_is_cron(item, least, most, name) for item in part.split(",")):
            raise ConfigError(
                f"{part!r} are no {name}",
                where=where,
                remedy=f"{least} to {most}, lists a,b, ranges a-b, steps */n, or *.",
            )


def _is_cron(item: str, least: int, most: int, name: str) -> bool:
    """Whether one of the parts between commas is something."""
    if name == "days of the week":
        for number, day in enumerate(DAYS):
            item = re.sub(rf"\b{day}\b", str(number), item, flags=re.IGNORECASE)
    found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", item)
    if not found:
        return False
    first, last = (int(found[1] or least), int(found[2] or found[1] or most))
    step = int(found[3]) if found[3] else 1
    return least <= first <= last <= most and 1 <= step <= most


def write_publication(
    folder: Path, name: str, *, version: str | None = None, schedule: str | None = None, time_zone: str = "UTC"
) -> Publication:
    """Write what is published, of a pipeline that `write_pipeline` has written into the folder.

    Args:
        name: of component, endpoint and schedule.
        version: None: that of the content.
        schedule: a cron expression of five fields; None: no schedule.
        time_zone: as Windows names it.

    Raises:
        ConfigError: for names and times that Azure would not take.
        OutputError: if it cannot be written.

    Example:
        >>> write_publication(Path("pipeline"), "nightly", schedule="0 3 * * 1").version
        '3f0c9a1b2d4e'
    """
    check_name(name)
    if version is not None and not re.fullmatch(VERSION, version):
        raise ConfigError(
            f"{version!r} is no version", where="version", remedy="Letters, digits, - _ and ., 30 at most."
        )
    if schedule is not None:
        check_cron(schedule)
    content = yaml.safe_load((folder / PIPELINE_FILE).read_text(encoding="utf-8"))
    digest = _content(folder)
    version = version or digest
    steps = {path: f"pointseg_{path.stem}" for path in sorted((folder / COMPONENTS).glob("*.yaml"))}
    for step, node in content["jobs"].items():
        node["component"] = f"azureml:pointseg_{step}:{digest}"
    deployment = re.sub(r"[^a-zA-Z0-9-]", "-", f"v-{version}")[:32].rstrip("-")
    made = Publication(name, version, digest, deployment, folder, steps, schedule is not None)
    _write(made.file("component"), _component(content, made))
    _write(made.file("endpoint"), _endpoint(name))
    _write(made.file("deployment"), _deployment(content, made))
    content["display_name"] = content.get("display_name") or name
    content["tags"] = {**content.get("tags", {}), **MARK}
    _write(made.file("job"), content)
    if schedule is not None:
        _write(made.file("schedule"), _schedule(made, schedule, time_zone))
    return made


def _content(folder: Path) -> str:
    """Twelve letters of a SHA-256 over all that is published."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and FOLDER not in path.parts[-2:]):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _component(content: dict[str, Any], made: Publication) -> dict[str, Any]:
    component: dict[str, Any] = {"$schema": f"{SCHEMAS}/pipelineComponent.schema.json", "type": "pipeline"}
    inputs = {
        key: {"type": "number", "default": given} if isinstance(given, float) else {"type": given["type"]}
        for key, given in content.get("inputs", {}).items()
    }
    component |= {"name": made.component, "version": made.version, "display_name": made.component, "tags": made.tags}
    return component | ({"inputs": inputs} if inputs else {}) | {"jobs": content["jobs"]}


def _endpoint(name: str) -> dict[str, Any]:
    schema = f"{SCHEMAS}/batchEndpoint.schema.json"
    return {
        "$schema": schema,
        "name": name,
        "description": "A pipeline of pointseg.",
        "tags": MARK,
        "auth_mode": "aad_token",
    }


def _deployment(content: dict[str, Any], made: Publication) -> dict[str, Any]:
    settings = content["settings"]
    return {
        "$schema": f"{SCHEMAS}/pipelineComponentBatchDeployment.schema.json",
        "name": made.deployment,
        "endpoint_name": made.name,
        "type": "pipeline",
        "component": f"azureml:{made.component}:{made.version}",
        "tags": {**made.tags, "version": made.version},
        "settings": {
            "default_compute": settings["default_compute"].removeprefix("azureml:"),
            "force_rerun": settings["force_rerun"],
            "continue_on_step_failure": False,
        },
    }


def _schedule(made: Publication, expression: str, time_zone: str) -> dict[str, Any]:
    return {
        "$schema": f"{SCHEMAS}/schedule.schema.json",
        "name": made.name,
        "tags": {**made.tags, "version": made.version},
        "trigger": {"type": "cron", "expression": expression, "time_zone": time_zone},
        "create_job": "job.yaml",
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, yaml.dump(content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=2**20))


class _Plain(yaml.SafeDumper):
    """Writes what stands in several places in each of them."""

    def ignore_aliases(self, data: object) -> bool:
        return True
