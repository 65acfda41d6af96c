"""Whether this machine has what the stand-in needs.

Imports none of it: azure.ai.ml reads its polling intervals from the environment when it is first imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

PACKAGES = {
    "azure.ai.ml": "azure-ai-ml is not installed (pip install -e '.[azure]')",
    "azure.mgmt.machinelearningservices": "azure-mgmt-machinelearningservices, against which bodies are checked, is not installed",
    "azure.mgmt.containerinstance": "azure-mgmt-containerinstance, for container groups, is not installed",
    "azure.mgmt.monitor": "azure-mgmt-monitor, by which endpoints scale, is not installed",
    "cryptography": "cryptography is not installed",
}
CHECKOUT = Path(__file__).parents[3]


def azurite() -> Path | None:
    """Azurite's Blob program: in the folder that POINTSEG_AZURITE names, or in `.azurite` beside pyproject.toml."""
    folder = Path(os.environ.get("POINTSEG_AZURITE") or CHECKOUT / ".azurite")
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    return program if program.is_file() and shutil.which("node") else None


def missing() -> str | None:
    """The reason for which a test is skipped; None where nothing is missing."""
    if azurite() is None:
        return "Azurite is not installed (make azure-test-env), or POINTSEG_AZURITE names no folder with it"
    return next((reason for package, reason in PACKAGES.items() if not _found(package)), None)


def _found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
