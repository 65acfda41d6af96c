"""The Python environment of a job elsewhere: what this package needs, in the versions that were tried together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pointseg.core.errors import ConfigError
from pointseg.core.package import FOLDER

__all__ = ["conda_environment", "read_pins", "requirements_of", "shipped"]

TORCH_INDEX = "https://download.pytorch.org/whl"
TARGET = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}


def shipped(file: str | Path) -> Path:
    """A file by its name here, or of those that come with the package, such as environments/conda.yml.

    Example:
        >>> shipped("environments/constraints.txt").is_file()
        True
    """
    package = FOLDER
    root = package if (package / "environments").is_dir() else package.parent  # of an installed wheel, or a checkout
    path = Path(file).expanduser()
    return path if path.is_file() or not (root / path).is_file() else root / path


def read_pins(path: Path) -> dict[str, str]:
    """Versions by normalised name, of a constraints file.

    Raises:
        ConfigError: if it cannot be read, or a line is no NAME==VERSION.
    """
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ConfigError(f"the list of versions cannot be read ({error.strerror})", where=path) from error
    pins: dict[str, str] = {}
    for line in filter(None, lines):
        name, equals, pinned = line.partition("==")
        if not equals:
            raise ConfigError("a line is no NAME==VERSION", where=f"{path}: {line}")
        pins[canonicalize_name(name)] = pinned
    return pins


def requirements_of(package: str, extras: Iterable[str] = (), python: str = "3.11") -> set[str]:
    """Normalised names of all packages that a package needs on Linux, through all their own needs, itself left out.

    What is not installed here has no needs that could be known.

    Example:
        >>> "lightning-utilities" in requirements_of("pointseg")
        True
    """
    found: set[str] = set()
    waiting = [(package, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for requirement in _requires(name):
            if _applies(requirement.marker, wanted, python):
                key = canonicalize_name(requirement.name)
                found.add(key)
                waiting.append((key, frozenset(requirement.extras)))
    return found - {canonicalize_name(package)}


@cache
def _requires(name: str) -> tuple[Requirement, ...]:
    """What a package that is installed here needs itself."""
    try:
        return tuple(map(Requirement, requires(name) or ()))
    except PackageNotFoundError:
        return ()


def _applies(marker: Marker | None, extras: Iterable[str], python: str) -> bool:
    if marker is None:
        return True
    environment = {**TARGET, "python_version": python, "python_full_version": f"{python}.0"}
    return any(marker.evaluate({**environment, "extra": extra}) for extra in (*extras, ""))


def conda_environment(base: Path, pins: Mapping[str, str], names: Iterable[str], torch_build: str | None = None) -> str:
    """A conda environment file that needs no other file: `base` with the pip packages of `names`, each at its version.

    Args:
        base: the conda file whose channels and Python are kept.
        pins: versions by normalised name.
        names: packages; one without a pin takes the version that is installed here.
        torch_build: "cpu", "cu126" and the like: which build of torch, from PyTorch's own index; None: as PyPI has it, with
            the newest CUDA, which needs the newest driver.

    Raises:
        ConfigError: if `base` cannot be read, or a package has no version.
    """
    try:
        content = yaml.safe_load(base.read_text(encoding="utf-8"))
        kept = [item for item in content["dependencies"] if isinstance(item, str)]
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise ConfigError(f"the environment cannot be read ({type(error).__name__})", where=base) from error
    lines = [f"{name}=={pins.get(name) or _installed(name)}" for name in sorted(set(names))]
    if torch_build is not None:
        lines = [f"{line}+{torch_build}" if line.startswith("torch==") else line for line in lines]
        lines = [f"--extra-index-url {TORCH_INDEX}/{torch_build}", *lines]
    content["dependencies"] = [*kept, {"pip": lines}]
    return yaml.safe_dump(content, sort_keys=False)


def _installed(name: str) -> str:
    try:
        return re.sub(r"\+.*", "", version(name))  # torch's own wheels for processors say +cpu
    except PackageNotFoundError as error:
        raise ConfigError(
            f"no version of {name} is known", where="environments/constraints.txt", remedy="Add it there."
        ) from error
