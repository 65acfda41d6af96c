"""What this machine's processor can do, and the variable by which a job says what it needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["NEEDS_GPU", "has_native_bfloat16"]

NEEDS_GPU = "POINTSEG_NEEDS_GPU"  # of the environment; "1": what finds no GPU fails instead of going on without


@cache
def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; without it, bfloat16 is hundreds of times slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
