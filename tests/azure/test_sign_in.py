"""Who a job is, by the variables that Azure ML sets: the SDK's credentials against an endpoint that gives tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from pointseg.azure.sign_in import credential_of

SCOPE = "https://management.azure.com/.default"
VARIABLES = ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "DEFAULT_IDENTITY_CLIENT_ID", "OBO_ENDPOINT",
             "MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_ENDPOINT", "IDENTITY_HEADER")  # fmt: skip


class Endpoint:
    """Gives tokens on 127.0.0.1, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.asked.append({key: values[0] for key, values in parse_qs(urlsplit(handler.path).query).items()})
                token = {
                    "access_token": "a token",
                    "expires_on": str(int(time.time()) + 3600),
                    "expires_in": "3600",
                    "resource": self.asked[-1].get("resource", ""),
                    "token_type": "Bearer",
                }
                body = json.dumps(token).encode()
                handler.send_response(200)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, format: str, *args: object) -> None:
                """Nothing is printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.mark.parametrize("auth", ["managed_identity", "default"])
def test_a_job_is_the_identity_of_its_cluster(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, auth: str) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", endpoint.url)
    monkeypatch.setenv("MSI_SECRET", "secret")
    monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "of-the-cluster")
    assert credential_of(auth).get_token(SCOPE).token == "a token"
    assert endpoint.asked[-1]["clientid"] == "of-the-cluster"
    monkeypatch.setenv("AZURE_CLIENT_ID", "another")  # who names one means it
    credential_of("managed_identity").get_token(SCOPE)
    assert endpoint.asked[-1]["clientid"] == "another"


def test_a_job_of_a_user_is_the_user(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBO_ENDPOINT", endpoint.url)
    assert credential_of("default").get_token(SCOPE).token == "a token"
    assert endpoint.asked == [{"resource": "https://management.azure.com"}]
