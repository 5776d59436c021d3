"""What a step has just read of its tensors, so that surgery on them between steps is noticed.

Training scripts prune, grow, transpose and convert parameters in place (``p.data = p.data[:8]``), together with their
gradients and states, or with some of them forgotten. A tensor may then lie where it lay and hold less, so that its
address alone tells nothing. `look` reads address, shape, strides and type of every tensor, at every step; whatever is
kept about them from step to step (sizes and addresses for compiled code) is kept for one `Look` and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.lang import Kind, Memory, memory_shape

_SHAPE, _DTYPE, _ON_CPU = (  # descriptors of C
    Tensor.shape.__get__,  # type: ignore[attr-defined]
    Tensor.dtype.__get__,  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__,  # type: ignore[attr-defined]
)
_TensorGuards = getattr(getattr(getattr(torch._C, "_dynamo", None), "guards", None), "TensorGuards", None)
"""What torch.compile checks its inputs with: no public part of torch, so that it may be missing."""


@dataclass(slots=True)
class Look:
    """What tensors that take a step together are at this moment; equal looks can be treated alike.

    Attributes:
        addresses: Of parameters, then of the memory of each.
        shapes, strides, dtypes: Of the same tensors, then of gradients.
        grads: Addresses of gradients.
        grads_on_cpu, grads_negated: Whether a gradient is on the CPU; whether it is stored with its sign turned round.
        guards: torch's own check of all of these but addresses at once, in a fifth of the time; made when it is first
            worth while.
    """

    addresses: list[int]
    shapes: list[torch.Size]
    strides: list[tuple[int, ...]]
    dtypes: list[torch.dtype]
    grads: list[int]
    grads_on_cpu: list[bool]
    grads_negated: list[bool]
    guards: Any = field(default=None, compare=False)

    def still_holds(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], memories: Iterable[Memory], keys: Sequence[str]
    ) -> bool:
        """Whether `look` would find the same, but for addresses of gradients, which are brought up to date."""
        kept = _kept(params, memories, keys)
        if list(map(Tensor.data_ptr, kept)) != self.addresses:
            return False
        found = [*kept, *grads]
        if self.guards is None or not self.guards.check(*found):
            if not self.same_forms(_read(self.addresses, found, grads)):
                return False
            self._guard(found)  # anew: guards look at more, at requires_grad, for one
        self.grads = list(map(Tensor.data_ptr, grads))
        return True

    def _guard(self, found: list[Tensor]) -> None:
        if _TensorGuards is not None:
            sizes, strides = list(map(list, self.shapes)), list(map(list, self.strides))
            self.guards = _TensorGuards(*found, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)

    def same_forms(self, other: Look | None) -> bool:
        """Whether all is alike but, perhaps, addresses of gradients."""
        return (
            other is not None
            and self.addresses == other.addresses
            and self.strides == other.strides
            and self._as_fitting_as(other)
        )

    def fits_like(self, other: Look | None) -> bool:
        """Whether `check_fit` has nothing new to find; memory entries may have changed places among themselves."""
        return (
            other is not None
            and self._as_fitting_as(other)
            and 0 not in self.grads
            and (self.addresses == other.addresses or sorted(self.addresses) == sorted(other.addresses))
        )

    def _as_fitting_as(self, other: Look) -> bool:
        return (
            self.shapes == other.shapes
            and self.dtypes == other.dtypes
            and self.grads_on_cpu == other.grads_on_cpu
            and self.grads_negated == other.grads_negated
        )


def look(params: Sequence[Tensor], grads: Sequence[Tensor], memories: Iterable[Memory], keys: Sequence[str]) -> Look:
    """Read the tensors of a step; they are plain ones.

    Args:
        params, grads: One gradient a parameter.
        memories: For each parameter its memory.
        keys: Entries of memory that count.
    """
    kept = _kept(params, memories, keys)
    return _read(list(map(Tensor.data_ptr, kept)), [*kept, *grads], grads)


def _kept(params: Sequence[Tensor], memories: Iterable[Memory], keys: Sequence[str]) -> list[Tensor]:
    return [*params, *[memory[key] for memory in memories for key in keys]]


def _read(addresses: list[int], found: list[Tensor], grads: Sequence[Tensor]) -> Look:
    return Look(
        addresses,
        list(map(_SHAPE, found)),
        list(map(Tensor.stride, found)),
        list(map(_DTYPE, found)),
        list(map(Tensor.data_ptr, grads)),
        list(map(_ON_CPU, grads)),
        list(map(Tensor.is_neg, grads)),
    )


def check_fit(name: str, param: Tensor, grad: Tensor, state: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Refuse a parameter whose gradient or states are not of its shape, on its device and numbers of its kind.

    Args:
        name: How messages call the parameter.
        param, grad: Parameter and gradient.
        state: Its state.
        kinds: Entries of memory that the rule keeps, with their kinds.

    Raises:
        OptionError: names the parameter, both shapes, and what to do.
    """
    if grad.shape != param.shape:
        raise OptionError(
            f"{name}: its shape is {tuple(param.shape)} and its gradient's {tuple(grad.shape)}; it was cut or grown "
            "after backward: cut its gradient likewise, or call zero_grad and backward again"
        )
    if not grad.is_floating_point():
        raise OptionError(f"{name}: its gradient is {grad.dtype}; rules need floating-point gradients")
    if grad.device != param.device:
        raise OptionError(f"{name}: it is on {param.device} and its gradient on {grad.device}; move one to the other")
    for key, kind in kinds.items():
        if not isinstance(state.get(key), Tensor):
            raise OptionError(f'{name}: its state has no tensor "{key}"; {_REMEDY}')
        _check_state(name, key, state[key], param, kind)
    held = {"it": param, "its gradient": grad, **{f'its state "{key}"': state[key] for key in kinds}}
    for what, tensor in held.items():
        if not _is_allocated(tensor):
            raise OptionError(f"{name}: the memory of {what} has been freed or cut; allocate it before a step")


