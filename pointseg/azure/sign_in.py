"""How to sign in to Azure: the credential for each value of `azure.auth`."""

from __future__ import annotations

import os
from typing import Any

from pointseg.azure.errors import AzureError
from pointseg.core.errors import ConfigError
from pointseg.core.optional_packages import needed

__all__ = ["AUTH", "GITHUB", "check_auth", "credential_of", "github_token"]

AUTH = ("default", "cli", "managed_identity", "service_principal", "oidc")
GITHUB = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")  # set in a job with `id-token: write`
OF_JOB = "DEFAULT_IDENTITY_CLIENT_ID"  # set in a job: the user-assigned identity of its cluster
OF_USER = "OBO_ENDPOINT"  # set in a job that runs as the one who submitted it
AUDIENCE = "api://AzureADTokenExchange"  # what a federated credential of Azure expects
TIMEOUT_SECONDS = 30


def check_auth(auth: str) -> None:
    """Raises ConfigError for an unknown way to sign in."""
    if auth not in AUTH:
        raise ConfigError(f"there is no way {auth!r} to sign in", where="azure.auth", remedy=f"Use {', '.join(AUTH)}.")


def credential_of(auth: str) -> Any:
    """The credential of azure-identity.

    Args:
        auth: "cli" uses the login of `az login`; "managed_identity" that of the machine, of several the one that
            AZURE_CLIENT_ID names, or in a job DEFAULT_IDENTITY_CLIENT_ID; "service_principal" and "oidc" that of
            AZURE_CLIENT_ID; "default" takes the first of these that works, in a job with compute.identity=user the one who
            submitted it. "oidc" reads the token in
            AZURE_FEDERATED_TOKEN_FILE or, in a GitHub workflow, asks GitHub for a new one whenever Azure needs it.

    Raises:
        ConfigError: if the packages, or the variables that `auth` needs, are missing.
    """
    check_auth(auth)
    return _credential(auth)


def _credential(auth: str) -> Any:
    identity = needed("azure.identity", "azure", "Azure ML")
    if auth == "cli":
        return identity.AzureCliCredential()
    machine = os.environ.get("AZURE_CLIENT_ID") or os.environ.get(OF_JOB)
    if auth == "managed_identity":
        return identity.ManagedIdentityCredential(client_id=machine)
    if auth == "service_principal":
        _variables("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
        return identity.EnvironmentCredential()
    if auth == "default" and os.environ.get(OF_USER):
        return needed("azure.ai.ml.identity", "azure", "Azure ML").AzureMLOnBehalfOfCredential()
    if auth == "default":
        return identity.DefaultAzureCredential(
            exclude_interactive_browser_credential=True, managed_identity_client_id=machine
        )
    if all(os.environ.get(name) for name in GITHUB) and not os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        return identity.ClientAssertionCredential(*_variables("AZURE_TENANT_ID", "AZURE_CLIENT_ID"), github_token)
    _variables("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
    return identity.WorkloadIdentityCredential()


def _variables(*names: str) -> list[str]:
    """The values of environment variables that must be set."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise ConfigError("the environment does not say who signs in", where=", ".join(missing), remedy="Set it.")
    return [os.environ[name] for name in names]


def github_token() -> str:
    """A token from GitHub for this job of a workflow, valid for some minutes: no secret is stored, and a job may wait for
    hours.

    Raises:
        AzureError: if GitHub gives none.

    Example:
        >>> ClientAssertionCredential(tenant, client, github_token)
    """
    import requests

    url, key = (os.environ[name] for name in GITHUB)
    try:
        answer = requests.get(
            url,
            params={"audience": AUDIENCE},
            headers={"Authorization": f"bearer {key}"},
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )
        answer.raise_for_status()
        return str(answer.json()["value"])
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise AzureError(
            f"GitHub does not say who this workflow is ({type(error).__name__})",
            remedy="The job needs `permissions: id-token: write`.",
        ) from error
