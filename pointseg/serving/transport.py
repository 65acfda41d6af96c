"""Requests to a scoring service: its address checked, in bounded time, retried where that helps, the key sent to nobody else.

Needs requests alone. What goes wrong is a `ServiceError` in plain words, whoever answers: the service, Azure or a stranger.
"""

from __future__ import annotations

import ipaddress
import json
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError as LowerError
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from pointseg.core.errors import ConfigError, ServiceError
from pointseg.core.redaction import redact_text

__all__ = ["Reply", "Transport", "is_pointseg_error", "mlflow_error", "refused", "split_address"]

BUSY = (429, 503)  # asked again; a scan is scored to the same answer however often it is sent
CONNECT_SECONDS = 10.0  # within which a machine that is there takes a connection
BACKOFF, BACKOFF_MAX = 0.25, 10.0  # seconds: 0.5, 1, 2, ... up to the second, where the service names no time itself
PART = 1 << 16
MODEL_STATUS = "ms-azureml-model-error-statuscode"  # Azure's endpoints answer 424, and name the model's status here
TOO_LONG = "Send fewer points, or give a longer timeout."
ADVICE = {
    401: ("the key is missing or wrong", "Give the service's key: key=, or POINTSEG_KEY in the environment."),
    403: ("access is refused", "Give a key that may score; on Azure, one of this endpoint."),
    404: ("there is nothing to score with", "Check the address; on Azure, that a deployment has traffic."),
    408: ("it took too long", "Send fewer points, or raise the service's time limit (Azure: request_timeout_ms)."),
    413: ("the scan is too large for the service", "Send fewer points, or raise its limit."),
    415: ("the service does not take this kind of body", "Use a service of this version, or compression='none'."),
    424: ("the model failed behind its endpoint", "See the log of the deployment."),
    429: ("the service has too many requests", "Try again later, or give it more instances."),
    502: ("the service cannot be reached behind its gateway", "Look whether it runs."),
    503: ("the service is busy or not ready", "Try again later."),
    504: ("it took too long", TOO_LONG),
}
MLFLOW_ROUTES = ("/invocations", "/ping")


