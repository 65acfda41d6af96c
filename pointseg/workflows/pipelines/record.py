"""pipeline.json: what each step was told, what it read, of which code, how it ended; and so whether it must run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.core.errors import OutputError
from pointseg.core.files import write_json
from pointseg.core.redaction import redact_text
from pointseg.engine.training.run_folder import code_state
from pointseg.jobs.content_identity import content_identity
from pointseg.jobs.context import SECTION
from pointseg.jobs.pipeline import PipelineSpec, PipelineStep, Wire, output_folder

__all__ = ["DONE", "Record", "StepState"]

FILE = "pipeline.json"
DONE, RUNNING, FAILED = "done", "running", "failed"
CHANGES = {"words": "its words", "inputs": "what it reads", "code": "the code"}


@dataclass(frozen=True)
class StepState:
    """A step as it would run now, beside how it ran before.

    Attributes:
        now: words, inputs and code.
        before: the step's entry in pipeline.json, {} where it has none.
        whole: whether everything that it wrote is still there as it was.
        keeps: whether that is all there is to it.
    """

    now: dict[str, Any]
    before: dict[str, Any]
    whole: bool
    keeps: bool = True

    @property
    def changed(self) -> list[str]:
        """What is not as it was, in words."""
        return [said for key, said in CHANGES.items() if self.now[key] != self.before.get(key)]

    @property
    def kept(self) -> bool:
        """Whether it need not run."""
        return self.keeps and self.before.get("state") == DONE and self.whole and not self.changed

    @property
    def same_task(self) -> bool:
        """Whether an unfinished run may go on."""
        return self.before.get("state") in (RUNNING, FAILED) and not {"its words", "what it reads"} & set(self.changed)


class Record:
    """The pipeline.json of a folder.

    Raises:
        OutputError: if there is one that cannot be read, or the folder holds something else's.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.path = folder, folder / FILE
        self.content: dict[str, Any] = {"steps": {}}
        if self.path.is_file():
            try:
                self.content = json.loads(self.path.read_text(encoding="utf-8"))
                self.content["steps"] = dict(self.content["steps"])
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise OutputError(
                    f"the record of the pipeline cannot be read ({type(error).__name__})",
                    where=self.path,
                    remedy="Name another folder with hydra.run.dir=DIR.",
                ) from error
        self.content["compute"] = place
        state = code_state()
        files = json.dumps(state.pop("files"), sort_keys=True)
        self.code = {"files": hashlib.sha256(files.encode()).hexdigest()[:32]}
        self.content["code"] = {**state, **self.code}

    def look(self, pipeline: PipelineSpec, step: PipelineStep) -> StepState:
        """How a step stands; what it reads must be there by now."""
        spec = pipeline.in_folder(step, self.folder)
        now = {
            "words": [redact_text(word) for word in (*step.spec.arguments, *_lines(step.spec.config or {}))],
            "inputs": {name: _identity(place.path, place.kind) for name, place in spec.inputs.items()},
            "code": self.code["files"],
        }
        before = self.content["steps"].get(step.name, {})
        outputs = before.get("outputs", {})
        return StepState(now, before, bool(outputs) and outputs == self._outputs(step), step.keeps)

    def begin(self, step: PipelineStep, now: Mapping[str, Any]) -> None:
        """Note that a step runs; later steps are as they were."""
        self._keep(step, {**now, "state": RUNNING})

    def end(self, step: PipelineStep, seconds: float | None, code: int, **more: Any) -> None:
        """Note how a step ended; `seconds` is None where nobody here has counted."""
        entry = {
            **self.content["steps"].get(step.name, {}),
            "seconds": seconds if seconds is None else round(seconds, 1),
            **more,
        }
        if code:
            self._keep(step, {**entry, "state": FAILED, "exit_code": code})
        else:
            self._keep(step, {**entry, "state": DONE, "outputs": self._outputs(step)})

    def _outputs(self, step: PipelineStep) -> dict[str, str | None]:
        places = {name: output_folder(self.folder, Wire(step.name, name)) for name in step.spec.outputs}
        if len(places) > 1:
            places.pop("run")  # its others lie in it
        return {name: content_identity(str(place)) for name, place in places.items()}

    def _keep(self, step: PipelineStep, entry: dict[str, Any]) -> None:
        self.content["steps"][step.name] = entry
        write_json(self.path, self.content)


def _lines(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A configuration as KEY=VALUE; without what Hydra and the job are told."""
    for key, value in config.items():
        if not prefix and key in ("defaults", "hydra", SECTION):
            continue
        if isinstance(value, Mapping) and value:
            yield from _lines(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


def _identity(path: str, kind: str) -> str | None:
    return path if kind == "number" else content_identity(path)
