"""The compiled step off the CPU: torch.compile makes one kernel of all that a rule does to an element.

What is the same for all elements (bias corrections, say) is computed before, once a step and in double precision, and
handed over as a vector. Tensors are flat and of any length, so that one compilation serves them all; small ones are
joined. A `FusedBatch` is called like a `closedform.optim._native.Batch`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from closedform.codegen import NativeUnavailable, lower
from closedform.lang import OPERATORS, SHAPE_INPUTS, Kind, Memory, Program, horizon_inputs, shape_values
from closedform.optim._backends import compute_dtype
from closedform.optim._native import is_dense, rotate
from closedform.optim._noise import hashed, rounded, stream
from closedform.optim._surgery import Look

JOIN = 1 << 16
"""Tensors of fewer elements are joined until they have so many."""
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {name: row.torch for name, row in OPERATORS.items()}
_FUNCTIONS |= {
    "reciprocal": torch.reciprocal,
    "pow_half": lambda x: torch.pow(x, 0.5),
    "greater": lambda x, y: torch.gt(x, y).to(x.dtype),  # all are of one type here
}


class FusedKernel:
    """A program as torch operations, compiled at its first step.

    Args:
        program: With the one output ``update``.
        stochastic: Round bfloat16 states stochastically.
        backend: Of torch.compile.
        open_constants: Constants that are handed over at every step instead of being part of the code.
    """

    def __init__(
        self,
        program: Program,
        *,
        stochastic: bool = False,
        backend: str = "inductor",
        open_constants: Sequence[str] = (),
    ) -> None:
        if program.matrix_operators:
            raise NativeUnavailable("the rule looks at rows, columns or whole matrices")
        self.plan = lower(program, open_constants)
        self.stochastic = stochastic
        kinds = self.plan.kinds
        self.uniform = [i for i, kind in enumerate(kinds) if kind is Kind.UNIFORM and self.plan.nodes[i].number is None]
        self.place = {index: place for place, index in enumerate(self.uniform)}
        self.rings = [ring for ring in self.plan.rings if ring.kind is not Kind.UNIFORM]
        self.uniform_rings = [ring for ring in self.plan.rings if ring.kind is Kind.UNIFORM]
        self.keys = tuple(key for ring in self.plan.rings for key in ring.keys)
        self.deep_rings = tuple(ring.keys for ring in self.plan.rings if ring.depth > 1)
        self.reduces = max(self.plan.levels, default=0) > 0
        self.needs_shapes = program.merged.needs_shapes
        self.failure: NativeUnavailable | None = None
        # Dynamo counts recompilations a code object: a kernel needs one of its own.
        code = FusedKernel._advance.__code__.replace(co_name="rule_step")
        advance = types.MethodType(types.FunctionType(code, globals()), self)
        self.advance: Callable[..., None] = torch.compile(advance, backend=backend, dynamic=True, fullgraph=True)

    def uniforms(
        self, memory: Memory, t: Tensor, total: int, constants: Sequence[float] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All uniform values, float64 [k], and what to store in uniform rings."""
        values: dict[int, Tensor] = {}

        def value(index: int) -> Tensor:
            number = self.plan.nodes[index].number
            return values[index] if number is None else _scalar(number, t.device)

        rings = {ring.name: ring for ring in self.uniform_rings}
        inputs = {"t": t, **horizon_inputs(t, total)}
        inputs |= {name: _scalar(value, t.device) for name, value in zip(self.plan.open, constants, strict=True)}
        for index in self.uniform:
            node = self.plan.nodes[index]
            if node.op == "input":
                values[index] = inputs[node.name]
            elif node.op == "past":
                values[index] = memory[rings[node.name].keys[node.lag - 1]].to(t.device)
            else:
                values[index] = _FUNCTIONS[node.op](*map(value, node.args))
        stores = {ring.keys[-1]: value(self.plan.stores[ring.name]) for ring in self.uniform_rings}
        return torch.stack([*values.values(), t])[:-1], stores

    def _advance(
        self,
        w: Tensor,
        g: Tensor,
        buffers: Sequence[Tensor],
        u: Tensor,
        shape: Tensor,
        rates: Tensor,
        seed: Tensor,
    ) -> None:
        """Move one flat tensor: ``rates`` holds lr, lr * weight_decay and the sign; ``shape`` [4], if read."""
        real = compute_dtype(w.dtype)
        rate, decay, sign = (rate.to(real) for rate in rates.unbind(0))
        inputs = {"w": w.to(real), "g": sign * g.to(real)}
        if self.needs_shapes:
            inputs |= {name: value.to(real) for name, value in zip(SHAPE_INPUTS, shape.unbind(0), strict=True)}
        places = [(ring.name, lag) for ring in self.rings for lag in range(1, ring.depth + 1)]
        past = dict(zip(places, buffers, strict=True))
        values = self._values(inputs, past, u, w, real)
        kept = torch.where(decay != 0, decay * inputs["w"], torch.zeros_like(inputs["w"]))
        moved = inputs["w"] + (rate * _tensor(values[self.plan.outputs["update"]], w, real) - kept)
        for number, ring in enumerate(self.rings):
            oldest = past[ring.name, ring.depth]
            new = _tensor(values[self.plan.stores[ring.name]], w, real).expand_as(oldest)
            if self.stochastic and oldest.dtype is torch.bfloat16:
                new = rounded(new, seed + hashed(-1 - number))
            oldest.copy_(new)
        w.copy_(moved)

    def _values(
        self,
        inputs: Mapping[str, Tensor],
        past: Mapping[tuple[str, int], Tensor],
        u: Tensor,
        like: Tensor,
        real: torch.dtype,
    ) -> list[Tensor | float]:
        """The value of every node of the plan, in order."""
        values: list[Tensor | float] = []
        for index, node in enumerate(self.plan.nodes):
            if node.number is not None:
                values.append(node.number)
            elif index in self.place:
                values.append(u[self.place[index]].to(real))
            elif node.op == "input":
                values.append(inputs[node.name])
            elif node.op == "past":
                values.append(past[node.name, node.lag].to(real))
            else:
                values.append(_FUNCTIONS[node.op](*(_tensor(values[arg], like, real) for arg in node.args)))
        return values