class Reply(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """What the body holds, None if that is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class _Key(AuthBase):
    """Adds the key; being there without one, it also keeps requests from taking a password of ~/.netrc."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def __repr__(self) -> str:
        return "_Key(***)" if self._key else "_Key(None)"


class Transport:
    """The way to one service.

    Args:
        key: sent as `Authorization: Bearer KEY`.
        timeout: seconds that a request may take in all, with its retries.
        retries: how often a request is sent again where the service is busy or the connection fails.
        headers: sent with each request.

    Raises:
        ConfigError: if a header cannot carry the key, or a number makes no sense.
    """

    def __init__(self, key: str | None, timeout: float, retries: int, headers: dict[str, str]) -> None:
        if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
            raise ConfigError(
                "the key is empty or has a character that no key has, such as a space or the end of a line",
                where="key",
                remedy="Copy it again, without what stands around it.",
            )
        if not timeout > 0 or retries < 0:
            raise ConfigError(
                f"timeout={timeout}, retries={retries}", remedy="Give a time above 0 and 0 or more retries."
            )
        self.timeout, self.retries = timeout, retries
        self._session = requests.Session()
        self._session.auth = _Key(key)
        self._session.headers.update(headers)

    def close(self) -> None:
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        limit: int,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Reply:
        """The answer, whatever its status; busy services and failed connections are tried again.

        Args:
            limit: bytes of the largest answer that is read.
            timeout, retries: instead of its own; the time is no more than its timeout.

        Raises:
            ServiceError: if there is none: no connection, no trust, cut off, too late, too large.
        """
        deadline = time.monotonic() + min(self.timeout, timeout or self.timeout)
        retries = self.retries if retries is None else retries
        # a Retry waits only from its second failure on; to a busy service the first is reason enough
        retry = Retry(total=retries + 1, backoff_factor=BACKOFF, backoff_max=BACKOFF_MAX).increment(method, url)
        while True:
            reply, failure, wait = None, None, None
            try:
                reply = self._once(method, url, body, headers or {}, deadline, limit)
                if reply.status not in BUSY:
                    return reply
                wait = _asked_wait(retry, reply)
            except _MayPass as error:
                failure = error.error
            try:
                retry = retry.increment(method, url)
            except MaxRetryError:
                wait = float("inf")
            wait = retry.get_backoff_time() if wait is None else wait
            if time.monotonic() + wait >= deadline:
                if failure is not None:
                    raise failure
                assert reply is not None
                return reply
            time.sleep(wait)

    def _once(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], deadline: float, limit: int
    ) -> Reply:
        left = max(deadline - time.monotonic(), 0.001)
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=(min(left, CONNECT_SECONDS), left),
                allow_redirects=False,  # a redirected key would go to whom it was not given to
                stream=True,
            ) as answer:
                content = bytearray()
                while part := answer.raw.read1(PART, decode_content=True):
                    content += part
                    if len(content) > limit:
                        raise ServiceError(
                            f"the answer is longer than the {limit:,} bytes it can be",
                            where=url,
                            remedy="Check that the address is that of a scoring service.",
                        )
                    if time.monotonic() > deadline:
                        raise self._late(url)
                return Reply(_status(answer), answer.headers, bytes(content))
        except requests.exceptions.SSLError as error:
            if "WRONG_VERSION_NUMBER" in str(error) or "record layer" in str(error):
                text = "the service speaks http there, and not https"
                raise ServiceError(text, where=url, remedy="Write http:// in its address.") from None
            raise ServiceError(
                f"the service's certificate is not trusted ({_reason(error)})",
                where=url,
                remedy="Name the file of the authority that signed it in REQUESTS_CA_BUNDLE.",
            ) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise ConfigError(f"no address of a service ({_reason(error)})", where=url) from None
        except (requests.RequestException, LowerError, OSError) as error:
            if time.monotonic() >= deadline:
                raise self._late(url) from None
            # `from None`: the chain of causes adds three stack traces and nothing to the reason
            raise _MayPass(_failed(error, url)) from None

    def _late(self, url: str) -> ServiceError:
        return ServiceError(f"no answer within {self.timeout:g} s", where=url, remedy=TOO_LONG)


class _MayPass(Exception):
    """What may be gone the next time."""

    def __init__(self, error: ServiceError) -> None:
        self.error = error


def _asked_wait(retry: Retry, reply: Reply) -> float | None:
    """Seconds that the service asks for, None if it does not."""
    named = reply.headers.get("Retry-After")
    try:
        return None if named is None else max(float(retry.parse_retry_after(named)), 0.0)
    except (LowerError, ValueError, OverflowError):
        return None


def _status(answer: requests.Response) -> int:
    """That of the model, where Azure's endpoint stands between."""
    named = answer.headers.get(MODEL_STATUS, "")
    return int(named) if answer.status_code == 424 and named.isdecimal() and len(named) == 3 else answer.status_code


def _failed(error: Exception, url: str) -> ServiceError:
    text = str(error)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return ServiceError("no connection", where=url, remedy="Check the address, the network and its firewall.")
    if "Connection refused" in text:
        return ServiceError("nothing listens there", where=url, remedy="Start the service, or check address and port.")
    if "Failed to resolve" in text or "Name or service not known" in text:
        return ServiceError("there is no machine of this name", where=url, remedy="Check the address.")
    if "IncompleteRead" in text or isinstance(error, requests.exceptions.ChunkedEncodingError):
        return ServiceError("the answer was cut off", where=url, remedy="Try again; see the service's log.")
    if "TLS CA certificate" in text:
        return ServiceError(_reason(error), where=url, remedy="Check REQUESTS_CA_BUNDLE in the environment.")
    remedy = "Try again; a service may also close the connection on a body over its limit."
    if url.startswith("http://"):
        remedy += " One that speaks https alone closes it too: then write https:// in the address."
    return ServiceError(f"the connection failed ({_reason(error)})", where=url, remedy=remedy)


