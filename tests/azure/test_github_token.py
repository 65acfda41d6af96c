"""Signing in from a GitHub workflow: the token is asked of GitHub's own address, each time anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pointseg.azure.errors import AzureError
from pointseg.azure.sign_in import credential_of, github_token
from pointseg.core.errors import ConfigError

KEY = "the-runner's-own-key"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """GitHub's address on loopback; what was asked of it. An empty list of answers is a refusal."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"bearer {KEY}"
            asked.append(self.path)
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"value": f"token-{len(asked)}"}).encode())

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{server.server_port}/token?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", KEY)
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    yield asked
    server.shutdown()
    server.server_close()


def test_each_token_is_new_and_meant_for_azure(github: list[str]) -> None:
    assert [github_token(), github_token()] == ["token-1", "token-2"]
    assert parse_qs(urlsplit(github[0]).query) == {"api-version": ["2.0"], "audience": ["api://AzureADTokenExchange"]}


def test_a_refusal_is_a_plain_line_without_the_key(github: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong-key")
    with pytest.raises(AzureError, match="id-token: write") as caught:
        github_token()
    assert "wrong-key" not in str(caught.value)


def test_oidc_takes_it_in_a_workflow(github: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_TENANT_ID", raising=False)
    with pytest.raises(ConfigError, match="AZURE_TENANT_ID"):
        credential_of("oidc")
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555")
    monkeypatch.setenv("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000")
    assert type(credential_of("oidc")).__name__ == "ClientAssertionCredential"
    assert github == []
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")
    assert type(credential_of("oidc")).__name__ == "WorkloadIdentityCredential"