class FusedBatch:
    """Calls a kernel on tensors that take their steps together.

    Args:
        kernel: The compiled program.
    """

    def __init__(self, kernel: FusedKernel) -> None:
        self.kernel = kernel

    def step(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        memories: Sequence[Memory],
        t: float | Tensor,
        lr: float | Tensor,
        weight_decay: float = 0.0,
        *,
        total_steps: int | None = None,
        shapes: Sequence[Sequence[int]] | None = None,
        maximize: bool = False,
        seed: int | Tensor = 0,
        seen: Look | None = None,
        constants: Sequence[float] = (),
    ) -> None:
        """As `closedform.optim._native.Batch.step`, for which alone ``seen`` is.

        ``t``, ``lr`` and ``seed`` may be scalar tensors on the device.

        If they all are, nothing is copied from host to device or back: the step can be captured as a CUDA graph.
        """
        kernel, device = self.kernel, params[0].device
        if kernel.failure is not None:
            raise kernel.failure
        now = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
        u, scalars = kernel.uniforms(memories[0], now.double(), total_steps or 1, constants)
        rate = lr.to(device, torch.float64).reshape(()) if isinstance(lr, Tensor) else _scalar(lr, device)
        rates = torch.stack([rate, rate * weight_decay, _scalar(-1.0 if maximize else 1.0, device)])
        u, start = u.to(device), stream(seed, device)
        rows = [_row(kernel, *parts) for parts in zip(params, grads, memories, strict=True)]
        depths = [ring.depth for ring in kernel.rings]
        written = [0, *(1 + end for end in accumulate(depths))]  # the parameter, and the oldest buffer of each ring
        whole = shapes or [param.shape for param in params]
        for number, group in enumerate(_joined(rows, alone=kernel.reduces or kernel.needs_shapes)):
            flat = group[0] if len(group) == 1 else [torch.cat(column) for column in zip(*group, strict=True)]
            try:
                shape = _shape_vector(whole[number], device) if kernel.needs_shapes else rates
                kernel.advance(flat[0], flat[1], flat[2:], u, shape, rates, start + hashed(number))
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                kernel.failure = NativeUnavailable(f"torch.compile failed ({reason})")
                raise kernel.failure from error
            if len(group) > 1:
                for column in written:
                    _spread(flat[column], [row[column] for row in group])
        for memory in memories:
            for key, value in scalars.items():
                memory[key].copy_(value)
            (_shift if isinstance(t, Tensor) else rotate)(memory, kernel.deep_rings)


def _joined(rows: Sequence[list[Tensor]], *, alone: bool) -> Iterator[list[list[Tensor]]]:
    """Rows in groups to be run as one: large tensors alone, small ones together; empty ones are left out."""
    group: list[list[Tensor]] = []
    filled = 0
    for row in rows:
        count = row[0].numel()
        if count == 0 and not alone:
            continue
        if alone or count >= JOIN:
            yield [row]
            continue
        group.append(row)
        filled += count
        if filled >= JOIN:
            yield group
            group, filled = [], 0
    if group:
        yield group


def _row(kernel: FusedKernel, param: Tensor, grad: Tensor, memory: Memory) -> list[Tensor]:
    """Parameter, gradient and buffers as flat views of their elements in memory."""
    if not is_dense(param):
        raise NativeUnavailable("a parameter's elements overlap or have gaps between them")
    if grad.stride() != param.stride():
        grad = torch.empty_like(param, dtype=grad.dtype).copy_(grad)
    row = [_flat(param), _flat(grad)]
    for ring in kernel.rings:
        for buffer in (memory[key] for key in ring.keys):
            if ring.kind is Kind.ELEMENTWISE and buffer.stride() != param.stride():
                raise NativeUnavailable("a state is not laid out like its parameter")
            row.append(_flat(buffer) if ring.kind is Kind.ELEMENTWISE else buffer)
    return row


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _spread(flat: Tensor, targets: list[Tensor]) -> None:
    torch._foreach_copy_(targets, list(torch.split(flat, [target.numel() for target in targets])))


def _shift(memory: Memory, rings: Sequence[tuple[str, ...]]) -> None:
    """What `rotate` does, by copies: a captured step finds every buffer where it was."""
    for keys in rings:
        newest = memory[keys[-1]].clone()
        for older, newer in zip(keys[:0:-1], keys[-2::-1], strict=True):
            memory[older].copy_(memory[newer])
        memory[keys[0]].copy_(newest)


def _tensor(value: Tensor | float, like: Tensor, real: torch.dtype) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=real, device=like.device)


def _shape_vector(shape: Sequence[int], device: torch.device) -> Tensor:
    """The shape inputs of a tensor on a device, [4]."""
    return torch.stack([_scalar(value, device) for value in shape_values(shape)])


def _scalar(value: float, device: torch.device) -> Tensor:
    """A number on a device, without a copy from the host."""
    return torch.full((), value, dtype=torch.float64, device=device)
