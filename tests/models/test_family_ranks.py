"""FRNet and WaffleIron on two real processes train as one with the whole batch does: BatchNorm, blocks left out."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from pointseg.models import FRNet, SegmentationModel, WaffleIron

KEYS = (5, 6, 7)  # of the clouds, which draw the blocks that are left out


def whole_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, coordinates, targets and a mask: ranks have other numbers of real points."""
    draw = torch.Generator().manual_seed(3)
    x, target = (torch.randn(len(KEYS), 60, width, generator=draw, dtype=torch.float64) for width in (5, 4))
    coords = 6 * torch.rand(len(KEYS), 60, 3, generator=draw) - 3
    mask = torch.ones(len(KEYS), 60, dtype=torch.bool)
    mask[-1, 20:] = False
    return x, coords, target, mask


def model(family: str, *, sync: bool) -> SegmentationModel:
    torch.manual_seed(0)
    if family == "waffleiron":
        sizes = {"channels": 6, "layers": 3, "neighbours": 3}
        return WaffleIron(5, 4, **sizes, voxel=0.5, drop_path=0.4, sync_batchnorm=sync).double()
    widths = {"point_widths": (8, 12), "channels": 8, "blocks": (1, 1), "strides": (1, 2), "fused_widths": (8, 8)}
    return FRNet(5, 4, height=8, width=16, auxiliary=(), **widths, sync_batchnorm=sync).double()


def state_after(net: nn.Module, inner: SegmentationModel, clouds: slice, scale: float) -> dict[str, Tensor]:
    """Gradients and statistics after a pass; the loss is a share of the whole batch's."""
    x, coords, target, mask = (tensor[clouds] for tensor in whole_batch())
    inner.train().draw_by(KEYS[clouds])
    error = (net(x, coords, mask) - target).square()
    (error[mask].sum() * scale).backward()
    gradients = {f"grad {name}": p.grad for name, p in inner.named_parameters() if p.grad is not None}
    return {**gradients, **{name: buffer.double() for name, buffer in inner.named_buffers()}}


def rank_of_two(rank: int, port: int, family: str, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    net = model(family, sync=True)
    wrapped = DistributedDataParallel(net)  # averages the gradients: undone by the factor 2
    torch.save(
        state_after(wrapped, net, slice(0, 2) if rank == 0 else slice(2, None), 2.0), Path(folder) / f"{rank}.pt"
    )
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["frnet", "waffleiron"])
def test_two_ranks_train_as_one_process_with_the_whole_batch(family: str, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    multiprocessing.spawn(rank_of_two, (port, family, str(tmp_path)), nprocs=2)
    net = model(family, sync=False)
    alone = state_after(net, net, slice(None), 1.0)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)
