"""The compiled back end of one optimizer: which kernel a list of tensors needs, kept ready from step to step.

Every failure is a `NativeUnavailable` before anything has changed, so that the caller can take another way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from closedform.codegen import NativeUnavailable
from closedform.lang import Kind, Memory, memory_kinds
from closedform.optim._backends import Cohort, Settings
from closedform.optim._fused import FusedBatch, FusedKernel
from closedform.optim._native import Batch, Kernel
from closedform.optim._surgery import Look
from closedform.rules import Rule

PLAIN = {Tensor, torch.nn.Parameter}
"""Types of tensors that are nothing but their elements in memory."""


class Compiled:
    """Steps of one optimizer through compiled kernels."""

    def __init__(self) -> None:
        self._batches: dict[Hashable, Batch | FusedBatch] = {}

    def step(
        self,
        place: Hashable,
        rule: str,
        cohort: Cohort,
        settings: Settings,
        seen: Look | None = None,
    ) -> None:
        """Advance parameters that are at the same step.

        Args:
            place: Stands for these parameters among the optimizer's; what their last call needed is kept.
            rule: JSON text of the rule.
            cohort: The parameters, with gradients and memories.
            settings: What else the step needs.
            seen: What has just been read of the cohort's tensors, if it has.

        Raises:
            NativeUnavailable: not with these tensors, or not on this machine; nothing was changed.
        """
        params, grads, memories = cohort.params, cohort.grads, cohort.memories
        if not {*map(type, params), *map(type, grads)} <= PLAIN:
            raise NativeUnavailable(f"{_strange([*params, *grads])} is no plain tensor")
        noise = settings.noise
        batch = self._batch(place, rule, params[0], memories[0], settings)
        if cohort.reduces is not None and batch.kernel.reduces:
            raise NativeUnavailable("the rule reduces over whole tensors, and a parameter is distributed")
        batch.step(
            params,
            grads,
            memories,
            settings.t,  # type: ignore[arg-type]  # _batch has refused a tensor where a number is needed
            settings.lr,
            settings.weight_decay,
            total_steps=settings.total_steps,
            shapes=cohort.shapes,
            maximize=settings.maximize,
            seed=0 if noise is None else noise.seed,  # type: ignore[arg-type]
            seen=seen,
            constants=_opened(rule, settings.open_constants)[1] if settings.open_constants else (),
        )
        increment_version(params)  # as any operation in place does, so that autograd notices

    def _batch(
        self, place: Hashable, rule: str, param: Tensor, memory: Memory, settings: Settings
    ) -> Batch | FusedBatch:
        on_cpu = param.device.type == "cpu"
        if on_cpu and isinstance(settings.t, Tensor):
            raise NativeUnavailable("on the CPU, capturable steps are not compiled")
        state, names = _state_dtype(rule, memory, param), settings.open_constants
        kernel = _kernel(rule, param.dtype, state, settings.noise is not None, on_cpu, names)
        batch = self._batches.get(place)
        if batch is None or batch.kernel is not kernel:
            batch = self._batches[place] = Batch(kernel) if isinstance(kernel, Kernel) else FusedBatch(kernel)
        return batch


def _strange(tensors: Sequence[Tensor]) -> str:
    return next(type(tensor).__name__ for tensor in tensors if type(tensor) not in PLAIN)


def _kernel(
    rule: str, param: torch.dtype, state: torch.dtype, stochastic: bool, on_cpu: bool, names: tuple[str, ...] = ()
) -> Kernel | FusedKernel:
    found = _compile(_opened(rule, names)[0] if names else rule, param, state, stochastic, on_cpu, names)
    if isinstance(found, NativeUnavailable):
        raise found
    return found


@lru_cache(maxsize=64)
def _opened(rule: str, names: tuple[str, ...]) -> tuple[str, tuple[float, ...]]:
    """A rule as text that is the same whatever values these constants have, and the values."""
    found = Rule.from_json(rule)
    apart = {name: 0.5 + place / 4096 for place, name in enumerate(names)}  # equal ones would make states equal
    return found.with_constants(**apart).to_json(), tuple(found.constants[name] for name in names)


@lru_cache(maxsize=256)
def _compile(
    rule: str, param: torch.dtype, state: torch.dtype, stochastic: bool, on_cpu: bool, names: tuple[str, ...] = ()
) -> Kernel | FusedKernel | NativeUnavailable:
    """A failure is kept too: a compiler that fails is not called again at every step."""
    program = Rule.from_json(rule).program
    try:
        if on_cpu:
            return Kernel(program, param, state=state, stochastic=stochastic, open_constants=names)
        return FusedKernel(program, stochastic=stochastic, open_constants=names)
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
