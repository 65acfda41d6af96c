"""Which processor and which precision: what was asked for, checked against what this machine has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pointseg.errors import ConfigError, DeviceError

__all__ = ["Compute", "choose_compute"]

PRECISIONS = ("auto", "32-true", "bf16-mixed")


@dataclass(frozen=True)
class Compute:
    """What Lightning's Trainer is told, and why."""

    accelerator: str
    devices: int
    precision: Literal["32-true", "bf16-mixed"]
    reason: str

    @property
    def device(self) -> torch.device:
        """The torch device of this process's first processor."""
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")


def choose_compute(accelerator: str = "auto", devices: int | str = "auto", precision: str = "auto") -> Compute:
    """Check accelerator, devices and precision; "auto" takes the GPU if there is one, and bfloat16 where it is native.

    A processor without native bfloat16 computes it hundreds of times slower than float32, so it is refused there.

    Raises:
        DeviceError: for a GPU or precision this machine does not have.
        ConfigError: for a word that is no accelerator or precision.
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
    if devices != "auto" and not str(devices).isdigit():
        raise ConfigError(
            f"{devices!r} is no number of devices", where="trainer.devices", remedy='Use a number, or "auto".'
        )
    if devices != "auto" and not str(devices).isdecimal():
        raise ConfigError(f"{devices!r} is no number", where="trainer.devices", remedy="Give a number, or auto.")
    count = 1 if devices == "auto" else int(devices)
    if count < 1 or (use_gpu and count > available):
        raise DeviceError(
            f"{count} devices are asked for and there are {available if use_gpu else 'only CPU processes'}",
            where=f"trainer.devices={devices}",
            remedy="Lower it.",
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
    what = torch.cuda.get_device_name() if use_gpu else f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    chosen: Literal["32-true", "bf16-mixed"] = "bf16-mixed" if precision == "bf16-mixed" else "32-true"
    return Compute("gpu" if use_gpu else "cpu", count, chosen, f"{what}, precision {precision}")


def _has_native_bfloat16(use_gpu: bool) -> bool:
    if use_gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
