"""The code that a deployment takes along: the package, and the script at its root that Azure loads."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pointseg.compute.snapshot import take_snapshot
from pointseg.files import write_text

__all__ = ["BATCH_DRIVER", "SCORE_DRIVER", "take_scoring_code"]

BATCH_DRIVER, SCORE_DRIVER = "batch_driver.py", "score.py"
MODULES = {BATCH_DRIVER: "batch_score", SCORE_DRIVER: "score"}
# At the root, since what lies beside the script can be imported wherever Azure's driver begins.
TEXT = '''"""What Azure loads."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pointseg.serving.{module} import init, run

__all__ = ["init", "run"]
'''


def take_scoring_code(folder: Path, driver: str = BATCH_DRIVER) -> str:
    """Copy the package into a new folder, with the script beside it.

    Args:
        driver: BATCH_DRIVER of batch deployments, SCORE_DRIVER of online ones.

    Returns:
        The SHA-256 of names and contents.

    Raises:
        ConfigError: if a file looks like a secret, or there is too much.
        OutputError: if it cannot be written.
    """
    take_snapshot(folder, ("pointseg",))
    write_text(folder / driver, TEXT.format(module=MODULES[driver]))
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
