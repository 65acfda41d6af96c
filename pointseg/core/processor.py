"""What this machine's processor can do."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["has_native_bfloat16"]


@cache
def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; without it, bfloat16 is hundreds of times slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
