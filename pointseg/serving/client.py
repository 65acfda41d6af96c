"""Scores scans with a service: `python -m pointseg.serve`, a container of it, or an Azure ML endpoint.

Needs requests and NumPy; torch, Lightning and Hydra are not imported. Legend: N points, K classes.
"""

from __future__ import annotations

import gzip
import json
import time
import uuid
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError, ServiceError
from pointseg.serving.transport import Reply, Transport, is_pointseg_error, mlflow_error, refused, split_address

__all__ = ["COMPRESSIONS", "Client", "Scored"]

COMPRESSIONS = ("auto", "none", "gzip", "zstd")
OCTETS = "application/octet-stream"
JSON_BYTES = 1 << 22  # of metadata or an error; labels have a length of their own
ZSTD_LEVEL, GZIP_LEVEL = (
    3,
    1,
)  # of a real scan, zstd's first level saves 10 %, its third 26 %, gzip's first 22 % (docs/client.md)
READY_SECONDS = 10.0
MOST_CLASSES = 254  # of a label map


@dataclass(frozen=True)
class Scored:
    """A service's answer.

    Attributes:
        labels: (N,) uint32 raw ids.
        probabilities: (N, K) float32 where asked for, column k that of training id k + 1, else None.
        notes: what the service found unusual about the scan.
        timing: milliseconds by stage as the service measured them (read, wait, predict, write).
        seconds: that the caller waited, retries included.
        model: NAME/VERSION, empty where the service does not say.
        request_id: by which the service's log knows the request.
    """

    labels: NDArray[np.uint32]
    probabilities: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()
    timing: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    model: str = ""
    request_id: str = ""


