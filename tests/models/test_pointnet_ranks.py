"""BatchNorm over the batch of all processes: two real processes train as one with the whole batch does."""

from __future__ import annotations

import copy
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from pointseg.models import PointNetSeg
from pointseg.models.layers import RowBatchNorm

CLOUDS, POINTS, FEATURES, CLASSES = 6, 40, 4, 5


def whole_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Features, targets and a mask: ranks have other numbers of real points."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(CLOUDS, POINTS, FEATURES, generator=draw, dtype=torch.float64)
    target = torch.randn(CLOUDS, POINTS, CLASSES, generator=draw, dtype=torch.float64)
    mask = torch.rand(CLOUDS, POINTS, generator=draw) < 0.8
    mask[-1, 3:] = False
    return x, target, mask


def model_of(implementation: str, *, t_nets: bool, sync: bool) -> PointNetSeg:
    torch.manual_seed(0)
    model = PointNetSeg(
        FEATURES,
        CLASSES,
        local_widths=(8, 12),
        global_widths=(12, 16, 24),
        head_widths=(20, 16, 12),
        input_transform=t_nets,
        feature_transform=t_nets,
        implementation=implementation,
        sync_batchnorm=sync,
    ).double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(-1.0, 1.5)
        for name, parameter in model.named_parameters():
            if name.endswith("matrix.weight"):
                parameter.normal_(std=0.01)
    return model.train()


def state_after(
    model: nn.Module, inner: PointNetSeg, x: Tensor, target: Tensor, mask: Tensor, scale: float
) -> dict[str, Tensor]:
    """Gradients and statistics after two passes that accumulate; each loss is a share of the whole batch's."""
    for _ in range(2):
        error = (model(x, None, mask) - target).square()
        (error[mask].sum() * scale).backward()
    gradients = {f"grad {name}": p.grad for name, p in inner.named_parameters() if p.grad is not None}
    return {**gradients, **{name: buffer.double() for name, buffer in inner.named_buffers()}}


def rank_of_two(rank: int, port: int, implementation: str, t_nets: bool, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    x, target, mask = whole_batch()
    mine = slice(0, 4) if rank == 0 else slice(4, None)
    model = model_of(implementation, t_nets=t_nets, sync=True)
    wrapped = DistributedDataParallel(model)  # averages the gradients: undone by the factor 2
    state = state_after(wrapped, model, x[mine], target[mine], mask[mine], 2.0 / float(mask.sum()))
    torch.save(state, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["plain", "fast"])
@pytest.mark.parametrize("t_nets", [False, True])
def test_two_ranks_train_as_one_process_with_the_whole_batch(implementation: str, t_nets: bool, tmp_path: Path) -> None:
    multiprocessing.spawn(rank_of_two, (free_port(), implementation, t_nets, str(tmp_path)), nprocs=2)
    model = model_of("plain", t_nets=t_nets, sync=False)
    x, target, mask = whole_batch()
    alone = state_after(model, model, x, target, mask, 1.0 / float(mask.sum()))
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert state.keys() == alone.keys()
        largest = max(float(value.abs().max()) for name, value in alone.items() if name.startswith("grad"))
        for name, value in alone.items():
            assert torch.allclose(state[name], value, rtol=1e-8, atol=1e-10 * largest), (rank, name)


def test_without_the_option_ranks_keep_to_themselves() -> None:
    model = model_of("fast", t_nets=False, sync=False)
    assert not any(m.over_ranks for m in model.modules() if isinstance(m, RowBatchNorm))
    x, target, mask = whole_batch()
    synced = copy.deepcopy(model)
    for module in synced.modules():
        if isinstance(module, RowBatchNorm):
            module.over_ranks = True  # no process group: one process is all there is
    states = [state_after(m, m, x, target, mask, 1.0) for m in (model, synced)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
