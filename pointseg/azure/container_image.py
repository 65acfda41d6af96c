"""The scoring image with a model in it, built by Azure (`az acr build`) out of folders that hold what goes in and no more."""

from __future__ import annotations

import hashlib
import logging
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pointseg
from pointseg.azure.errors import AzureError
from pointseg.azure.names import check_matches
from pointseg.azure.plan import Step
from pointseg.errors import ConfigError
from pointseg.redact import redact_text

__all__ = ["ImageBuild", "check_image", "image_steps", "prepare"]

log = logging.getLogger(__name__)

SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "configs",
    "environments",
    "pointseg",
)  # of environments/Dockerfile
BASE = "pointseg-scoring"
BUILD_SECONDS = 3600
LAST_LINES = 3
# What `az acr repository show` says of an image or a repository that there is not, in its versions.
MISSING = (
    "not found",
    "notfound",
    "manifest",
    "tag does not exist",
    "tag_unknown",
    "name_unknown",
    "not known to registry",
)


def check_image(key: str, image: object) -> str:
    """An image with its registry and its tag.

    Raises:
        ConfigError: naming the key.
    """
    pattern = (
        r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?/[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})"
    )
    return check_matches(key, image, pattern, "image with registry and tag", "Such as NAME.azurecr.io/scoring:3.")


@dataclass(frozen=True)
class ImageBuild:
    """One image that is to be had.

    Attributes:
        registry: its name, without .azurecr.io.
        name: NAME:TAG, the tag by content: the same content is not built again.
        folder: all that goes in, with the Dockerfile.
    """

    registry: str
    name: str
    folder: Path

    @property
    def image(self) -> str:
        return f"{self.registry}.azurecr.io/{self.name}"

    @property
    def command(self) -> list[str]:
        """What builds it."""
        file = ["--file", str(self.folder / "Dockerfile")]
        return ["az", "acr", "build", "--registry", self.registry, "--image", self.name, *file, str(self.folder)]


def prepare(registry: object, repository: object, bundle: Path, folder: Path) -> list[ImageBuild]:
    """The images of the code and, upon it, of the model, as folders to build them from.

    Args:
        registry: the name of a container registry.
        repository: the name of the model's image.
        bundle: of the model.
        folder: in which they are put together.

    Raises:
        ConfigError: if a name is none, or this is not a checkout.
    """
    place = check_matches(
        "aci.registry", registry, r"[a-z0-9]{5,50}", "name of a registry", "Without .azurecr.io: small letters, digits."
    )
    own = check_matches(
        "aci.repository", repository, r"[a-z0-9]+([._/-][a-z0-9]+)*", "name of an image", "Such as pointseg-model."
    )
    root = Path(pointseg.__file__).resolve().parents[1]
    if not all((root / source).exists() for source in SOURCES):
        raise ConfigError(
            "the image is built from a checkout, and this is an installed package",
            where=root,
            remedy="Run scripts/deploy.py of a checkout, or name an image: aci.image=REGISTRY.azurecr.io/NAME:TAG.",
        )
    code, model = folder / "code", folder / "model"
    code.mkdir(parents=True)
    for source in SOURCES:
        if (root / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            shutil.copytree(root / source, code / source, ignore=ignored)
        else:
            shutil.copy2(root / source, code / source)
    shutil.copy2(root / "environments" / "Dockerfile", code / "Dockerfile")
    base = ImageBuild(place, f"{BASE}:{_digest(code)}", code)
    shutil.copytree(bundle, model / "bundle")
    (model / "Dockerfile").write_text(f"FROM {base.image}\nCOPY bundle /model\n", encoding="utf-8")
    return [base, ImageBuild(place, f"{own}:{_digest(model)}", model)]


def _digest(folder: Path) -> str:
    """Of all files by name and content."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def image_steps(builds: list[ImageBuild], kept: Path, *, ask: bool = True) -> list[Step]:
    """What is to be done so that the registry has the images; it is asked by `az`, where that is installed.

    Args:
        kept: where folders are left for whoever builds elsewhere.
        ask: False for a plan that asks nobody.

    Raises:
        AzureError: if the registry cannot be asked.
    """
    steps = []
    have_az = shutil.which("az") is not None
    for build in builds:
        if ask and have_az and _is_there(build):
            steps.append(Step("image", build.name, "keep"))
            continue
        notes = ("a build in Azure costs some cents; the registry keeps the image, which costs by the day",)
        command = shlex.join(build.command)
        do = _building(build) if have_az else _cannot(builds, kept)
        steps.append(Step("image", build.name, "create", (command,), do, notes))
    return steps


def _is_there(build: ImageBuild) -> bool:
    words = ["az", "acr", "repository", "show", "--name", build.registry, "--image", build.name, "--output", "none"]
    done = _run(words, 120)
    if done.returncode == 0:
        return True
    if any(word in done.stderr.lower() for word in MISSING):
        return False
    raise AzureError(
        f"the registry {build.registry} cannot be asked ({_last(done)})",
        where="az acr repository show",
        remedy="az login.",
    )


def _run(words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AzureError(f"az cannot be run ({error})", where=" ".join(words[:4])) from error


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return redact_text(" / ".join(lines[-LAST_LINES:]))[-400:].rstrip(".") or f"exit code {done.returncode}"


def _building(build: ImageBuild) -> Callable[[], None]:
    def do() -> None:
        log.info("%s", shlex.join(build.command))
        done = _run(build.command, BUILD_SECONDS)
        if done.returncode:
            raise AzureError(
                f"az acr build failed ({_last(done)})", where=build.name, remedy="See its run in the portal."
            )

    return do


def _cannot(builds: list[ImageBuild], kept: Path) -> Callable[[], None]:
    def do() -> None:
        commands = []
        for build in builds:
            folder = kept / build.folder.name
            shutil.copytree(build.folder, folder, dirs_exist_ok=True)
            commands.append(shlex.join(ImageBuild(build.registry, build.name, folder).command))
        for command in commands:
            log.info("%s", command)
        raise AzureError(
            "az is not installed here, which builds the image",
            where="az acr build",
            remedy=f"Run the commands above where it is, then give aci.image={builds[-1].image}.",
        )

    return do
