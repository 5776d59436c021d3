"""The forward pass of a recurrent network as native code: everything between features and updates in one call.

It stands in for torch wherever nobody asks for a graph: in recordings, evaluations and validation, and in estimators
that need no derivatives. It is compiled once for each shape of network, by the C compiler and into the cache that rules
use; ``cf_lstm.h`` is its source. Where it cannot be had (no compiler) or does not fit (another type or device,
gradients, ``torch.func`` transforms), torch computes the same: over 200 steps of a run updates differ by less than
1e-5 of the largest one, the native ones being nearer to double precision.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from closedform.codegen import NativeUnavailable, load, math_header, openmp_parallel, threads_for
from closedform.learned_optimizers._base import State

LOG2E = 1 / math.log(2)
_KINDS = (Tensor, nn.Parameter)


@dataclass(frozen=True)
class Shape:
    """What the code is compiled for.

    Attributes:
        features: Rows of input.
        width: Units of the ELU layer; 0: there is none.
        hidden: Units of each LSTM layer.
        layers: LSTM layers.
        bounded: Whether the output goes through tanh.
    """

    features: int
    width: int
    hidden: int
    layers: int
    bounded: bool


class Kernel:
    """The compiled forward pass of networks of one shape.

    Args:
        shape: The shape.

    Raises:
        NativeUnavailable: it cannot be compiled here; the text says why.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        header = Path(__file__).with_name("cf_lstm.h").read_text(encoding="utf-8")
        sizes = "".join(f"#define CF_{name.upper()} {int(value)}\n" for name, value in vars(shape).items())
        self._library = load("\n".join([math_header(), sizes, header]))  # keeps the code mapped
        self._function = self._library.cf_lstm
        self._function.argtypes = (ctypes.c_void_p,)
        self._call_type = _call_type(shape)

    def __call__(
        self,
        weights: Tensor,
        features: Sequence[Tensor],
        hidden: Sequence[Tensor],
        cell: Sequence[Tensor],
        scale: float,
        memory: Recycler,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """One step for K vectors of N parameters.

        Args:
            weights: From `pack`, [K, P], or [P] for all alike.
            features: [K, N] each, or [N] if there is one vector.
            hidden: Hidden states of the layers, [K, H, N] each, or [H, N].
            cell: Cell states, the same.
            scale: What the output is multiplied by.
            memory: Gives the memory of what is returned.

        Returns:
            The update, shaped like a feature, and new hidden and cell states. Everything is float32 and on the CPU.
        """
        first = features[0]
        features = [value.contiguous() for value in features]
        hidden, cell = ([value.contiguous() for value in values] for values in (hidden, cell))
        update = memory.empty_like(features[0])
        new_hidden, new_cell = ([memory.empty_like(value) for value in values] for values in (hidden, cell))
        call = self._call_type(
            stacked=first.shape[0] if first.dim() == 2 else 1,
            count=first.shape[-1],
            weights=weights.data_ptr(),
            stride=weights.shape[1] if weights.dim() == 2 else 0,
            update=update.data_ptr(),
            scale=scale,
            threads=threads_for(first.numel()),
            parallel=openmp_parallel(),
        )
        rows = {"features": features, "hidden": hidden, "cell": cell, "new_hidden": new_hidden, "new_cell": new_cell}
        for name, values in rows.items():
            getattr(call, name)[:] = [value.data_ptr() for value in values]
        self._function(ctypes.addressof(call))
        return update, new_hidden, new_cell


@lru_cache
def kernel(shape: Shape) -> Kernel | None:
    """The forward pass for a shape, compiled or from the cache; None where that cannot be done."""
    try:
        return Kernel(shape)
    except NativeUnavailable:
        return None


class Forward:
    """The forward pass with the meta-parameters filled in, or with K times as many.

    Args:
        shape: The network's shape.
        parameters: Meta-parameters by name, as `RecurrentOptimizer` names them, [...] or [K, ...].
    """

    def __init__(self, shape: Shape, parameters: Mapping[str, Tensor]) -> None:
        self._shape = shape
        self._parameters = parameters
        self._weights: Tensor | None = None
        self._memory = Recycler(2 * shape.layers)

    def fits(self, *tensors: Tensor) -> bool:
        """Whether native code may stand in for torch on these inputs and states."""
        return _plain(self._parameters.values(), tensors) and kernel(self._shape) is not None

    def __call__(self, rows: Sequence[Tensor], state: State, scale: float) -> tuple[Tensor, State]:
        """One step.

        Args:
            rows: Features, [N] each, or [K, N].
            state: With ``hidden1``, ``cell1``, ..., [H, N] each, or [K, H, N].
            scale: What the output is multiplied by.

        Returns:
            The update, shaped like a feature, and the new ``hidden1``, ``cell1``, ...
        """
        run = kernel(self._shape)
        assert run is not None, "call it where it fits"
        if self._weights is None:
            self._weights = pack(self._parameters, self._shape)
        layers = range(1, self._shape.layers + 1)
        hidden, cell = ([f"{part}{layer}" for layer in layers] for part in ("hidden", "cell"))
        old_hidden, old_cell = ([state[name] for name in names] for names in (hidden, cell))
        update, new_hidden, new_cell = run(self._weights, rows, old_hidden, old_cell, scale, self._memory)
        return update, {**dict(zip(hidden, new_hidden, strict=True)), **dict(zip(cell, new_cell, strict=True))}


@torch.no_grad()
def pack(parameters: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """Meta-parameters in the order in which the code reads them, [P] or [K, P]."""

    def layer(name: str) -> Tensor:
        return torch.cat([parameters[f"{name}weight"], parameters[f"{name}bias"]], dim=-1)

    factor = torch.tensor([-LOG2E, -LOG2E, -2 * LOG2E, -LOG2E])
    parts = [layer("input_").flatten(-2)] if shape.width else []
    for index in range(shape.layers):
        gates = layer(f"cells.{index}.").unflatten(-2, (4, -1))  # [..., 4, H, I + H + 1]
        parts.append((gates.movedim(-3, -1) * factor).flatten(-3))
    return torch.cat([*parts, layer("output_").flatten(-2)], dim=-1).contiguous()


def _plain(*groups: Iterable[Tensor]) -> bool:
    """Whether these are float32 tensors on the CPU of which nobody asks derivatives, and which no transform wraps."""
    if torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0:
        return False
    graph = torch.is_grad_enabled()
    return all(
        type(value) in _KINDS
        and value.dtype is torch.float32
        and value.device.type == "cpu"
        and not (graph and value.requires_grad)
        for group in groups
        for value in group
    )


def _call_type(shape: Shape) -> type[ctypes.Structure]:
    """``cf_call`` of cf_lstm.h."""
    layers: Any = ctypes.c_void_p * shape.layers

    class Call(ctypes.Structure):
        _fields_ = (
            ("stacked", ctypes.c_int64),
            ("count", ctypes.c_int64),
            ("features", ctypes.c_void_p * shape.features),
            ("weights", ctypes.c_void_p),
            ("stride", ctypes.c_int64),
            *((name, layers) for name in ("hidden", "cell", "new_hidden", "new_cell")),
            ("update", ctypes.c_void_p),
            ("scale", ctypes.c_double),
            ("threads", ctypes.c_int64),
            ("parallel", ctypes.c_void_p),
        )

    return Call


LARGE = 1 << 20
"""Elements from which on a tensor's memory is kept; smaller ones the C library keeps by itself."""


class Recycler:
    """Hands out memory for float32 tensors on the CPU, and keeps what comes back.

    Args:
        spare: Pieces of one size that it keeps.
    """

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._free: dict[int, list[Tensor]] = {}

    def empty_like(self, value: Tensor) -> Tensor:
        """A tensor of this shape, not initialised."""
        if value.numel() < LARGE:
            return torch.empty_like(value)
        pieces = self._free.get(value.numel())
        piece = pieces.pop() if pieces else torch.empty(value.numel())
        lease = piece.numpy()
        weakref.finalize(lease, _give_back, weakref.ref(self), piece).atexit = False
        return torch.from_numpy(lease).view(value.shape)

    def take_back(self, piece: Tensor) -> None:
        """Keep a piece of memory that nobody sees any more."""
        pieces = self._free.setdefault(piece.numel(), [])
        if len(pieces) < self._spare:
            pieces.append(piece)


def _give_back(recycler: weakref.ref[Recycler], piece: Tensor) -> None:
    owner = recycler()
    if owner is not None:
        owner.take_back(piece)
