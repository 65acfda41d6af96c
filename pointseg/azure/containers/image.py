"""The scoring image with a model in it, built by Azure (`az acr build`) from folders that hold only what goes in."""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pointseg.azure.endpoints.deployment import folder_digest
from pointseg.azure.errors import AzureError
from pointseg.azure.names import check_matches
from pointseg.azure.steps import Step
from pointseg.core.errors import ConfigError
from pointseg.core.package import FOLDER
from pointseg.core.redaction import redact_text
from pointseg.jobs.snapshot import take_snapshot

__all__ = ["ImageBuild", "ImageCopy", "check_image", "image_builds", "image_copy", "image_steps"]

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
# What versions of `az acr repository show` say where an image or a repository does not exist.
MISSING = (
    *("not found", "notfound", "manifest", "tag does not exist"),
    *("tag_unknown", "name_unknown", "not known to registry"),
)
TAGGED_IMAGE = (
    r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?/[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})"
)


def check_image(key: str, image: object) -> str:
    """An image with its registry and tag; raises ConfigError naming the key."""
    remedy = "Such as NAME.azurecr.io/scoring:3."
    return check_matches(key, image, TAGGED_IMAGE, "image with registry and tag", remedy)


@dataclass(frozen=True)
class ImageBuild:
    """An image to build, unless the registry has it.

    Attributes:
        registry: its name, without .azurecr.io.
        name: NAME:TAG; the tag is a digest, so that the same content is not built again.
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


@dataclass(frozen=True)
class ImageCopy:
    """A public image to copy into the registry, unless that has it: anonymous pulls are limited, and fail when it matters.

    Attributes:
        registry, name: as of `ImageBuild`.
        source: where it is, such as docker.io/library/caddy:2.10-alpine.
    """

    registry: str
    name: str
    source: str

    @property
    def image(self) -> str:
        return f"{self.registry}.azurecr.io/{self.name}"

    @property
    def command(self) -> list[str]:
        """What copies it."""
        return ["az", "acr", "import", "--name", self.registry, "--source", self.source, "--image", self.name]


def image_copy(registry: str, source: str) -> ImageCopy | None:
    """The copy of a public image of Docker's registry; None for one that lies elsewhere.

    Example:
        >>> image_copy("example", "docker.io/library/caddy:2.10-alpine").image
        'example.azurecr.io/library/caddy:2.10-alpine'
    """
    place, _, name = source.partition("/")
    return ImageCopy(registry, name, source) if place == "docker.io" and "@" not in name else None


def image_builds(registry: object, repository: object, bundle: Path, folder: Path) -> list[ImageBuild]:
    """The image of the code and, on top of it, that of the model, as folders to build them from.

    Args:
        registry: the name of a container registry.
        repository: the name of the model's image.
        bundle: of the model.
        folder: in which they are put together.

    Raises:
        ConfigError: if a name is invalid, or this is not a checkout.
    """
    remedy = "Give it without .azurecr.io: lower-case letters and digits."
    place = check_matches("aci.registry", registry, r"[a-z0-9]{5,50}", "registry name", remedy)
    pattern = r"[a-z0-9]+([._/-][a-z0-9]+)*"
    own = check_matches("aci.repository", repository, pattern, "image name", "Such as pointseg-model.")
    root = FOLDER.parent
    if not all((root / source).exists() for source in SOURCES):
        raise ConfigError(
            "the image is built from a checkout, and this is an installed package",
            where=root,
            remedy="Run scripts/deploy.py of a checkout, or name an image: aci.image=REGISTRY.azurecr.io/NAME:TAG.",
        )
    code, model = take_snapshot(folder / "code", SOURCES), folder / "model"
    shutil.copy2(root / "environments" / "Dockerfile", code / "Dockerfile")
    base = ImageBuild(place, f"{BASE}:{folder_digest(code)[:12]}", code)
    shutil.copytree(bundle, model / "bundle")
    (model / "Dockerfile").write_text(f"FROM {base.image}\nCOPY bundle /model\n", encoding="utf-8")
    return [base, ImageBuild(place, f"{own}:{folder_digest(model)[:12]}", model)]


def image_steps(builds: Sequence[ImageBuild | ImageCopy], kept: Path, *, ask: bool = True) -> list[Step]:
    """What to do so that the registry has the images; `az` asks it, where that is installed.

    Args:
        kept: where the folders are left if they must be built elsewhere.
        ask: False for a plan that asks nobody.

    Raises:
        AzureError: if the registry cannot be asked.
    """
    steps = []
    have_az = shutil.which("az") is not None
    notes = ("a build in Azure costs a few cents; the registry keeps the image, which costs by the day",)
    for build in builds:
        if ask and have_az and _exists(build):
            steps.append(Step("image", build.name, "keep"))
            continue
        do = partial(_build, build) if have_az else partial(_refuse_without_az, builds, kept)
        steps.append(Step("image", build.name, "create", (shlex.join(build.command),), do, notes))
    return steps


def _exists(build: ImageBuild | ImageCopy) -> bool:
    command = ["az", "acr", "repository", "show", "--name", build.registry, "--image", build.name, "--output", "none"]
    done = _run(command, 120)
    if done.returncode == 0:
        return True
    if any(phrase in done.stderr.lower() for phrase in MISSING):
        return False
    text = f"the registry {build.registry} cannot be asked ({_last_lines(done)})"
    raise AzureError(text, where="az acr repository show", remedy="az login.")


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AzureError(f"az cannot be run ({error})", where=" ".join(command[:4])) from error


def _last_lines(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return redact_text(" / ".join(lines[-LAST_LINES:]))[-400:].rstrip(".") or f"exit code {done.returncode}"


def _build(build: ImageBuild | ImageCopy) -> None:
    log.info("%s", shlex.join(build.command))
    done = _run(build.command, BUILD_SECONDS)
    if done.returncode:
        text = f"{' '.join(build.command[:3])} failed ({_last_lines(done)})"
        raise AzureError(text, where=build.name, remedy="See its run in the portal.")


def _model_of(builds: Sequence[ImageBuild | ImageCopy]) -> ImageBuild:
    """The image of the model, which is built last."""
    return [build for build in builds if isinstance(build, ImageBuild)][-1]


def _refuse_without_az(builds: Sequence[ImageBuild | ImageCopy], kept: Path) -> None:
    """Leave the folders and log the commands that build them."""
    for build in builds:
        if isinstance(build, ImageBuild):
            build = replace(build, folder=shutil.copytree(build.folder, kept / build.folder.name, dirs_exist_ok=True))
        log.info("%s", shlex.join(build.command))
    raise AzureError(
        "az is not installed here, and it builds the image",
        where="az acr build",
        remedy=f"Run the commands above where it is, then give aci.image={_model_of(builds).image}.",
    )
