"""The https server on 127.0.0.1: faults first, then the service that the host names; every call is recorded."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from .certificate import Certificate
from .credential import accepted
from .faults import Fault, Faults
from .messages import Answer, AzureError, Request
from .recorder import Call, Recorder

KEPT = ("if-match", "if-none-match", "content-type", "x-ms-client-request-id", "user-agent", "azureml-model-deployment")
OWN_KEYS = (".inference.ml.azure.com", ".batch.ml.azure.com", ".azurecontainer.io")  # their keys are their own matter
Service = Callable[[Request, Fault | None], Answer]


class Server:
    """`services`: what answers, by the end of the host's name. `errors`: the stand-in's own, with their traces.

    What the stand-in does not know and its own errors are 501, which no client takes for Azure's 404 or tries again.
    """

    def __init__(
        self, certificate: Certificate, services: dict[str, Service], recorder: Recorder, faults: Faults
    ) -> None:
        self.services, self.recorder, self.faults = services, recorder, faults
        self.errors: list[str] = []
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.stand_in = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        self._http.context = context
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer | None:
        """What the caller gets; None where the connection shall drop."""
        fault = self.faults.meet(Call(request.method, request.host, request.path, {}, None).short)
        answer: Answer | None
        try:
            if fault is not None and fault.operation_error is None:
                answer = None
                if fault.status:
                    raise AzureError(fault.status, fault.code, fault.message, None, **fault.headers)
            else:
                answer = self._service(request)(request, fault)
        except AzureError as error:
            answer = error.answer()
        except Exception:  # a fault of the stand-in itself shall be seen
            self.errors.append(traceback.format_exc())
            answer = AzureError(501, "StandInError", self.errors[-1]).answer()
        kept = {name: value for name, value in request.headers.items() if name in KEPT}
        status = answer.status if answer else 0
        self.recorder.add(
            Call(request.method, request.host, request.path, dict(request.query), request.body, kept, status)
        )
        return answer

    def _service(self, request: Request) -> Service:
        for end, service in self.services.items():
            if request.host.endswith(end):
                own = request.path.startswith("/discovery/") or end.endswith(OWN_KEYS)
                if not own and not accepted(request.headers.get("authorization")):
                    raise AzureError(
                        401, "InvalidAuthenticationToken", "The access token is missing, of others or has expired."
                    )
                return service
        raise AzureError(501, "NotInStandIn", f"The stand-in has no service at {request.host}.")


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    stand_in: Server
    context: ssl.SSLContext

    def finish_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        """The handshake is made in the connection's own thread."""
        with contextlib.suppress(ssl.SSLError, ConnectionError, TimeoutError):
            super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    timeout = 60

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = {name.lower(): value for name, value in parse_qsl(url.query)}
        host = headers.get("host", "").split(":")[0].lower()
        body = raw.decode(errors="replace") or None
        with contextlib.suppress(ValueError, TypeError):
            body = json.loads(raw) if raw else None
        answer = self.server.stand_in.answer(Request(self.command, host, unquote(url.path), query, headers, body, raw))
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        encoded = answer.encoded()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if self.command != "HEAD" and answer.status != 204:
            self.wfile.write(encoded)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = handle_any

    def log_message(self, format: str, *args: object) -> None:
        """Calls are recorded, not printed."""
