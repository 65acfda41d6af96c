"""What there is in a workspace, where "nothing" is an answer and not an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.extras import needed

__all__ = ["found"]

ABOVE = ("SubscriptionNotFound", "ResourceGroupNotFound")  # a 404, but not of what was asked for


def found(what: str, ask: Callable[[], Any]) -> Any:
    """The answer, or None where Azure says that there is no such thing.

    Args:
        what: is being done, for the message of an error.
        ask: the SDK's call.

    Raises:
        AzureError: for everything else that Azure answers, or does not.

    Example:
        >>> found("reading the cluster", lambda: client.compute.get("gpu-cluster")) is None
        True
    """
    core = needed("azure.core.exceptions", "azure", "Azure ML")
    sdk = needed("azure.ai.ml.exceptions", "azure", "Azure ML")
    with plain_errors(what):
        try:
            return ask()
        except core.ResourceNotFoundError as error:
            if getattr(error.error, "code", None) in ABOVE:
                raise
            return None
        except sdk.MlException as error:  # in place of a 404 where the newest version of nothing is asked for
            cause = error if isinstance(error, sdk.ValidationException) else error.__context__
            if getattr(cause, "error_type", None) != sdk.ValidationErrorType.RESOURCE_NOT_FOUND:
                raise
            return None
