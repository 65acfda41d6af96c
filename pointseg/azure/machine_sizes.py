"""How many GPUs a machine of Azure has, by the name of its size, as Microsoft's pages of the N series say.

https://learn.microsoft.com/azure/virtual-machines/sizes/overview
"""

from __future__ import annotations

import re

__all__ = ["gpus_of"]

GPUS = {
    "standard_nc4as_t4_v3": 1,
    "standard_nc8as_t4_v3": 1,
    "standard_nc16as_t4_v3": 1,
    "standard_nc64as_t4_v3": 4,
    "standard_nc6s_v3": 1,
    "standard_nc12s_v3": 2,
    "standard_nc24s_v3": 4,
    "standard_nc24rs_v3": 4,
    "standard_nc24ads_a100_v4": 1,
    "standard_nc48ads_a100_v4": 2,
    "standard_nc96ads_a100_v4": 4,
    "standard_nc40ads_h100_v5": 1,
    "standard_nc80adis_h100_v5": 2,
    "standard_nd40rs_v2": 8,
    "standard_nd96asr_v4": 8,
    "standard_nd96amsr_a100_v4": 8,
    "standard_nd96isr_h100_v5": 8,
    "standard_nd96isr_h200_v5": 8,
    "standard_nv36ads_a10_v5": 1,
    "standard_nv36adms_a10_v5": 1,
    "standard_nv72ads_a10_v5": 2,
}
WITHOUT = re.compile(r"standard_(a|b|d|e|f|g|h|hb|hc|hx|l|m)s?\d+[a-z0-9-]*(_v\d+)?")  # series without GPUs


def gpus_of(size: str) -> int | None:
    """GPUs of a machine of this size; None for a size that is not known here.

    Example:
        >>> gpus_of("Standard_NC96ads_A100_v4"), gpus_of("Standard_D8s_v5"), gpus_of("Standard_NX1")
        (4, 0, None)
    """
    name = size.lower()
    if name in GPUS:
        return GPUS[name]
    return 0 if WITHOUT.fullmatch(name) else None
