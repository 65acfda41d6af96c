"""The managed identity of a machine: what gives tokens to jobs, at the address in MSI_ENDPOINT."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .credential import StandInCredential


class Identity:
    """Answers as a compute of Azure ML does, version 2017-09-01, to who knows its secret."""

    def __init__(self, credential: StandInCredential) -> None:
        secret = os.urandom(16).hex()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                resource = parse_qs(urlsplit(self.path).query).get("resource", [""])[0]
                known = self.headers.get("secret") == secret and resource
                body = json.dumps(_token(credential, resource) if known else {"error": "unauthorized_client"}).encode()
                with suppress(ConnectionError):
                    self.send_response(200 if known else 401)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is printed."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{self._http.server_address[1]}/msi/token"
        self.variables = {"MSI_ENDPOINT": url, "MSI_SECRET": secret}

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _token(credential: StandInCredential, resource: str) -> dict[str, str]:
    token = credential.get_token(f"{resource}/.default")
    return {
        "access_token": token.token,
        "expires_on": str(token.expires_on),
        "resource": resource,
        "token_type": "Bearer",
    }
