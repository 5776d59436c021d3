"""The compiled back end of one optimizer: which kernel a list of tensors needs, kept ready from step to step.

Every failure is a `NativeUnavailable` before anything has changed, so that the caller can take another way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from closedform.lang import Kind, Memory, memory_kinds
from closedform.optim._backends import Settings
from closedform.optim._fused import FusedBatch, FusedKernel
from closedform.optim._native import Batch, Kernel
from closedform.optim._native_build import NativeUnavailable
from closedform.rules import Rule

PLAIN = {Tensor, torch.nn.Parameter}
"""Types of tensors that are nothing but their elements in memory."""


class Compiled:
    """Steps of one optimizer through compiled kernels."""

    def __init__(self) -> None:
        self._batches: dict[Hashable, Batch | FusedBatch] = {}

    def step(
        self, place: Hashable, rule: str, params: Sequence[Tensor], memories: Sequence[Memory], settings: Settings
    ) -> None:
        """Advance parameters that are at the same step, by their gradients ``param.grad``.

        Args:
            place: Stands for these parameters among the optimizer's; what their last call needed is kept.
            rule: JSON text of the rule.
            params: Parameters with gradients.
            memories: For each its memory; more keys do not matter.
            settings: What else the step needs.

        Raises:
            NativeUnavailable: not with these tensors, or not on this machine; nothing was changed.
        """
        generator = settings.generator
        batch = self._batch(place, rule, params[0], memories[0], generator is not None)
        grads: list[Tensor] = [param.grad for param in params]  # type: ignore[misc]  # those without were left out
        run = batch.step
        if not {*map(type, params), *map(type, grads)} <= PLAIN:
            run = partial(_step_shards, batch)
        run(
            params,
            grads,
            memories,
            settings.t,
            settings.lr,
            settings.weight_decay,
            maximize=settings.maximize,
            seed=0 if generator is None else generator.initial_seed(),
        )
        increment_version(params)  # as any operation in place does, so that autograd notices

    def _batch(self, place: Hashable, rule: str, param: Tensor, memory: Memory, stochastic: bool) -> Batch | FusedBatch:
        on_cpu = param.device.type == "cpu"
        kernel = _kernel(rule, param.dtype, _state_dtype(rule, memory, param), stochastic, on_cpu)
        batch = self._batches.get(place)
        if batch is None or batch.kernel is not kernel:
            batch = self._batches[place] = Batch(kernel) if isinstance(kernel, Kernel) else FusedBatch(kernel)
        return batch


def _step_shards(
    batch: Batch | FusedBatch,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    memories: Sequence[Memory],
    *args: Any,
    **options: Any,
) -> None:
    """Step on this process's shards of distributed tensors (DTensor): an elementwise rule needs no others."""
    if batch.kernel.reduces:
        raise NativeUnavailable("the rule reduces over whole tensors, and a parameter is distributed")
    for param, grad in zip(params, grads, strict=True):
        if getattr(param, "placements", None) != getattr(grad, "placements", None):
            raise NativeUnavailable("a gradient is distributed in another way than its parameter")
    shards = [{key: _shard(memory[key]) for key in batch.kernel.keys} for memory in memories]
    whole = [{id(shard[key]): memory[key] for key in shard} for shard, memory in zip(shards, memories, strict=True)]
    batch.step([_shard(param) for param in params], [_shard(grad) for grad in grads], shards, *args, **options)
    for memory, shard, owner in zip(memories, shards, whole, strict=True):
        memory.update({key: owner[id(value)] for key, value in shard.items()})  # lags have changed places


def _shard(tensor: Tensor) -> Tensor:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    if type(local) not in PLAIN:
        raise NativeUnavailable(f"a parameter, gradient or state is a {type(local).__name__}, not a plain tensor")
    return local


def _kernel(rule: str, param: torch.dtype, state: torch.dtype, stochastic: bool, on_cpu: bool) -> Kernel | FusedKernel:
    found = _compile(rule, param, state, stochastic, on_cpu)
    if isinstance(found, NativeUnavailable):
        raise found
    return found


@lru_cache(maxsize=256)
def _compile(
    rule: str, param: torch.dtype, state: torch.dtype, stochastic: bool, on_cpu: bool
) -> Kernel | FusedKernel | NativeUnavailable:
    """A failure is kept too: a compiler that fails is not called again at every step."""
    program = Rule.from_json(rule).program
    try:
        if on_cpu:
            return Kernel(program, param, state=state, stochastic=stochastic)
        return FusedKernel(program, stochastic=stochastic)
    except NativeUnavailable as reason:
        return reason


def _state_dtype(rule: str, memory: Memory, param: Tensor) -> torch.dtype:
    """The type that elementwise states are kept in; a loaded state may have another one than a new one."""
    key = _elementwise_state(rule)
    return param.dtype if key is None else memory[key].dtype


@lru_cache(maxsize=256)
def _elementwise_state(rule: str) -> str | None:
    kinds = memory_kinds(Rule.from_json(rule).program.merged)
    return next((key for key, kind in kinds.items() if kind is Kind.ELEMENTWISE), None)