def _reason(error: BaseException) -> str:
    """The innermost of the nested causes, in a line, without secrets that an address may hold."""
    inner: Any = error
    while True:
        deeper = getattr(inner, "reason", None) or (inner.args[0] if getattr(inner, "args", ()) else None)
        if not isinstance(deeper, BaseException):
            break
        inner = deeper
    return redact_text(" ".join(str(inner).split())[-200:])


def split_address(url: str) -> tuple[str, bool]:
    """The service's address without /score, and whether it is on this machine.

    Raises:
        ConfigError: if it is no such address.
    """
    if not isinstance(url, str):
        raise ConfigError(f"{url!r} is no address of a service", where="url", remedy="Such as http://127.0.0.1:8000.")
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        text = f"no address of a service ({error})"
        raise ConfigError(text, where="url", remedy="Such as http://127.0.0.1:8000.") from None
    if parts.username or parts.password:
        remedy = "Give the key as key=, or in POINTSEG_KEY."
        raise ConfigError("the address has a name or password in it", where="url", remedy=remedy)
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
        remedy = "Such as http://127.0.0.1:8000, without anything behind a question mark."
        raise ConfigError("no address of a service", where=f"url={shown}", remedy=remedy)
    path = parts.path.rstrip("/")
    if path.endswith(MLFLOW_ROUTES):
        raise mlflow_error(urlunsplit((parts.scheme, parts.netloc, path, "", "")))
    return urlunsplit((parts.scheme, parts.netloc, path.removesuffix("/score"), "", "")), _is_local(host)


def mlflow_error(url: str) -> ServiceError:
    return ServiceError(
        "`mlflow models serve` answers there, which takes another kind of request",
        where=url,
        remedy="Start python -m pointseg.serve with the model, or send it {'inputs': [[x, y, z, remission], ...]}.",
    )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_pointseg_error(reply: Reply) -> bool:
    """Whether an error is in the service's own words."""
    content = reply.json
    return isinstance(content, dict) and isinstance(content.get("error"), dict) and "what" in content["error"]


def refused(reply: Reply, url: str) -> ServiceError:
    """The error that an answer other than 200 says, in the service's words where they are its own."""
    given = str(reply.headers.get("X-Request-Id", ""))
    if is_pointseg_error(reply):
        error = reply.json["error"]
        what, where, remedy = (str(error.get(name) or "") for name in ("what", "where", "remedy"))
        if reply.status == 401:
            remedy = ADVICE[401][1]  # the service speaks of headers, which a caller in Python does not see
        # what was wrong with the points is said as a local prediction would say it; the rest names the service
        place = where or (None if reply.status in (400, 422) else url)
        return ServiceError(
            redact_text(what), where=place, remedy=redact_text(remedy), status=reply.status, request_id=given
        )
    if 300 <= reply.status < 400:
        target = redact_text(str(reply.headers.get("Location", "elsewhere")).partition("?")[0])
        return ServiceError(
            f"the service sends requests on to {target}, which is not followed, since the key is not for others",
            where=url,
            remedy="If that is the right place, give it as the address.",
            status=reply.status,
        )
    what, remedy = ADVICE.get(reply.status, (f"an answer with status {reply.status}", "See the service's log."))
    content = reply.json
    if isinstance(content, dict):
        said = content.get("message") or content.get("detail") or content.get("error")
        if isinstance(said, str | dict) and said:
            what += f" ({redact_text(' '.join(str(said).split()))[:160]})"
    return ServiceError(what, where=url, remedy=remedy, status=reply.status, request_id=given)
