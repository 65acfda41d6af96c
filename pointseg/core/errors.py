"""All errors that a user can cause.

Each says what is wrong, where (a file, a key, a value) and what to do about it. The verbs print it without a stack trace
and end with exit code 1; library users catch `PointsegError`.
"""

from __future__ import annotations

__all__ = [
    "BelowGate",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "Drifted",
    "InvalidData",
    "JobFailed",
    "LabelMapError",
    "NotPromoted",
    "OutOfMemory",
    "OutputError",
    "PeerLost",
    "PointsegError",
    "ProcessFailed",
    "ServiceError",
    "TrackingError",
]


class PointsegError(Exception):
    """Base of all errors that a user can cause.

    Args:
        what: what is wrong, one sentence without a full stop.
        where: the file, key or value it is about.
        remedy: what to do about it, one sentence.

    Example:
        >>> str(PointsegError("the scan is empty", where="000000.bin", remedy="Remove it."))
        'the scan is empty: 000000.bin. Remove it.'
    """

    def __init__(self, what: str, *, where: object = None, remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        place = f": {where}" if where is not None else ""
        super().__init__(f"{what}{place}." + (f" {remedy}" if remedy else ""))


class ConfigError(PointsegError):
    """A configuration key or value that cannot be used."""


class DataError(PointsegError):
    """A scan, label, pose or calibration file, or a folder of them, that cannot be used."""


class InvalidData(DataError):
    """Checked files that cannot be used; a verb ends with exit code 2."""

    exit_code = 2


class JobFailed(PointsegError):
    """A process of a job that ended before its time."""


class ProcessFailed(JobFailed):
    """A process that failed and has said why itself.

    Args:
        exit_code: of the process.
    """

    def __init__(self, what: str, exit_code: int, *, where: object = None, remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.exit_code = exit_code


class PeerLost(JobFailed):
    """A process that cannot go on because another one of its job has ended; that one is the cause."""

    exit_code = 75


class LabelMapError(PointsegError):
    """A label map that contradicts itself, or labels it does not know."""


class CheckpointError(PointsegError):
    """A checkpoint, run folder or bundle that is missing, damaged or does not fit."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint that is cut off, or not as it was written; an older one may be whole."""


class DeviceError(PointsegError):
    """An accelerator or precision that this machine does not have."""


class Diverged(PointsegError):
    """A training whose loss is no longer finite."""


class OutOfMemory(PointsegError):
    """The work does not fit into memory with these settings."""


class OutputError(PointsegError):
    """A file or folder that cannot be written."""


class TrackingError(PointsegError):
    """A tracking server or database that cannot be used."""


class NotPromoted(PointsegError):
    """A model that is not good enough to take another's place, or cannot be shown to be; exit code 3."""

    exit_code = 3


class BelowGate(PointsegError):
    """A model whose scores are too low to be registered; exit code 3."""

    exit_code = 3


class Drifted(PointsegError):
    """New scans differ from the training scans, and the command was asked to fail then; exit code 3."""

    exit_code = 3


class ServiceError(PointsegError):
    """A scoring service that cannot be reached, refuses what it is sent, or does not answer as it should.

    Args:
        status: of the HTTP answer; None where there was none.
        request_id: by which the service's log knows the request.
    """

    def __init__(
        self, what: str, *, where: object = None, remedy: str = "", status: int | None = None, request_id: str = ""
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status, self.request_id = status, request_id
