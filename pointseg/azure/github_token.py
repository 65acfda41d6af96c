"""Who a GitHub workflow is, said by GitHub anew whenever Azure asks: no secret is kept, and waiting may take hours."""

from __future__ import annotations

import os

import requests

from pointseg.azure.errors import AzureError

__all__ = ["GITHUB", "github_token"]

GITHUB = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")  # set in a job with `id-token: write`
AUDIENCE = "api://AzureADTokenExchange"  # what a federated credential of Azure expects
SECONDS = 30


def github_token() -> str:
    """A token of GitHub for this job of a workflow, good for some minutes.

    Raises:
        AzureError: if GitHub gives none.

    Example:
        >>> ClientAssertionCredential(tenant, client, github_token)
    """
    address, key = (os.environ[name] for name in GITHUB)
    try:
        answer = requests.get(
            address,
            params={"audience": AUDIENCE},
            headers={"Authorization": f"bearer {key}"},
            timeout=SECONDS,
            allow_redirects=False,
        )
        answer.raise_for_status()
        return str(answer.json()["value"])
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise AzureError(
            f"GitHub does not say who this workflow is ({type(error).__name__})",
            remedy="The job needs `permissions: id-token: write`.",
        ) from error
