"""Which processor and which precision: what was asked for, checked against what this machine has."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from pointseg.errors import ConfigError, DeviceError
from pointseg.ranks import Ranks, ranks_of_environment

__all__ = ["Compute", "choose_compute"]

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "32-true", "bf16-mixed")


@dataclass(frozen=True)
class Compute:
    """What Lightning's Trainer is told, and why."""

    accelerator: str
    ranks: Ranks
    precision: Literal["32-true", "bf16-mixed"]
    reason: str

    @property
    def device(self) -> torch.device:
        """The torch device of this process."""
        if self.accelerator != "gpu":
            return torch.device("cpu")
        return torch.device("cuda", self.ranks.local_rank) if self.ranks.local_world > 1 else torch.device("cuda")


def choose_compute(accelerator: str = "auto", precision: str = "auto") -> Compute:
    """Check accelerator and precision; "auto" takes the GPU if there is one, and bfloat16 where it is native.

    Each process takes one GPU; how many processes there are says the environment (see `ranks_of_environment`).

    A processor without native bfloat16 computes it hundreds of times slower than float32, so it is refused there.

    Raises:
        DeviceError: for a GPU or precision this machine does not have.
        ConfigError: for a word that is no accelerator or precision, or ranks that contradict each other.
    """
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ConfigError(
            f"there is no accelerator {accelerator!r}", where="trainer.accelerator", remedy="Use auto, cpu or gpu."
        )
    if precision not in PRECISIONS:
        raise ConfigError(
            f"there is no precision {precision!r}", where="trainer.precision", remedy=f"Use {', '.join(PRECISIONS)}."
        )
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and not available:
        raise DeviceError(
            "a GPU is asked for and this machine has none that torch can use",
            where="trainer.accelerator=gpu",
            remedy="Set trainer.accelerator=cpu (or auto), or install a CUDA build of torch.",
        )
    use_gpu = available > 0 and accelerator != "cpu"
    ranks = ranks_of_environment()
    if use_gpu and ranks.local_world > available:
        raise DeviceError(
            f"{ranks.local_world} processes on this machine want a GPU each, and it has {available}",
            where="compute.processes",
            remedy=f"Set compute.processes={available}, or trainer.accelerator=cpu.",
        )
    native = _has_native_bfloat16(use_gpu)
    if precision == "bf16-mixed" and not native:
        raise DeviceError(
            "this processor has no native bfloat16 and would be hundreds of times slower with it",
            where="trainer.precision=bf16-mixed",
            remedy="Set trainer.precision=auto or 32-true.",
        )
    if precision == "auto":
        # PointNet on a CPU gains nothing from autocast: its layers are narrow and casting costs a pass over memory
        precision = "bf16-mixed" if native and use_gpu else "32-true"
    threads = torch.get_num_threads()
    if not use_gpu and ranks.rank == 0:  # the first of several processes speaks
        _warn_of_waiting(threads)
    what = torch.cuda.get_device_name() if use_gpu else f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    chosen: Literal["32-true", "bf16-mixed"] = "bf16-mixed" if precision == "bf16-mixed" else "32-true"
    many = f", process {ranks.rank + 1} of {ranks.world}" if ranks.world > 1 else ""
    reason = f"{what}, precision {precision}{many}"
    return Compute("gpu" if use_gpu else "cpu", ranks, chosen, reason)


def _warn_of_waiting(threads: int) -> None:
    """Threads of one product wait for each other: where other work takes a processor away, all of them stand still."""
    if threads == 1:
        return
    processors = psutil.cpu_count() or threads
    idle = processors * (1 - psutil.cpu_percent(interval=0.2) / 100)
    if idle < threads - 0.5:
        log.warning(
            "Other work leaves %.1f of %d processors idle, and torch's %d threads would wait for each other, many times "
            "slower than fewer. OMP_NUM_THREADS=%d is faster meanwhile.",
            idle,
            processors,
            threads,
            max(1, round(idle)),
        )


def _has_native_bfloat16(use_gpu: bool) -> bool:
    if use_gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
