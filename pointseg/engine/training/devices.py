"""Choose the processor and precision of a run: what was requested, checked against what this machine has."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch

from pointseg.core.errors import ConfigError, DeviceError
from pointseg.core.processor import NEEDS_GPU, has_native_bfloat16
from pointseg.core.ranks import Ranks, ranks_of_environment
from pointseg.core.text import counted
from pointseg.engine.training.trainer_settings import ACCELERATORS, TrainerSettings

__all__ = ["Compute", "choose_compute", "compute_for", "device_index"]

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "native", "32-true", "bf16-mixed")
SHORT = {"32": "32-true", "bf16": "bf16-mixed"}  # which Lightning accepts as well


@dataclass(frozen=True)
class Compute:
    """The processor and precision for Lightning's Trainer, and a description of them."""

    accelerator: str
    ranks: Ranks
    precision: Literal["32-true", "bf16-mixed"]
    reason: str
    index: int | None = None

    @property
    def device(self) -> torch.device:
        """The torch device of this process."""
        if self.accelerator != "gpu":
            return torch.device("cpu")
        index = self.ranks.local_rank if self.ranks.local_world > 1 else self.index
        return torch.device("cuda") if index is None else torch.device("cuda", index)


def compute_for(settings: TrainerSettings) -> Compute:
    """The processor and precision of trainer settings; errors as in `choose_compute`."""
    index = device_index(settings.options.get("devices"), ranks_of_environment())
    return choose_compute(settings.accelerator, settings.precision, index)


def device_index(devices: Any, ranks: Ranks) -> int | None:
    """The one GPU that `trainer.devices` names, as [1] or "1,"; None if it does not name one."""
    if isinstance(devices, str) and devices.endswith(",") and devices[:-1].isdecimal():
        devices = [int(devices[:-1])]
    one = isinstance(devices, list | tuple) and len(devices) == 1 and isinstance(devices[0], int)
    return int(devices[0]) if one and ranks.world == 1 else None


def choose_compute(accelerator: str = "auto", precision: str = "auto", index: int | None = None) -> Compute:
    """Check accelerator and precision; "auto" uses the GPU if there is one, with bfloat16 where the GPU has it; "native" uses
    bfloat16 on a processor that has it, too.

    Each process uses one GPU; the environment says how many processes there are (see `ranks_of_environment`). A processor
    without native bfloat16 computes it hundreds of times slower than float32, so bfloat16 is refused there.

    Args:
        index: of the GPU that a single process uses; None for the first.

    Raises:
        DeviceError: for a GPU or precision that this machine does not have.
        ConfigError: for an unknown accelerator or precision, or contradictory ranks.
    """
    precision = SHORT.get(precision, precision)
    for name, value, choices in (("accelerator", accelerator, ACCELERATORS), ("precision", precision, PRECISIONS)):
        if value not in choices:
            remedy = f"Use {', '.join(choices)}."
            raise ConfigError(f"there is no {name} {value!r}", where=f"trainer.{name}", remedy=remedy)
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and not available:
        raise DeviceError(
            "a GPU is requested, but this machine has none that torch can use",
            where="trainer.accelerator=gpu",
            remedy="Set trainer.accelerator=cpu (or auto), or install a CUDA build of torch.",
        )
    if accelerator == "auto" and not available and os.environ.get(NEEDS_GPU) == "1":
        raise DeviceError(
            "this job was sent to a machine with a GPU, and torch finds none",
            where=f"{NEEDS_GPU}=1",
            remedy="The driver may be older than torch's CUDA: compute.torch=cu126. Or set accelerator=cpu to go without.",
        )
    use_gpu = available > 0 and accelerator != "cpu"
    ranks = ranks_of_environment()
    if use_gpu and ranks.local_world > available:
        raise DeviceError(
            f"{ranks.local_world} processes on this machine need a GPU each, and it has {available}",
            where="compute.processes",
            remedy=f"Set compute.processes={available}, or trainer.accelerator=cpu.",
        )
    if use_gpu and index is not None and index >= available:
        raise DeviceError(
            f"this machine has {available} GPUs that torch can use, counted from 0", where=f"trainer.devices=[{index}]"
        )
    native = _has_native_bfloat16(use_gpu)
    if precision == "bf16-mixed" and not native:
        raise DeviceError(
            "this processor has no native bfloat16 and would be hundreds of times slower with it",
            where="trainer.precision=bf16-mixed",
            remedy="Set trainer.precision=auto or 32-true.",
        )
    if precision == "auto":
        # PointNet on a CPU gains nothing from autocast: its layers are narrow, and casting costs a pass over memory
        precision = "bf16-mixed" if native and use_gpu else "32-true"
    elif precision == "native":
        precision = "bf16-mixed" if native else "32-true"
    threads = torch.get_num_threads()
    if not use_gpu and ranks.rank == 0:  # only the first process warns
        _warn_if_busy(threads)
    gpu = () if index is None else (index,)
    name = torch.cuda.get_device_name(*gpu) if use_gpu else f"CPU, {counted(threads, 'thread')}"
    chosen: Literal["32-true", "bf16-mixed"] = "bf16-mixed" if precision == "bf16-mixed" else "32-true"
    process = f", process {ranks.rank + 1} of {ranks.world}" if ranks.world > 1 else ""
    reason = f"{name}, precision {precision}{process}"
    return Compute("gpu" if use_gpu else "cpu", ranks, chosen, reason, index if use_gpu else None)


def _warn_if_busy(threads: int) -> None:
    """Warn if other work keeps processors busy: the threads of a matrix product wait for each other."""
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
    return has_native_bfloat16()
