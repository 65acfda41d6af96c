"""Free memory of the machine, within the limit of the container, and of GPUs; the peak of this process."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

__all__ = ["free_memory", "hand_back", "peak_memory", "ran_out", "restart_peak"]

CONTROL_GROUP = Path("/sys/fs/cgroup")  # holds the limit of a container
PROCESS = Path("/proc/self")  # what Linux tells of this process


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that can still be allocated on a GPU, or on the machine, within the limit of the container.

    Example:
        >>> free_memory("cpu") // 2**30
        22
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _available()
    limit, used = _number(CONTROL_GROUP / "memory.max"), _number(CONTROL_GROUP / "memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def ran_out(error: BaseException) -> bool:
    """Whether an error means that memory ran out; on the CPU only the text of torch's error tells.

    Example:
        >>> ran_out(MemoryError())
        True
    """
    pattern = r"(can't|cannot|not enough memory|failed to) allocate|DefaultCPUAllocator"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and re.search(pattern, str(error)) is not None
    )


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or a container that hides it
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 30  # unknown: enough for a laptop's share


def _number(path: Path) -> int | None:
    """The number in a file; None for "max" and if there is no such file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def hand_back() -> None:
    """Return freed memory that the C library keeps to the system; glibc only, takes a few milliseconds.

    Otherwise large blocks of many sizes, from several threads, let a process grow although it holds no more.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def restart_peak() -> int | None:
    """Let the peak of this process begin anew; returns the bytes that it has now, None where the system does not tell.

    Linux only. `ru_maxrss` would not do: it never falls, and a process inherits it from the one that started it.
    """
    try:
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return peak_memory()


def peak_memory() -> int | None:
    """The most bytes that this process has had in memory since `restart_peak`; None where the system does not tell.

    Example:
        >>> before = restart_peak()
        >>> values = np.ones(1 << 27)
        >>> (peak_memory() - before) >> 20
        1024
    """
    try:
        lines = (PROCESS / "status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
