"""Jobs as real processes: each is told its place, all end together, and what went wrong is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pointseg.core.errors import ConfigError, JobFailed, OutputError
from pointseg.jobs import JobSpec, run_locally


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python module `work` that the processes run; those that wait for a lost one are given little time."""
    monkeypatch.setattr("pointseg.jobs.local.PATIENCE", 1.0)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path / "work.py"


def run(module: Path, text: str, *, nodes: int = 1, processes: int = 2, **settings: int) -> int:
    module.write_text("import json, os, signal, sys, time\nrank = int(os.environ['RANK'])\n" + textwrap.dedent(text))
    spec = JobSpec("work", (str(module.parent),), nodes=nodes, processes=processes, variables={"GIVEN": "yes"})
    return run_locally(spec, module.parent / "logs", **settings)


def test_each_process_is_told_its_place(module: Path) -> None:
    names = [
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "OMP_NUM_THREADS",
        "GIVEN",
    ]
    text = f"json.dump([os.environ[n] for n in {names} + ['MASTER_PORT']], open(sys.argv[1] + f'/{{rank}}.json', 'w'))"
    assert run(module, text, nodes=2, processes=2, threads=3) == 0
    told = [json.loads((module.parent / f"{rank}.json").read_text()) for rank in range(4)]
    assert [place[:3] for place in told] == [["0", "0", "0"], ["1", "1", "0"], ["2", "0", "1"], ["3", "1", "1"]]
    assert all(place[3:8] == ["4", "2", "127.0.0.1", "3", "yes"] for place in told)
    assert len({place[8] for place in told}) == 1


def test_cores_are_shared_evenly(module: Path) -> None:
    assert run(module, "open(sys.argv[1] + f'/{rank}', 'w').write(os.environ['OMP_NUM_THREADS'])") == 0
    assert (module.parent / "1").read_text() == str(max(1, len(os.sched_getaffinity(0)) // 2))


def test_the_first_speaks_and_the_others_write(module: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(module, "print('word of', rank)") == 0
    assert capfd.readouterr().out == "word of 0\n"
    assert (module.parent / "logs/rank-1.log").read_text() == "word of 1\n"


def test_what_the_first_has_said_is_not_said_again(module: Path) -> None:
    assert run(module, "sys.exit(2)") == 2


def test_another_that_fails_is_named_with_its_last_words(module: Path) -> None:
    began = time.monotonic()
    with pytest.raises(
        JobFailed, match=r"process 1 of the job ended by exit code 7, and the 1 other was stopped\n  why"
    ):
        run(module, "print('why', flush=True) if rank else time.sleep(60)\nsys.exit(7 if rank else 0)")
    assert time.monotonic() - began < 30


def test_one_that_ends_for_want_of_another_is_not_blamed(module: Path) -> None:
    with pytest.raises(JobFailed, match="process 1 of the job ended by exit code 1"):
        run(module, "time.sleep(0.5 * rank)\nsys.exit(1 if rank else 75)")


def test_one_with_bad_files_stops_no_other(module: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = """
        print('word of', rank)
        time.sleep(0 if rank else 1)
        open(sys.argv[1] + f'/done{rank}', 'w')
        sys.exit(2 if rank else 0)
    """
    assert run(module, text, partial=2) == 2
    assert (module.parent / "done0").exists()
    said = capfd.readouterr()
    assert said.out == "word of 0\n"
    assert "Process 1 (its words are in" in said.err
    assert said.err.endswith("word of 1\n")


def test_more_threads_than_make_sense(module: Path) -> None:
    with pytest.raises(ConfigError, match=r"compute\.threads"):
        run(module, "", threads=100_000)


def test_a_killed_one_is_named(module: Path) -> None:
    with pytest.raises(JobFailed, match=r"process 2 of the job ended by SIGKILL, and the 2 others were stopped"):
        run(module, "time.sleep(1)\nos.kill(os.getpid(), 9) if rank == 2 else time.sleep(60)", processes=3)


def test_one_that_does_not_listen_is_ended(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointseg.jobs.local.PATIENCE", 0.5)
    text = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1] + f'/pid{rank}', 'w').write(str(os.getpid()))
        time.sleep(0.5 if rank else 60)
        sys.exit(3)
    """
    with pytest.raises(JobFailed):
        run(module, text)
    with pytest.raises(ProcessLookupError):
        os.kill(int((module.parent / "pid0").read_text()), 0)


def test_logs_that_cannot_be_written(module: Path) -> None:
    (module.parent / "logs").touch()
    with pytest.raises(OutputError, match=r"words of process 1.*rank-1\.log"):
        run(module, "time.sleep(0.1)")


def assert_both_end(folder: Path, program: str, number: int) -> None:
    """A signal to a launcher of two processes that say when they are ready: both come to their own end."""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=folder)
    end = time.monotonic() + 60
    while not all((folder / f"ready{rank}").exists() for rank in range(2)):
        assert time.monotonic() < end
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait(30) == 130
    assert all((folder / f"ended{rank}").exists() for rank in range(2))


def test_one_that_takes_long_to_stop_is_waited_for(module: Path) -> None:
    """Longer than the others get where one has failed."""
    module.write_text(
        "import os, signal, sys, time\n"
        "rank = int(os.environ['RANK'])\n"
        "def end(*_):\n    time.sleep(0 if rank else 3)\n    open(f'ended{rank}', 'w')\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "open(f'ready{rank}', 'w')\ntime.sleep(60)\n"
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom pointseg.jobs import JobSpec, local\nlocal.PATIENCE = 0.5\n"
        "sys.exit(local.run_locally(JobSpec('work', processes=2), Path('logs')))"
    )
    assert_both_end(module.parent, program, signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_all_and_their_end_is_waited_for(module: Path, number: int) -> None:
    module.write_text(
        "import os, signal, sys, time\n"
        "def end(*_):\n    time.sleep(0.5)\n    open(f'ended{os.environ[\"RANK\"]}', 'w')\n    sys.exit(130)\n"
        f"signal.signal({int(number)}, end)\n"
        "open(f'ready{os.environ[\"RANK\"]}', 'w')\ntime.sleep(60)\n"
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom pointseg.jobs import JobSpec, run_locally\n"
        "sys.exit(run_locally(JobSpec('work', processes=2), Path('logs')))"
    )
    assert_both_end(module.parent, program, number)
