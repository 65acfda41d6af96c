"""Calls of the Azure SDK: its errors as messages that say what to do, a missing resource as None."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from pointseg.core.errors import PointsegError
from pointseg.core.optional_packages import needed

__all__ = ["AzureError", "completed", "completing", "get_or_none", "plain_errors", "sdk_entities"]

log = logging.getLogger(__name__)

REMEDIES = {
    401: "Sign in (az login), or choose azure.auth.",
    403: "Ask for the role AzureML Data Scientist in the workspace.",
    404: "Check the workspace and the names of cluster, data and environment.",
    409: "It exists with other content: choose another name or version.",
    412: "It was changed in the meantime: try again.",
    429: "Azure asks to slow down: try again in a few minutes.",
}
PARENTS_NOT_FOUND = ("SubscriptionNotFound", "ResourceGroupNotFound")  # a 404, but not about the thing itself


class AzureError(PointsegError):
    """Azure refused, or could not be reached. `status` is the HTTP status of its answer, 0 where there was none."""

    status = 0


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Raises AzureError in place of what the SDK raises, naming what was being done.

    What the SDK prints to standard error in the meantime, blank lines after an upload, goes to the log.
    """
    core = needed("azure.core.exceptions", "azure", "Azure ML")
    sdk = needed("azure.ai.ml.exceptions", "azure", "Azure ML")
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            yield
    except core.ClientAuthenticationError as error:
        text = f"{what}: Azure does not accept the sign-in ({_first_line(error)})"
        raise AzureError(text, remedy=REMEDIES[401]) from error
    except core.HttpResponseError as error:
        status = getattr(error, "status_code", None) or 0
        how = f"Azure answered {status}" if status >= 400 else "a long operation failed at its end"
        remedy = REMEDIES.get(status, "Try again later." if status >= 500 else "")
        refused = AzureError(f"{what}: {how} ({_first_line(error)})", remedy=remedy)
        refused.status = status
        raise refused from error
    except sdk.MlException as error:  # the SDK's own refusals, which are AzureErrors as well
        raise AzureError(f"{what}: {_first_line(error)}") from error
    except core.AzureError as error:
        text = f"{what}: Azure cannot be reached ({_first_line(error)})"
        raise AzureError(text, remedy="Check the network and try again.") from error
    finally:
        if text := _without_colours(printed.getvalue()).strip():
            log.debug("%s", text)


def completed(what: str, call: Callable[[], Any]) -> Any:
    """What a call of the SDK gives, after the long operation that it may begin has ended.

    Raises:
        AzureError: if Azure refuses or cannot be reached.

    Example:
        >>> completed("deleting the endpoint", lambda: client.batch_endpoints.begin_delete(name="street"))
    """
    with plain_errors(what):
        answer = call()
        return answer.result() if hasattr(answer, "result") else answer


def completing(what: str, call: Callable[[], Any]) -> Callable[[], None]:
    """`completed`, to be called later: what a step does."""

    def do() -> None:
        completed(what, call)

    return do


def get_or_none(what: str, call: Callable[[], Any]) -> Any:
    """The answer of a call, or None where Azure says that there is no such thing.

    Args:
        what: is being looked for, for the message of an error.

    Raises:
        AzureError: for every other refusal, or if Azure cannot be reached.

    Example:
        >>> get_or_none("the cluster gpu-cluster", lambda: client.compute.get("gpu-cluster")) is None
        True
    """
    core = needed("azure.core.exceptions", "azure", "Azure ML")
    sdk = needed("azure.ai.ml.exceptions", "azure", "Azure ML")
    with plain_errors(f"looking for {what}"):
        try:
            return call()
        except core.ResourceNotFoundError as error:
            if getattr(error.error, "code", None) in PARENTS_NOT_FOUND:
                raise
            return None
        except sdk.MlException as error:  # in place of a 404 where the newest version of nothing is asked for
            cause = error if isinstance(error, sdk.ValidationException) else error.__context__
            if getattr(cause, "error_type", None) != sdk.ValidationErrorType.RESOURCE_NOT_FOUND:
                raise
            return None


def sdk_entities() -> Any:
    """The classes of the SDK.

    Raises:
        ConfigError: if it is not installed.
    """
    return needed("azure.ai.ml.entities", "azure", "Azure ML")


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _first_line(error: Any) -> str:
    text = _without_colours(str(getattr(error, "message", None) or error))
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line[:300].rstrip(".")
