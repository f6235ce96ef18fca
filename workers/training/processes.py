"""The processes of one run: who this one is, sums over all of them, and the wish to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Longer than any evaluation between two exchanges; a lost machine is noticed after this at the latest.
TIMEOUT = timedelta(minutes=10)
T = TypeVar("T")
# For ever: whoever frees a group holds Python's lock and waits for its thread, which may be waiting for that lock.
_GROUPS: list[Any] = []


@dataclass
class Processes:
    """This one's `rank` of `world_size`; the first, rank 0, is the one whose files are kept."""

    rank: int
    world_size: int
    device: torch.device
    stop_wanted: bool = False

    @property
    def first(self) -> bool:
        return self.rank == 0

    def summed(self, figures: list[float]) -> list[float]:
        """The sums over all processes; also an agreement, since each gets the same answer."""
        # CUDA's sums must be of tensors there; float64 keeps counts exact
        tensor = torch.tensor(figures, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def told(self, word: T) -> T:
        """What the first process says, on all; what the others say does not matter."""
        words = [word]
        dist.broadcast_object_list(words, src=0, device=torch.device("cpu"))
        return words[0]

    def shared(self, word: T) -> list[T]:
        """What each says, on all, by rank."""
        words: list[Any] = [None] * self.world_size
        dist.all_gather_object(words, word)
        return words

    def average(self, tensors: Iterable[Tensor]) -> None:
        """In place; whole numbers, which count alike everywhere, stay."""
        for tensor in tensors:
            if tensor.is_floating_point():
                dist.all_reduce(tensor)
                tensor /= self.world_size

    def say(self, line: str) -> None:
        if self.first:
            print(line, flush=True)


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Meets the other processes that torchrun started. SIGTERM sets `stop_wanted` from here on."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE"):
        # One machine: a cage has no other network, and its host's name may lead nowhere.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT)
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo", timeout=TIMEOUT)
    _GROUPS.append(dist.group.WORLD)
    processes = Processes(dist.get_rank(), dist.get_world_size(), device)

    def want_stop(number: int, frame: FrameType | None) -> None:
        processes.stop_wanted = True

    signal.signal(signal.SIGTERM, want_stop)
    yield processes
    dist.destroy_process_group()


def data_parallel(module: nn.Module, processes: Processes) -> nn.parallel.DistributedDataParallel:
    """Buffers are not sent at every step: they don't take part in the gradient and are averaged when needed."""
    device_ids = [processes.device] if processes.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=device_ids, forward_sync_buffers=False)
