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
from closedform.lang import Kind, Memory

_SHAPE, _DTYPE = Tensor.shape.__get__, Tensor.dtype.__get__  # type: ignore[attr-defined]  # descriptors of C
_TensorGuards = getattr(getattr(getattr(torch._C, "_dynamo", None), "guards", None), "TensorGuards", None)
"""What torch.compile checks its inputs with: no public part of torch, so that it may be missing."""


@dataclass(slots=True)
class Look:
    """What tensors that take a step together are at this moment.

    Attributes:
        addresses: Of parameters, then of the memory of each.
        shapes, strides, dtypes: Of the same tensors, then of gradients.
        guards: torch's own check of all of these at once, a fifth of the time; made when it is first worth while.
    """

    addresses: list[int]
    shapes: list[torch.Size]
    strides: list[tuple[int, ...]]
    dtypes: list[torch.dtype]
    guards: Any = field(default=None, compare=False)

    def still_holds(self, addresses: list[int], found: list[Tensor]) -> bool:
        """Whether these are the same, in the order of ``shapes``, but perhaps for addresses of gradients."""
        if self.addresses != addresses:
            return False
        if self.guards is not None and self.guards.check(*found):
            return True
        same = self == _read(addresses, found)  # guards look at more: at requires_grad, for one
        if same and _TensorGuards is not None:
            self.guards = _TensorGuards(
                *found,
                dynamic_dims_sizes=list(map(list, self.shapes)),
                dynamic_dims_strides=list(map(list, self.strides)),
            )
        return same


def look(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    memories: Iterable[Memory],
    keys: Sequence[str],
    before: Look | None = None,
) -> Look:
    """Read the tensors of a step; they are plain ones.

    Args:
        params, grads: One gradient a parameter.
        memories: For each parameter its memory.
        keys: Entries of memory that count.
        before: Returned itself if it still holds.
    """
    kept = [*params, *[memory[key] for memory in memories for key in keys]]
    addresses, found = list(map(Tensor.data_ptr, kept)), [*kept, *grads]
    if before is not None and before.still_holds(addresses, found):
        return before
    return _read(addresses, found)


def _read(addresses: list[int], found: list[Tensor]) -> Look:
    return Look(addresses, list(map(_SHAPE, found)), list(map(Tensor.stride, found)), list(map(_DTYPE, found)))


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


_REMEDY = "change it likewise, or delete optimizer.state[parameter] to begin anew"


def _check_state(name: str, key: str, value: Tensor, param: Tensor, kind: Kind) -> None:
    wanted = param.shape if kind is Kind.ELEMENTWISE else torch.Size()
    if value.shape != wanted:
        raise OptionError(
            f'{name}: its shape is {tuple(param.shape)} and that of its state "{key}" {tuple(value.shape)}, '
            f"where {tuple(wanted)} is needed; {_REMEDY}"
        )
    if not value.is_floating_point():
        raise OptionError(f'{name}: its state "{key}" is {value.dtype}, not floating-point; {_REMEDY}')
    if kind is not Kind.UNIFORM and value.device != param.device:
        raise OptionError(
            f'{name}: it is on {param.device} and its state "{key}" on {value.device}; move the state '
            "(optimizer.load_state_dict(optimizer.state_dict()) does)"
        )


def lay_out_like(value: Tensor, param: Tensor) -> None:
    """Give a state the strides of its parameter, which was transposed, say; its elements stay what they are."""
    if value.stride() != param.stride():
        value.data = torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)
