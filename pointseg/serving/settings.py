"""What a service allows: plain values, checked by whoever makes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointseg.serving.engine import Queue
from pointseg.serving.wire import Limits

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How a service behaves.

    Attributes:
        limits: of one request.
        queue: what may wait for the model.
        held: bytes of bodies that are in memory at once, of all requests together.
        readers: requests whose bodies are turned into clouds at the same time.
        time_limit: seconds from a body's last byte to its answer.
        body_seconds: to send a body, and to take some more of an answer.
        header_seconds: to send the head of a request.
        idle_seconds: that a connection stays open without a request.
        drain_seconds: for what is in flight when the service is told to stop.
        connections: that are open at once.
        key: that callers give; None: nobody asks for one.
        admin_token: of who may load another model; None: nobody may.

    Example:
        >>> Settings(time_limit=10.0).queue.clouds
        32
    """

    limits: Limits = field(default_factory=Limits)
    queue: Queue = field(default_factory=Queue)
    held: int = 256 << 20
    readers: int = 2
    time_limit: float = 60.0
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    idle_seconds: float = 15.0
    drain_seconds: float = 30.0
    connections: int = 256
    key: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)
