"""Plays a process of Azure's batch driver: loads the scoring script, begins, and gives it mini-batch after mini-batch."""

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path


def main() -> None:
    spec = json.loads(sys.argv[1])
    own = ["--model", "model", "--mini_batch_size", str(spec["mini_batch_size"]), "--batch_endpoint_enabled", "True"]
    sys.argv = ["driver/amlbi_main.py", *own, *spec["words"]]
    told = os.dup(1)  # what the script prints goes to the log
    os.dup2(2, 1)
    found = importlib.util.spec_from_file_location("entry_module", spec["script"])
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    script.init()
    size, files, failed, lines = spec["mini_batch_size"], spec["files"], 0, []
    batches = [files[start : start + size] for start in range(0, len(files), size)]
    for batch in batches[spec["number"] :: spec["of"]]:
        answer = attempt(script.run, batch, spec["retries"])
        failed += max(0, len(batch) - len(answer))
        lines += answer
    if spec["appended"] and lines:
        with (Path(os.environ["AZUREML_BI_OUTPUT_PATH"]) / spec["appended"]).open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
    os.write(told, json.dumps({"failed": failed}).encode() + b"\n")


def attempt(run, batch, retries):
    """What `run` gives, or the best of several attempts: fewer answers than files are a failure, an exception as well."""
    best = []
    for _ in range(retries + 1):
        try:
            answer = run(list(batch))
        except Exception:
            traceback.print_exc()
            continue
        assert isinstance(answer, list), "run() gives a list or a data frame"
        best = answer if len(answer) > len(best) else best
        if len(answer) >= len(batch):
            break
    return best


if __name__ == "__main__":
    main()
