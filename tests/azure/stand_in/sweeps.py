"""Sweep jobs that are really run: trials drawn from the body's search space, each run as the command job that it names."""

from __future__ import annotations

import copy
import math
import random
import re
import threading
from typing import Any

from .execution import Executor, Run
from .jobs import ENDED
from .shapes import complete
from .store import Resource, Store
from .tracking import Tracking

PLACEHOLDER = re.compile(r"\$\{\{\s*search_space\.(\w+)\s*\}\}")
OF_TRIAL = ("codeId", "environmentId", "environmentVariables", "distribution", "resources")


class Sweeps:
    """Starts sweep jobs. Trials run one after the other; the best is told by the primary metric, at its best value.

    No trial is ended early. Values are drawn by the seed of the sampling algorithm, else by that of the job's name.
    """

    def __init__(self, executor: Executor, store: Store, tracking: Tracking) -> None:
        self._executor, self._store, self._tracking = executor, store, tracking

    def start(self, resource: Resource) -> bool:
        workspace, name = resource["id"].rsplit("/jobs/", 1)
        run = Run(name, workspace, self._executor.folder / name)
        self._executor.runs[name] = run
        self._executor.follow(threading.Thread(target=self._live, args=(run, resource), daemon=True))
        return True

    def _live(self, run: Run, resource: Resource) -> None:
        properties = resource["properties"]
        status, error = "Completed", ""
        try:
            self._change(run, status="Running")
            for number in range(properties["limits"]["maxTotalTrials"]):
                if run.stopped:
                    break
                values = drawn(properties, number)
                self._trial(run, f"{run.name}_{number}", properties, values)
            about = {**properties["properties"], "best_child_run_id": self._best(run, properties["objective"])}
            self._change(run, properties={key: value for key, value in about.items() if value})
        except Exception as problem:  # whatever goes wrong is in the status
            status, error = "Failed", f"{type(problem).__name__}: {problem}"
            self._change(run, properties={**properties["properties"], "error": error})
        self._change(run, status="Canceled" if run.stopped else status)

    def _change(self, run: Run, **properties: Any) -> None:
        self._store.change(f"{run.workspace}/jobs/{run.name}", **properties)

    def _trial(self, run: Run, name: str, sweep: dict[str, Any], values: dict[str, str]) -> None:
        """Run one trial to its end."""
        trial = sweep["trial"]
        properties = {key: trial[key] for key in OF_TRIAL if trial.get(key) is not None}
        properties |= {
            "jobType": "Command",
            "command": PLACEHOLDER.sub(lambda found: values[found[1]], trial["command"]),
        }
        properties |= {key: sweep[key] for key in ("inputs", "identity", "computeId") if sweep.get(key)}
        properties["outputs"] = {key: {**value} for key, value in sweep["outputs"].items() if key != "default"}
        timeout = sweep["limits"].get("trialTimeout")
        properties |= {"limits": {"jobLimitsType": "Command", "timeout": timeout}} if timeout else {}
        properties |= {"experimentName": sweep["experimentName"], "properties": {"parent": run.name}}
        properties["tags"] = {"hyperparameters": str(values)}
        body = complete(f"jobs/{name}", {"properties": copy.deepcopy(properties)})
        child, _ = self._store.put(f"{run.workspace}/jobs/{name}", body)
        self._tracking.begin(child)
        self._executor.start(child)
        while self._store.get(child["id"])["properties"]["status"] not in ENDED:
            if run.stopped:
                self._executor.stop(name)
            threading.Event().wait(0.1)

    def _best(self, run: Run, objective: dict[str, str]) -> str | None:
        """The trial with the best value of the metric; None where none has logged it."""
        pick = max if objective["goal"].lower() == "maximize" else min
        scores: dict[str, float] = {}
        for name, tracked in self._tracking.runs.items():
            logged = [m["value"] for m in tracked["metrics"] if m["key"] == objective["primaryMetric"]]
            if re.fullmatch(rf"{re.escape(run.name)}_\d+", name) and logged:
                scores[name] = pick(logged)
        return pick(scores, key=lambda name: scores[name]) if scores else None


def drawn(sweep: dict[str, Any], number: int) -> dict[str, str]:
    """The values of a trial, written as the service writes them: whole numbers of a quantised interval as 8.0."""
    seed = sweep["samplingAlgorithm"].get("seed")
    draw = random.Random(f"{seed} {number}")
    return {name: _written(_value(draw, *expression)) for name, expression in sweep["searchSpace"].items()}


def _value(draw: random.Random, kind: str, arguments: list[Any]) -> Any:
    if kind == "choice":
        return draw.choice(arguments[0])
    low, high, *step = arguments
    value = draw.uniform(low, high)
    if kind.endswith("loguniform"):
        value = math.exp(value)
    return round(value / step[0]) * float(step[0]) if kind.startswith("q") else value


def _written(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
