"""How much memory is free, for this process, on the device where it computes."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

__all__ = ["free_memory", "hand_back", "ran_out"]

CONTROL_GROUP = Path("/sys/fs/cgroup")  # where a container's limit stands


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that can still be had: of a GPU, what it has free; of the machine, what is available, within the limit of
    the container.

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
    """Whether an error says that memory could not be had; on the CPU torch says it in words only.

    Example:
        >>> ran_out(MemoryError())
        True
    """
    words = r"(can't|cannot|not enough memory|failed to) allocate|DefaultCPUAllocator"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and re.search(words, str(error)) is not None
    )


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # no Linux, or a container that hides it
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 30  # unknown: enough for a laptop's share


def _number(path: Path) -> int | None:
    """A file's number; None for "max" and where there is no such file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def hand_back() -> None:
    """Give the system the memory that was freed and that the C library keeps for later; glibc only, a few milliseconds.

    Large blocks of many sizes, from several threads, else make a process grow although it holds no more.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
