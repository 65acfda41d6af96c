"""What `serve` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import READS, TEXT, WRITES, key, section
from pointseg.workflows.settings.shared import (
    ACCELERATORS,
    TrackingConfig,
    ViewsConfig,
    adapt_key,
    adapt_scans_key,
    adapt_share_key,
    checkpoint_key,
    models_key,
)

__all__ = ["ServeConfig"]


@dataclass
class QueueConfig:
    """What may wait for the model."""

    clouds: int = key(32, "clouds that may wait; one more is refused with 503")
    points: int = key(8_000_000, "points of all waiting clouds together")
    together: int = key(8192, "points of small clouds that are predicted as one batch; 0: each alone")


@dataclass
class LimitsConfig:
    """What one request may bring: sizes in bytes, or as 64MiB."""

    body: int | str = key("64MiB", "size of a request as sent")
    expanded: int | str = key("128MiB", "size of octets and files after decompression")
    text: int | str = key("16MiB", "size of JSON, which takes up to twenty times as much in memory")
    points: int = key(4_000_000, "points of a cloud")
    answer: int | str = key("128MiB", "approximate size of labels and probabilities as JSON")
    held: int | str = key("256MiB", "bodies in memory at once, all requests together")
    connections: int = key(256, "connections open at once")


@dataclass
class TlsConfig:
    """https, where both files are given."""

    certificate: str | None = key(None, "PEM, with the chain", READS)
    key: str | None = key(None, "PEM, without a passphrase", READS)


@dataclass
class ServeConfig:
    """Answer requests for labels over HTTP.

    Example:
        >>> ServeConfig(checkpoint="models:/street@champion", port=8000)
    """

    tracking: TrackingConfig = section(TrackingConfig, "where models:/NAME@ALIAS is looked up")
    checkpoint: str | None = checkpoint_key()
    models: list[str] = models_key()
    adapt: str | None = adapt_key()
    adapt_scans: int = adapt_scans_key()
    adapt_share: float = adapt_share_key()
    host: str = key("127.0.0.1", "a name or address; beyond this machine only with a key", TEXT)
    port: int = key(8000, "0: a free one, which is printed")
    reuse_port: bool = key(
        False, "let a later service of the same user have the port as well, as scripts/deploy.py target=local does"
    )
    workers: int = key(1, "clouds predicted at the same time")
    threads: int | None = key(None, "CPU cores for prediction in all; null: all there are")
    queue: QueueConfig = section(QueueConfig, "what may wait for the model")
    limits: LimitsConfig = section(LimitsConfig, "of one request: sizes in bytes, or as 64MiB")
    time_limit: float = key(60.0, "seconds from a body's last byte to its answer, else 504")
    body_seconds: float = key(30.0, "seconds to send a body, else 408; and to read the next part of an answer")
    header_seconds: float = key(10.0, "seconds for the TLS handshake, and to send the head of a request")
    idle_seconds: float = key(15.0, "seconds that a connection stays open between requests")
    drain_seconds: float = key(30.0, "seconds to finish what is in flight after SIGTERM or Ctrl-C")
    collect: str | None = key(
        None, "a folder that is given statistics of the labelled scans, for `report drift=`; never points", WRITES
    )
    collect_rate: float = key(1.0, "share of the scans that is collected, 0 to 1")
    strict: bool = key(
        False, "refuse clouds without remission, in other units, or of another sensor's range, instead of a note"
    )
    views: ViewsConfig = section(
        ViewsConfig, "test-time augmentation: each cloud predicted from so many views, the probabilities averaged"
    )
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
    key_file: str | None = key(None, "a file with the key that callers give, else POINTSEG_API_KEY", READS)
    admin_file: str | None = key(
        None, "a file with the token for /admin/reload, else POINTSEG_ADMIN_TOKEN; null: no reload", READS
    )
    tls: TlsConfig = section(TlsConfig, "https, where both are given")
