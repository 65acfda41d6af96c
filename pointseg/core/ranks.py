"""The rank of this process, from the environment that torchrun, Azure ML and `compute=local_ddp` set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from pointseg.core.errors import ConfigError

__all__ = ["Ranks", "ranks_of_environment"]

_Item = TypeVar("_Item")


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
        """Machines, each with the same number of processes."""
        return self.world // self.local_world

    def share_of(self, items: Sequence[_Item]) -> list[_Item]:
        """The items of this process: numbers `rank`, `rank + world`, ...

        Example:
            >>> Ranks(rank=1, world=2).share_of("abcde")
            ['b', 'd']
        """
        return list(items[self.rank :: self.world])


def ranks_of_environment() -> Ranks:
    """Ranks from RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; a single process if they are not set.

    If only the first two are set, all processes are taken to be on this machine.

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
        ranks = Ranks(int(rank), int(world), int(local_rank), int(local_world))
        if ranks.rank < ranks.world and ranks.local_rank < ranks.local_world and ranks.world % ranks.local_world == 0:
            return ranks
    raise ConfigError(
        f"{given} contradict each other",
        where="the environment",
        remedy="Unset them, or start the processes with torchrun or compute=local_ddp.",
    )
