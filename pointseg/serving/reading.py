"""The body of a request: received within bounds of size, time and memory, then made a cloud in threads of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pointseg.formats import PointCloud
from pointseg.serving.refusal import Refusal
from pointseg.serving.settings import Settings
from pointseg.serving.upload import MULTIPART, read_upload
from pointseg.serving.wire import JSON, OCTETS, Options, decode, media_type

__all__ = ["Body", "Held", "Threads", "cloud_of_body", "receive", "require_kind"]

Result = TypeVar("Result")


class Held:
    """Bytes of bodies that are in memory, of all requests together.

    Args:
        limit: above which a body is refused.

    Example:
        >>> held = Held(1000)
        >>> held.take(600), held.bytes
        (None, 600)
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes, self._lock = limit, 0, threading.Lock()

    def take(self, count: int) -> None:
        """Raises Refusal 503 where that is too much; nothing is taken then."""
        with self._lock:
            if self.bytes + count > self.limit:
                raise Refusal.busy("other requests fill the memory for bodies", 2.0)
            self.bytes += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self.bytes -= count


@dataclass
class Body:
    """A whole body and the headers that say what it is."""

    content: bytes
    content_type: str
    encoding: str | None


def require_kind(headers: Mapping[str, str], limit: int) -> None:
    """Refuse by its headers what is not worth receiving.

    Raises:
        Refusal: 415 for a kind or encoding that is not read, 413 for what is announced as too long.
    """
    kind = media_type(headers.get("content-type"))
    if kind not in (JSON, OCTETS, MULTIPART):
        text = f"{kind[:80]} is not read" if kind else "the kind of body is not said"
        raise Refusal(415, text, where="Content-Type", remedy=f"Use {JSON}, {OCTETS} or {MULTIPART}.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    known = ("identity",) if kind == MULTIPART else ("identity", "gzip", "x-gzip", "zstd")
    if encoding not in known:
        remedy = "Send the file as it is." if kind == MULTIPART else "Use gzip, zstd or none."
        raise Refusal(415, f"{encoding[:80]} is not read", where="Content-Encoding", remedy=remedy)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_long(limit)


async def receive(chunks: AsyncIterator[bytes], limit: int, seconds: float, held: Held) -> bytes:
    """The body, whose bytes are then held: give back its length.

    Raises:
        Refusal: 413 beyond the limit, 408 if it takes too long, 503 if other bodies fill the memory.
    """
    parts: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in chunks:
                if total + len(chunk) > limit:
                    raise _too_long(limit)
                held.take(len(chunk))
                total += len(chunk)
                parts.append(chunk)
        return b"".join(parts)
    except BaseException as error:
        held.give_back(total)
        if isinstance(error, TimeoutError):
            text = f"the body did not come within {seconds:g} s"
            headers = {"Connection": "close"}
            remedy = "Compress it (Content-Encoding: zstd), or use a faster connection."
            raise Refusal(408, text, where="body", remedy=remedy, headers=headers) from None
        raise


def _too_long(limit: int) -> Refusal:
    remedy = "Compress it (Content-Encoding: zstd), send octets, or the cloud in parts."
    return Refusal(413, f"the body has more than {limit:,} bytes", where="body", remedy=remedy)


def cloud_of_body(body: Body, options: Options, settings: Settings) -> PointCloud:
    """The cloud that a body holds. Takes a while: not for the event loop.

    Raises:
        Refusal: see `wire.decode` and `upload.read_upload`; 413 also for what does not fit into memory.
    """
    try:
        if media_type(body.content_type) == MULTIPART:
            return read_upload(body.content, body.content_type, settings.limits)
        return PointCloud(decode(body.content, body.content_type, body.encoding, options, settings.limits))
    except MemoryError:
        text = "the body does not fit into memory when it is read"
        raise Refusal(413, text, where="body", remedy="Send the cloud in parts.") from None


class Threads:
    """Few threads for work that would keep the event loop from other requests.

    Args:
        count: of threads.
        name: theirs.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[[], Result], seconds: float, after: Callable[[], None] | None = None) -> Result:
        """The result of `work`, in a thread.

        Args:
            seconds: to wait; work that has begun goes on then, and work that has not is left out.
            after: called when the work has ended or is left out, whatever became of the caller.

        Raises:
            Refusal: 504 if it takes longer.
        """
        wanted = True

        def in_thread() -> Result | Refusal | None:
            try:
                return work() if wanted else None
            except Refusal as refusal:
                # given as a value, without its frames: an exception in a future is a cycle, which would keep the body
                refusal.__traceback__ = refusal.__context__ = None
                return refusal
            finally:
                if after:
                    after()

        running: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(self._pool, in_thread)
        try:
            # shielded: what waits for a thread keeps its place, so that its memory is counted until it is gone
            outcome = await asyncio.wait_for(asyncio.shield(running), max(seconds, 0.001))
        except TimeoutError:
            running.add_done_callback(_forget)
            remedy = "Send a smaller cloud, or try again later."
            raise Refusal(504, "the request was not done within its time limit", remedy=remedy) from None
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            raise
        finally:
            wanted = False
            del running
        try:
            if isinstance(outcome, Refusal):
                raise outcome
            return cast(Result, outcome)
        finally:
            del outcome

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _forget(done: asyncio.Future[Any]) -> None:
    """An outcome that nobody waits for any more is not an error of the event loop."""
    if not done.cancelled():
        done.exception()
