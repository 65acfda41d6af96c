"""Mounts a folder by the driver that Azure ML mounts the outputs of jobs with, over a local folder in place of a storage account.

The driver is in azureml-dataprep-rslex, in an environment of its own: `make mount-env` makes .venv-mount, and
POINTSEG_MOUNT_PYTHON names another. It reports a disk of 0 bytes and refuses hard links, as on a cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import pytest

DRIVER = """
import signal, sys, threading
from pathlib import Path
from azureml.dataprep import rslex

place = Path(sys.argv[1])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
rslex.init_environment(str(place / "log"), None, "INFO", False, "session", "client", None)
options = rslex.PyMountOptions(None, str(place / "cache"), None, False, False, 0o777, True)
context = rslex.RslexURIMountContext(str(place / "mount"), f"file://{place / 'source'}", options, True)
context.start(False)
print("mounted", flush=True)
stop.wait(900)
context.stop()
"""
SECONDS = 30.0


def _python() -> Path:
    named = os.environ.get("POINTSEG_MOUNT_PYTHON")
    return Path(named) if named else Path(sys.prefix).parent / ".venv-mount" / "bin" / "python"


class MountOfAzure:
    """A context manager: `path` is the mount while it is open; what is written there lies in `source` afterwards.

    Skips the test, with the reason, where this machine cannot mount.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.path, self.source = place, place / "mount", place / "source"

    def __enter__(self) -> MountOfAzure:
        if not Path("/dev/fuse").exists() or os.geteuid() != 0:
            pytest.skip("FUSE: this machine has no /dev/fuse, or mounting is not allowed here")
        if not _python().exists():
            pytest.skip("the mount driver is not installed: make mount-env")
        for name in ("source", "mount", "cache", "log"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        apart = ["unshare", "-n"] if subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0 else []
        words = [*apart, str(_python()), "-c", DRIVER, str(self.place)]
        with (self.place / "driver.log").open("wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        ends = time.monotonic() + SECONDS
        while not os.path.ismount(self.path):
            if self.process.poll() is not None or time.monotonic() > ends:
                said = (self.place / "driver.log").read_text(errors="replace")[-300:]
                self.kill()
                pytest.skip(f"FUSE: the driver cannot mount on this machine: {said}")
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """SIGKILL, as when the node goes; the mount is a dead one until it is taken away here."""
        self.process.kill()
        self.process.wait()
        subprocess.run(["fusermount", "-uz", str(self.path)], check=False, capture_output=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        subprocess.run(["fusermount", "-uz", str(self.path)], check=False, capture_output=True)
