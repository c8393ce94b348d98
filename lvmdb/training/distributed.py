"""Several processes that train one run: what `torchrun` says, and the little they tell each other.

Gradients are averaged by DistributedDataParallel (`training.step`). Beside them, the processes add
up a few counts a step and the sums of an epoch; the first of them, the leader, alone claims the
run, writes its rows and talks. A process that is alone needs none of this, and none of it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from lvmdb.errors import ModelError, RunError
from lvmdb.settings import process_place

TIMEOUT = timedelta(minutes=30)
"""How long processes wait for one of them, whose server is away, say; one that ended is noticed at
once."""

Value = TypeVar("Value")


class World:
    """The processes that train together, as one of them sees it; by default it is alone.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine.
        store: what they all write to, through which they agree on who reports a failure.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        store: Store | None = None,
    ) -> None:
        self.rank, self.size, self._local_rank, self._store = rank, size, local_rank, store
        self._first: bool | None = None

    @property
    def leads(self) -> bool:
        """Whether this process claims the run, writes its rows and talks."""
        return self.rank == 0

    def place(self, device: torch.device) -> torch.device:
        """The device of this process: of several GPUs of a machine, each has its own.

        Raises:
            ModelError: there are fewer GPUs than processes, or processes on several kinds.
        """
        if self.size == 1:
            return device
        kinds = sorted(set(self.gather(device.type)))
        if len(kinds) > 1 or kinds == ["mps"]:
            raise ModelError(
                f"{self.size} processes cannot train together on {' and '.join(kinds)}: "
                "name one with --device cpu or --device cuda"
            )
        if device.type != "cuda":
            return device
        if self._local_rank >= torch.cuda.device_count():
            raise ModelError(
                f"more processes than GPUs, of which this machine has {torch.cuda.device_count()}: "
                "torchrun --nproc-per-node takes their number"
            )
        torch.cuda.set_device(self._local_rank)
        return torch.device("cuda", self._local_rank)

    def share(self, make: Callable[[], Value]) -> Value:
        """What `make` gives on the leader, for all; the others do not call it."""
        if self.size == 1:
            return make()
        made: list[Value | None] = [make() if self.leads else None]
        dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]  # the leader's is there by now

    def gather(self, value: Value) -> list[Value]:
        """Everyone's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        gathered: list[Value] = [value] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def add(self, *counts: int) -> list[int]:
        """Each of these counts, summed over all; on the host, so that no GPU is waited for."""
        if self.size == 1:
            return list(counts)
        summed = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(summed)
        return [int(n) for n in summed]

    def others(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows `(n, width)` that all other processes have, in the order of ranks.

        Numbers of rows may differ. No gradient flows through them.
        """
        sizes = self.gather(len(rows))
        padded = rows.new_zeros(max(sizes), rows.shape[1])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat(
            [
                part[:size]
                for r, (part, size) in enumerate(zip(parts, sizes, strict=True))
                if r != self.rank
            ]
        )

    def first_to_fail(self) -> bool:
        """Whether this process is the one that reports why all end; it is asked when one fails.

        The others fail because it did.
        """
        if self._first is None:
            self._first = True
            if self._store is not None:
                # Where the store is gone, too, rather two speak than none.
                with contextlib.suppress(RuntimeError):
                    self._first = self._store.add("lvmdb/failed", 1) == 1
        return self._first


ALONE = World()


@contextmanager
def joined() -> Iterator[World]:
    """The world that `torchrun` started this process in; without it, a process alone.

    However the block ends, the group is left. Where it ends in an error, the first process that
    met one raises it, and the others end with exit code 1 and without a word.
    """
    rank, size, local_rank = process_place()
    if size == 1:
        yield ALONE
        return
    store, rank, size = next(rendezvous("env://"))
    world = World(rank, size, local_rank, store)
    # The counts of a step and what is said at an epoch's end stay on the hosts.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        with lost_processes_named():
            yield world
    except BaseException as error:
        if world.first_to_fail():
            raise
        raise SystemExit(1) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Say plainly what the libraries under a group say when one of its processes has ended.

    Raises:
        RunError: another process ended while this one waited for it.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise RunError(
                "another process of this training ended without a word: the same command goes on "
                f"from the last checkpoint ({str(error).strip().splitlines()[-1].strip()})"
            ) from error
        raise
