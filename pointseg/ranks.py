"""This process among those that work together, as torchrun, Azure ML and `compute=local_ddp` tell it by the environment."""

from __future__ import annotations

import os
from typing import NamedTuple

from pointseg.errors import ConfigError

__all__ = ["Ranks", "ranks_of_environment"]


class Ranks(NamedTuple):
    """Which process this is.

    Attributes:
        rank, world: its number among all processes, and how many there are.
        local_rank, local_world: the same on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def nodes(self) -> int:
        """Machines, each with as many processes."""
        return self.world // self.local_world


def ranks_of_environment() -> Ranks:
    """From RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one process alone where they are not set.

    Where only the first two are set, all processes are taken to be on this machine.

    Raises:
        ConfigError: if they contradict each other.

    Example:
        >>> ranks_of_environment()  # torchrun --nproc-per-node 2
        Ranks(rank=0, world=2, local_rank=0, local_world=2)
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    local_rank, local_world = os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", world)
    given = f"RANK={rank}, WORLD_SIZE={world}, LOCAL_RANK={local_rank}, LOCAL_WORLD_SIZE={local_world}"
    if all(value.isdecimal() for value in (rank, world, local_rank, local_world)):
        found = Ranks(int(rank), int(world), int(local_rank), int(local_world))
        if found.rank < found.world and found.local_rank < found.local_world and found.world % found.local_world == 0:
            return found
    raise ConfigError(
        f"{given} are no place among processes",
        where="the environment",
        remedy="Unset them, or start the processes with torchrun or compute=local_ddp.",
    )
