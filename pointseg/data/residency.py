"""Where training scans lie while a model trains: on disk, in memory, or on the GPU, and why."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from pointseg.errors import ConfigError

__all__ = ["RESIDENCIES", "Residency", "choose_residency"]

RESIDENCIES = ("auto", "disk", "memory", "device")
DEVICE_SHARE, MEMORY_SHARE = 0.5, 0.5  # of what is free: the model, its activations and other processes need the rest
GIB = 1 << 30


@dataclass(frozen=True)
class Residency:
    """Where, on which device, and the reason for people."""

    place: str
    device: torch.device
    reason: str


def choose_residency(wanted: str, need: int, device: torch.device) -> Residency:
    """Decide where the training scans lie.

    Args:
        wanted: "disk", "memory", "device", or "auto": the nearest to the model that has room.
        need: bytes of all training records with their surroundings.
        device: where the model trains.

    Raises:
        ConfigError: for another word.

    Example:
        >>> choose_residency("auto", 2 << 30, torch.device("cuda")).place
        'device'
    """
    if wanted not in RESIDENCIES:
        raise ConfigError(
            f"there is no residency {wanted!r}", where="data.residency", remedy=f"Use {', '.join(RESIDENCIES)}."
        )
    cpu, size = torch.device("cpu"), f"{need / GIB:.2f} GiB"
    if wanted != "auto":
        return Residency(wanted, device if wanted == "device" else cpu, f"{size}, as data.residency says")
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if need <= DEVICE_SHARE * free:
            return Residency("device", device, f"{size} of {free / GIB:.1f} GiB free there")
    free = psutil.virtual_memory().available
    if need <= MEMORY_SHARE * free:
        return Residency("memory", cpu, f"{size} of {free / GIB:.1f} GiB free")
    return Residency("disk", cpu, f"{size} are too much for the {free / GIB:.1f} GiB of memory that are free")