class Client:
    """A caller of one scoring service. Connections are kept open between calls; use one client a thread.

    Args:
        url: such as "http://127.0.0.1:8000" or "https://NAME.REGION.inference.ml.azure.com/score".
        key: the service's key, or that of an Azure endpoint. It is sent to this address alone and never shown.
        timeout: seconds that a call may take in all, retries included.
        retries: how often a request is sent again where the service is busy (429, 503) or the connection fails.
        deployment: of a managed endpoint, to call that one whatever the traffic rules say.
        max_body: bytes; larger requests are refused here, such as 1_500_000 where the service's limit is known.
        compression: of what is sent: "none", "gzip", "zstd" (needs zstandard), or "auto": "none" to this machine,
            else "zstd" where it is installed, else "gzip".

    Raises:
        ConfigError: if an argument cannot be used.

    Example:
        >>> with Client("http://127.0.0.1:8000", key) as client:
        ...     raw_ids = client.score(points).labels  # (N, 4) float32 -> (N,) uint32
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        deployment: str | None = None,
        max_body: int | None = None,
        compression: str = "auto",
    ) -> None:
        self.url, local = split_address(url)
        if compression not in COMPRESSIONS:
            remedy = f"Use {', '.join(COMPRESSIONS)}."
            raise ConfigError(f"there is no {compression!r}", where="compression", remedy=remedy)
        self.compression = _best_compression(local) if compression == "auto" else compression
        self.max_body, self.deployment = max_body, deployment
        if key and not local and self.url.startswith("http://"):
            warnings.warn(f"the key goes unencrypted to {self.url}: use https beyond this machine", stacklevel=2)
        headers = {"User-Agent": "pointseg-client"}
        if deployment:
            headers["azureml-model-deployment"] = deployment
        self._transport = Transport(key, timeout, retries, headers)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def score(self, points: NDArray[np.floating], *, probabilities: bool = False) -> Scored:
        """Raw label ids of a scan: (N, 4) x, y, z in metres and remission in [0, 1], or (N, 3) without remission.

        Raises:
            DataError: if the array is no such scan, is empty or not finite; nothing is sent then.
            ServiceError: if the service cannot be reached, refuses, or answers what is no answer.

        Example:
            >>> client.score(points, probabilities=True).probabilities.shape
            (124668, 19)
        """
        points = _checked(points)
        body, encoding = _compressed(points.astype("<f4").tobytes(), self.compression)
        if self.max_body is not None and len(body) > self.max_body:
            raise DataError(
                f"{len(points):,} points are {len(body):,} bytes to send, beyond max_body={self.max_body:,}",
                remedy="Send fewer points, or set compression='zstd'.",
            )
        query = f"?columns={points.shape[1]}" + ("&probabilities=true" if probabilities else "")
        request_id = uuid.uuid4().hex
        headers = {"Content-Type": OCTETS, "Accept": OCTETS, "X-Request-Id": request_id}
        if encoding:
            headers["Content-Encoding"] = encoding
        largest = JSON_BYTES + 4 * len(points) * (1 + (MOST_CLASSES if probabilities else 0))
        began = time.perf_counter()
        reply = self._transport.send("POST", f"{self.url}/score{query}", body=body, headers=headers, limit=largest)
        seconds = time.perf_counter() - began
        if reply.status != 200:
            raise self._refusal(reply)
        labels, rows = self._labels(reply, len(points), probabilities)
        return Scored(
            labels,
            rows,
            _notes(reply.headers.get("X-Notes")),
            _timing(reply.headers.get("Server-Timing", "")),
            seconds,
            reply.headers.get("X-Model", ""),
            reply.headers.get("X-Request-Id", request_id),
        )

    def score_file(
        self, path: str | Path, *, probabilities: bool = False, remission_scale: float | None = None
    ) -> Scored:
        """Score a file of any kind that `pointseg.data.formats` reads. Points that are NaN or infinite are not sent: their
        label is 0, and their probabilities are.

        Args:
            remission_scale: what intensity is divided by (see `pointseg.data.formats.read_cloud`).

        Raises:
            DataError: if the file cannot be read, or no point is finite.
            ServiceError: see `score`.

        Example:
            >>> client.score_file("000000.bin").labels.tofile("000000.label")
        """
        formats = import_module("pointseg.data.formats")  # on use: most callers have arrays
        cloud = formats.read_cloud(path, remission_scale=remission_scale)
        points, notes = formats.finite_points(cloud)
        scored = self.score(points, probabilities=probabilities)
        rows = scored.probabilities
        return Scored(
            formats.over_all(scored.labels, cloud),
            None if rows is None else formats.over_all(rows, cloud),
            tuple(dict.fromkeys([*(note.text for note in (*cloud.notes, *notes)), *scored.notes])),
            scored.timing,
            scored.seconds,
            scored.model,
            scored.request_id,
        )

    def metadata(self) -> dict[str, Any]:
        """What the service says of its model, classes and limits. Azure's inference server has no such address.

        Raises:
            ServiceError: if it cannot be reached or says nothing of the kind.
        """
        reply = self._transport.send("GET", f"{self.url}/metadata", limit=JSON_BYTES)
        if reply.status != 200:
            raise self._refusal(reply)
        content = reply.json
        if not isinstance(content, dict) or "model" not in content or "classes" not in content:
            raise self._not_a_service(reply)
        return content

    def ready(self) -> bool:
        """Whether the service is there with a model, asked once: not loaded yet, draining or unreachable are False.

        Raises:
            ServiceError: if its certificate is not trusted, or another kind of server answers.
        """
        try:
            reply = self._ask_once("/readyz")
            if reply.status == 404 and not is_pointseg_error(
                reply
            ):  # Azure's inference server: Healthy at / once it is loaded
                reply = self._ask_once("/")
                if reply.status == 200 and reply.body.strip() != b"Healthy":
                    raise self._not_a_service(reply)
        except ServiceError as error:
            if error.status is None and "not trusted" not in error.what:
                return False
            raise
        return reply.status == 200

    def _ask_once(self, path: str) -> Reply:
        """A GET that is not sent twice and takes little time."""
        return self._transport.send("GET", self.url + path, limit=JSON_BYTES, timeout=READY_SECONDS, retries=0)

    # ---- answers ---------------------------------------------------------------------------------------------

    def _labels(
        self, reply: Reply, count: int, probabilities: bool
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32] | None]:
        kind = reply.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != OCTETS:
            raise self._not_a_service(reply)
        named = reply.headers.get("X-Classes", "0")
        classes = int(named) if probabilities and named.isdecimal() else 0
        if len(reply.body) != 4 * count * (1 + classes) or (probabilities and not classes):
            raise ServiceError(
                f"the answer has {len(reply.body):,} bytes, which are not the labels of {count:,} points",
                where=f"{self.url}/score",
                remedy="Something between here and the service has cut or changed it; try again.",
                status=200,
                request_id=reply.headers.get("X-Request-Id", ""),
            )
        labels = np.frombuffer(reply.body, "<u4", count).astype(np.uint32)
        if not probabilities:
            return labels, None
        return labels, np.frombuffer(reply.body, "<f4", offset=4 * count).reshape(count, classes).astype(np.float32)

    def _refusal(self, reply: Reply) -> ServiceError:
        if reply.status == 404 and not is_pointseg_error(reply) and self._is_mlflow():
            return mlflow_error(self.url)
        return refused(reply, f"{self.url}/score")

    def _is_mlflow(self) -> bool:
        """Whether `mlflow models serve` listens there: it alone answers both of these."""
        try:
            return all(self._ask_once(path).status == 200 for path in ("/ping", "/version"))
        except ServiceError:
            return False

    def _not_a_service(self, reply: Reply) -> ServiceError:
        kind = reply.headers.get("Content-Type", "no content type")
        return ServiceError(
            f"the answer is {kind}, which no scoring service of pointseg gives",
            where=self.url,
            remedy="Check the address; a gateway's page of login looks like this as well.",
            status=reply.status,
        )


def _best_compression(local: bool) -> str:
    if local:
        return "none"  # compressing takes longer than the bytes do: docs/client.md has the figures
    try:
        import_module("zstandard")
    except ImportError:
        return "gzip"
    return "zstd"


def _compressed(body: bytes, compression: str) -> tuple[bytes, str | None]:
    """The body and its Content-Encoding."""
    if compression == "none":
        return body, None
    if compression == "gzip":
        return gzip.compress(body, GZIP_LEVEL, mtime=0), "gzip"
    from pointseg.core.optional_packages import needed

    return needed("zstandard", "serve", "compression='zstd'").ZstdCompressor(level=ZSTD_LEVEL).compress(body), "zstd"


def _checked(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """The scan as (N, 3) or (N, 4) float32.

    Raises:
        DataError: if it is none.
    """
    given = np.asarray(points)
    if given.ndim != 2 or given.shape[1] not in (3, 4) or len(given) == 0 or given.dtype.kind not in "fiu":
        raise DataError(
            f"an array of shape {given.shape} and type {given.dtype} is no scan",
            remedy="Give numbers (N, 4): x, y, z, remission, or (N, 3), with at least one point.",
        )
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(given, np.float32)
    if not np.isfinite(numbers).all():
        raise DataError("the scan has points that are NaN, infinite or beyond float32", remedy="Remove them.")
    return numbers


def _notes(text: str | None) -> tuple[str, ...]:
    try:
        notes = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(map(str, notes)) if isinstance(notes, list) else ()


def _timing(text: str) -> dict[str, float]:
    """Milliseconds by stage of a Server-Timing header."""
    found = {}
    for part in text.split(","):
        name, _, rest = part.strip().partition(";dur=")
        try:
            found[name] = float(rest.partition(";")[0])
        except ValueError:
            continue
    return found
