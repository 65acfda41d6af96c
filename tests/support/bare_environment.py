"""Interpreters that have some of the installed packages and no others, in seconds: the packages are links."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path


def needed_by(distribution: str, seen: set[str]) -> set[str]:
    """A distribution and all that it requires without extras, normalised."""
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    if name not in seen:
        seen.add(name)
        with suppress(metadata.PackageNotFoundError):
            for requirement in metadata.requires(name) or ():
                if "extra ==" not in requirement:
                    needed_by(re.match(r"[\w.-]+", requirement)[0], seen)  # type: ignore[index]
    return seen


def bare_environment(root: Path, distributions: Iterable[str], *paths: Path) -> Path:
    """An interpreter that has these distributions, what they require, and folders to import from."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True, timeout=120)
    kept: set[str] = set()
    for distribution in distributions:
        needed_by(distribution, kept)
    packages = root / "packages"
    packages.mkdir()
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        for file in distribution.files or () if name in kept else ():
            top = file.parts[0]
            editable = name == "pointseg" and not top.endswith(".dist-info")  # the checkout itself may be on the path
            if top not in ("..", "__pycache__") and not editable and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))))
    site = next((root / "env/lib").glob("python*/site-packages"))
    (site / "bare.pth").write_text("".join(f"{path}\n" for path in (*paths, packages)))
    return root / "env/bin/python"
