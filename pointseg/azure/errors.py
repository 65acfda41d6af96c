"""What the Azure SDK raises, as messages that say what to do."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from pointseg.errors import PointsegError
from pointseg.extras import needed

__all__ = ["AzureError", "plain_errors"]

log = logging.getLogger(__name__)

REMEDIES = {
    401: "Sign in (az login), or choose azure.auth.",
    403: "Ask for the role AzureML Data Scientist in the workspace.",
    404: "Check the workspace and the names of cluster, data and environment.",
    409: "It exists with other content: choose another name or version.",
    412: "It was changed meanwhile: try again.",
    429: "Azure asks to slow down: try again in some minutes.",
}


class AzureError(PointsegError):
    """Azure refused, or could not be reached. `status` is what it answered, where it did."""

    status = 0


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Raises AzureError in place of what the SDK raises, naming what was being done.

    What the SDK prints to standard error meanwhile, blank lines after an upload, goes to the log.
    """
    core = needed("azure.core.exceptions", "azure", "Azure ML")
    sdk = needed("azure.ai.ml.exceptions", "azure", "Azure ML")
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            yield
    except core.ClientAuthenticationError as error:
        raise AzureError(
            f"{what}: Azure does not know who asks ({_first_line(error)})", remedy=REMEDIES[401]
        ) from error
    except core.HttpResponseError as error:
        status = getattr(error, "status_code", None) or 0
        remedy = REMEDIES.get(status, "Try again later." if status >= 500 else "")
        how = f"Azure answered {status}" if status >= 400 else "a long operation failed at its end"
        refused = AzureError(f"{what}: {how} ({_first_line(error)})", remedy=remedy)
        refused.status = status
        raise refused from error
    except sdk.MlException as error:  # the SDK's own refusals, which are AzureErrors as well
        raise AzureError(f"{what}: {_first_line(error)}") from error
    except core.AzureError as error:
        raise AzureError(
            f"{what}: Azure cannot be reached ({_first_line(error)})", remedy="Check the network and try again."
        ) from error
    finally:
        if text := _plain(printed.getvalue()).strip():
            log.debug("%s", text)


def _plain(text: str) -> str:
    """Without the colours that the SDK gives its messages."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _first_line(error: Any) -> str:
    text = str(getattr(error, "message", None) or error)
    line = next((line.strip() for line in _plain(text).splitlines() if line.strip()), type(error).__name__)
    return line[:300].rstrip(".")
