"""What the SDK raises, told apart: its own refusals are not a network that is down."""

from __future__ import annotations

import pytest

from pointseg.azure.errors import AzureError, plain_errors

core = pytest.importorskip("azure.core.exceptions", reason="azure-core is not installed")
sdk = pytest.importorskip("azure.ai.ml.exceptions", reason="azure-ai-ml is not installed")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: sdk.ValidationException("no such folder", "no such folder"), "upload: no such folder."),
        (lambda: core.ServiceRequestError("no route"), "upload: Azure cannot be reached (no route). Check the network"),
        (
            lambda: core.ClientAuthenticationError("no token"),
            "upload: Azure does not accept the sign-in (no token). Sign in",
        ),
    ],
    ids=["the SDK refuses", "no network", "nobody signed in"],
)
def test_what_the_sdk_raises(error: object, says: str) -> None:
    with pytest.raises(AzureError) as raised, plain_errors("upload"):
        raise error()  # type: ignore[operator]
    assert str(raised.value).startswith(says)