_REMEDY = "change it likewise, or delete optimizer.state[parameter] to begin anew"


def _is_allocated(tensor: Tensor) -> bool:
    """Whether a tensor's storage holds all of its elements: storages can be resized beneath."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.numel() == 0:
        return True
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    needed = (tensor.storage_offset() + last + 1) * tensor.element_size()
    return tensor.data_ptr() != 0 and tensor.untyped_storage().nbytes() >= needed


def _check_state(name: str, key: str, value: Tensor, param: Tensor, kind: Kind) -> None:
    wanted = memory_shape(kind, param.shape)
    if value.shape != wanted:
        raise OptionError(
            f'{name}: its shape is {tuple(param.shape)} and that of its state "{key}" {tuple(value.shape)}, '
            f"where {wanted} is needed; {_REMEDY}"
        )
    if not value.is_floating_point() or value.layout is not torch.strided:
        raise OptionError(
            f'{name}: its state "{key}" is {value.dtype} ({value.layout}), not dense floating-point; {_REMEDY}'
        )
    if kind is not Kind.UNIFORM and value.device != param.device:
        raise OptionError(
            f'{name}: it is on {param.device} and its state "{key}" on {value.device}; move the state '
            "(optimizer.load_state_dict(optimizer.state_dict()) does)"
        )


def check_count(name: str, state: Any) -> int | Tensor:
    """The steps that a parameter has taken, if its state tells.

    Raises:
        OptionError: it does not; names the parameter.
    """
    count = state.get("step") if isinstance(state, dict) else None
    if isinstance(count, Tensor) and count.numel() == 1:
        return count
    if isinstance(count, (int, float)) and float(count).is_integer() and count >= 0:
        return int(count)
    raise OptionError(f'{name}: its state has no number of steps "step"; {_REMEDY}')


def lay_out_like(value: Tensor, param: Tensor) -> None:
    """Give a state the strides of its parameter, which was transposed, say; its elements stay what they are."""
    if value.stride() != param.stride():
        value.data = torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)
