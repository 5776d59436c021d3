"""Distributed tensors (DTensor: FSDP2, tensor parallelism), stepped on this process's shards.

A rule is elementwise, so a shard needs no others, and a state is sharded like its parameter. Only reductions (mean,
rms, norm) look at the whole tensor: every process reduces its shard, and the results are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from closedform.lang import Reduce, reduce_whole
from closedform.optim._backends import Cohort


def is_distributed(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor; asked without loading torch.distributed.tensor, which takes a while."""
    return hasattr(tensor, "placements") and hasattr(tensor, "device_mesh")


@contextmanager
def on_shards(cohort: Cohort) -> Iterator[Cohort]:
    """The same cohort on this process's shards; tensors that are not distributed stand for themselves.

    Gradients are brought into their parameters' placements. Memory entries that change places among the shards have
    changed places in the cohort afterwards.
    """
    local = Cohort(
        [_local(param) for param in cohort.params],
        [_local(_placed(grad, param)) for grad, param in zip(cohort.grads, cohort.params, strict=True)],
        [{key: _local(value) for key, value in memory.items()} for memory in cohort.memories],
        [_reduction(param) for param in cohort.params] if any(map(is_distributed, cohort.params)) else None,
        [param.shape for param in cohort.params],
    )
    pairs = list(zip(cohort.memories, local.memories, strict=True))
    owners = [{id(shard[key]): memory[key] for key in memory} for memory, shard in pairs]
    yield local
    for (memory, shard), owner in zip(pairs, owners, strict=True):
        memory.update({key: owner[id(value)] for key, value in shard.items()})
    increment_version(cohort.params)  # the shards' own versions say nothing to autograd


def is_zero(tensor: Any) -> bool:
    """Whether all elements are exactly zero; of a distributed tensor, on all processes."""
    if is_distributed(tensor):
        return float(tensor.abs().sum().full_tensor()) == 0
    return not torch.any(tensor != 0)


def _local(tensor: Any) -> Any:
    return tensor.to_local() if is_distributed(tensor) else tensor


def _placed(grad: Any, param: Any) -> Any:
    """The gradient, distributed as its parameter is."""
    same = not is_distributed(param) or grad.placements == param.placements
    return grad if same else grad.redistribute(param.device_mesh, param.placements)


def _reduction(param: Any) -> Reduce:
    """How mean, rms and norm reduce a shard of this parameter to a number of the whole tensor."""
    if not is_distributed(param):
        return reduce_whole
    groups = [
        param.device_mesh.get_group(dim) for dim, where in enumerate(param.placements) if not where.is_replicate()
    ]
    count = param.numel()

    def reduce(name: str, value: Tensor) -> Tensor:
        total = torch.sum(value if name == "mean" else torch.square(value))
        for group in groups:
            torch.distributed.all_reduce(total, group=group)
        if name != "norm":
            total = total / count
        return total if name == "mean" else torch.sqrt(total)

    return reduce
