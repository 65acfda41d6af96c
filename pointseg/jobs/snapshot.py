"""The code that a job takes along: a folder of its own, without data, results or secrets.

In a checkout it is what Python runs and reads: the package, its configurations, the environments and scripts; of an
installed wheel it is the package, which has its configurations inside.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.package import FOLDER
from pointseg.core.redaction import is_secret_name

__all__ = ["SNAPSHOT_LIMIT", "take_snapshot"]

TAKEN = ("pointseg", "configs", "environments", "scripts", "pyproject.toml", "LICENSE", "README.md")
LEFT = ("__pycache__", "*.pyc", ".*", "*.egg-info")
SNAPSHOT_LIMIT = 300 << 20  # bytes that Azure ML takes
SECRET_FILES = re.compile(
    r"(\.(pem|key|pfx|p12|keystore)|(^|/)(id_rsa|id_ed25519|credentials?(\.json)?|\.env.*|\.netrc))$", re.I
)
SECRET_TEXT = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s|AccountKey=[A-Za-z0-9+/]{20}|[?&]sig=[A-Za-z0-9%+/]{20}"
    rb"|SharedAccessSignature\ssr="
)
ASSIGNED = re.compile(rb"^\s*([A-Za-z_.]{3,40})\s*[:=]\s*[\"']?([A-Za-z0-9+/_\-.~]{16,})[\"']?\s*$", re.M)
CONFIG_SUFFIXES = (".yaml", ".yml", ".json", ".ini", ".toml", ".cfg", ".txt")


def take_snapshot(folder: Path, names: Sequence[str] | None = None) -> Path:
    """Copy the code into a new folder, and look through it for secrets.

    Args:
        names: what is taken, of what lies where the package does; None: all that a job needs.

    Raises:
        ConfigError: if a file looks like a secret, or there is too much.
        OutputError: if it cannot be written.
    """
    package = FOLDER
    root = package.parent
    if names is None:
        names = TAKEN if (root / "configs").is_dir() and (root / "pyproject.toml").is_file() else ("pointseg",)
    try:
        folder.mkdir(parents=True)
        for name in names:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*LEFT))
            elif source.is_file():
                shutil.copy2(source, folder / name)
    except OSError as error:
        raise OutputError(f"the code cannot be copied ({error.strerror})", where=folder) from error
    _refuse_too_much(folder)
    for file in _files(folder):
        refuse_secret(file, folder)
    return folder


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _refuse_too_much(folder: Path) -> None:
    sizes = {path: path.stat().st_size for path in _files(folder)}
    if sum(sizes.values()) > SNAPSHOT_LIMIT:
        largest = max(sizes, key=lambda path: sizes[path])
        raise ConfigError(
            f"the code of the job has {sum(sizes.values()) >> 20} MiB, and {SNAPSHOT_LIMIT >> 20} are taken",
            where=largest.relative_to(folder),
            remedy="Data does not belong there: name it as an input.",
        )


def refuse_secret(file: Path, root: Path) -> None:
    """Raises ConfigError if a file's name or content says that it is a secret."""
    name = file.relative_to(root).as_posix()
    remedy = "Take it out of the code; keys belong into the environment or a key vault."
    if SECRET_FILES.search(name):
        raise ConfigError("a file that looks like a secret would go along", where=name, remedy=remedy)
    content = file.read_bytes()
    if SECRET_TEXT.search(content):
        raise ConfigError("a file with a key in it would go along", where=name, remedy=remedy)
    if file.suffix in CONFIG_SUFFIXES:
        for key, _ in ASSIGNED.findall(content):
            if is_secret_name(key.decode()):
                raise ConfigError(f"a file with a value for {key.decode()} would go along", where=name, remedy=remedy)
