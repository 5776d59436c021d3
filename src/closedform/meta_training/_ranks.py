"""The processes that meta-train together, under ``torch.distributed``; one process alone is the usual case.

Every rank runs its own share of the slots and of the validation episodes; sums over ranks make all of them take the
same step. Rank 0 alone writes files and reports progress.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from closedform.errors import OptionError

T = TypeVar("T")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: Its number, 0, 1, ...
        size: How many there are.
        device: Where tensors must live to be sent.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """The process group that this process is in, or that ``torchrun`` started it for; else one process alone.

        Args:
            device: Where meta-training runs; decides, if there is no process group yet, between nccl and gloo.
        """
        if not dist.is_available():
            return cls()
        if not dist.is_initialized():
            if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
                return cls()
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)
        with_gpu = dist.get_backend() == "nccl"
        return cls(dist.get_rank(), dist.get_world_size(), device if with_gpu else CPU)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and reports."""
        return self.rank == 0

    def share(self, count: int, what: str) -> range:
        """This rank's part of ``count`` things, of which all have equally many.

        Raises:
            OptionError: they cannot be split evenly; the message calls them ``what``.
        """
        if count % self.size:
            raise OptionError(
                f"{what} must be divisible by the {self.size} processes, not {count}: take {what}={self.size} or a "
                "multiple"
            )
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks, where ``value`` lives."""
        if self.size == 1:
            return value
        total = value.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(value.device)

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        return bool(self.sum(torch.tensor(float(value))) > 0)

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All ranks' tensors under their names, which differ between ranks."""
        if self.size == 1:
            return dict(tensors)
        own = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
        return {key: value for data in self._gather_bytes(save(own)) for key, value in load(data).items()}

    def from_first(self, value: T) -> T:
        """Rank 0's value, anything that JSON can hold."""
        return value if self.size == 1 else json.loads(self._gather_bytes(json.dumps(value).encode())[0])

    def _gather_bytes(self, data: bytes) -> list[bytes]:
        """What every rank gave, in order; sent as numbers, padded to the longest."""
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(data)
        lengths = self.sum(lengths)
        padded = torch.zeros(int(lengths.max()), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        parts = [torch.empty_like(padded, device=self.device) for _ in range(self.size)]
        dist.all_gather(parts, padded.to(self.device))
        return [part[:length].cpu().numpy().tobytes() for part, length in zip(parts, lengths.tolist(), strict=True)]


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
