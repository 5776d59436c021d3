"""The reference interpreter: the meaning of a program, in plain torch, written to be read.

`step` is pure: memory in, outputs and new memory out, differentiable through everything. Fast paths elsewhere are
tested to agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from closedform.errors import ExpressionError
from closedform.lang._expression import Expr, Lag, Number, Symbol
from closedform.lang._inputs import LATE_INPUTS
from closedform.lang._kinds import Kind
from closedform.lang._matrices import column_shape, row_shape
from closedform.lang._operators import OPERATORS
from closedform.lang._program import Program
from closedform.lang._straight_line import Operation, straight_line

Memory: TypeAlias = dict[str, Tensor]
"""State name -> its value; ``"x@k"`` -> the signal x, k steps ago."""
Reduce: TypeAlias = Callable[[str, Tensor], Tensor]
"""(operator's name, a value of every element) -> its result, broadcastable with the value: mean, rms, norm, row_mean,
col_mean or orthogonalise."""


def history_key(name: str, steps: int) -> str:
    """The memory key of ``lag(name, steps)``."""
    return f"{name}@{steps}"


def memory_kinds(program: Program) -> dict[str, Kind]:
    """Every memory entry that the program keeps, in a fixed order, with its kind."""
    entries = {name: program.kinds[name] for name in program.state}
    for name, depth in program.histories.items():
        first = 2 if name in program.state else 1
        entries |= {history_key(name, first + k): program.kinds[name] for k in range(depth)}
    return entries


def initial_memory(program: Program, like: Tensor, *, flat: bool = False) -> Memory:
    """Memory before step 1: zeros, typed and placed as ``like``.

    They are shaped as ``like``, but scalars for what is one number a tensor, and `memory_shape` for what is one number
    a row or column. Initial values come in at step 1, see `step`.

    Args:
        program: The program.
        like: The parameter tensor, any shape.
        flat: ``like`` holds several parameter tensors end to end, so that what is one number a tensor is kept
            elementwise, and so is what is one number a row or column (give `step` a ``reduce`` that reduces each tensor
            and spreads the result over it).
    """

    def zeros(kind: Kind) -> Tensor:
        if kind is Kind.UNIFORM:  # products and powers of decays: kept exact
            return torch.zeros((), dtype=torch.float64)
        if kind is Kind.PER_TENSOR and not flat:
            return torch.zeros((), dtype=like.dtype, device=like.device)
        return torch.zeros_like(like) if flat else like.new_zeros(memory_shape(kind, like.shape))

    return {key: zeros(kind) for key, kind in memory_kinds(program).items()}


def memory_shape(kind: Kind, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a memory entry of a parameter tensor of this shape: it broadcasts to the tensor's."""
    if kind is Kind.ELEMENTWISE:
        return tuple(shape)
    if kind is Kind.ROWWISE:
        return row_shape(shape)
    return column_shape(shape) if kind is Kind.COLUMNWISE else ()


def reduce_whole(name: str, value: Tensor) -> Tensor:
    """Reduce one whole tensor: mean, rms or norm as a scalar; matrix operators as they are defined."""
    return OPERATORS[name].torch(value)


def evaluate(
    expr: Expr,
    values: Mapping[str, Tensor],
    past: Callable[[Lag], Tensor] | None = None,
    reduce: Reduce = reduce_whole,
    done: dict[Expr, Tensor] | None = None,
) -> Tensor:
    """The value of one expression.

    Args:
        expr: The expression.
        values: Value of every name in it; tensors that broadcast together, scalars have no dimensions.
        past: Value of a lagged name; may be left out if there is none.
        reduce: How ``mean``, ``rms``, ``norm`` and the matrix operators treat a tensor.
        done: Values of sub-expressions already evaluated under the same ``values``; added to.
    """
    done = {} if done is None else done
    if expr in done:
        return done[expr]
    if isinstance(expr, Number):
        result = _scalar(expr.value, values.get("t"))
    elif isinstance(expr, Symbol):
        result = values[expr.name]
    elif isinstance(expr, Lag):
        assert past is not None, "an expression with lags needs 'past'"
        result = past(expr)
    else:
        args = [evaluate(arg, values, past, reduce, done) for arg in expr.args]
        row = OPERATORS[expr.op]
        result = reduce(expr.op, _spread(args[0], values.get("g"))) if row.reduces else row.torch(*args)
    done[expr] = result
    return result


def step(
    program: Program,
    inputs: Mapping[str, Tensor],
    memory: Mapping[str, Tensor],
    constants: Mapping[str, Tensor] | None = None,
    reduce: Reduce = reduce_whole,
) -> tuple[dict[str, Tensor], Memory]:
    """Run one step of a program.

    Args:
        program: The program.
        inputs: ``g`` and ``w`` of one shape, ``t`` a scalar tensor (float64 for exact bias corrections); constants are
            put on its device. Further those of ``program.reads``: `horizon_inputs` and `shape_inputs` make them.
        memory: From `initial_memory` or the last step.
        constants: Values to use instead of the program's own, scalar tensors; they may require gradients.
        reduce: How reductions treat a tensor (whole tensor by default).

    Returns:
        The outputs by name, and the new memory. Neither aliases the inputs' storage in place.

    Raises:
        ExpressionError: an input that the program reads is missing.
    """
    check_inputs(program, inputs)
    values = dict(inputs)  # a program of level 1 may call its own values T, progress, numel ...
    values |= {name: _scalar(value, inputs.get("t")) for name, value in program.constants.items()}
    values |= constants or {}
    memory = _begun(program, values, memory, reduce)

    def past(node: Lag) -> Tensor:
        own_state = node.name in program.state and node.steps == 1
        return memory[node.name if own_state else history_key(node.name, node.steps)]

    line = straight_line(program)
    places: list[Any] = [None] * line.size
    for (source, what), place in line.loads.items():
        if source == "number":
            places[place] = _scalar(what, inputs.get("t"))
        else:
            places[place] = past(what) if source == "lag" else (memory if source == "old" else values)[what]
    like = values.get("g")
    _run(line.first, places, like, reduce)
    for name, place in line.states.items():
        values[name] = places[line.renewed[name]] = _like(places[place], memory[name])
    _run(line.second, places, like, reduce)
    values |= {name: places[place] for name, place in line.where.items()}
    outputs = {name: places[place] for name, place in line.outputs.items()}
    return outputs, _next_memory(program, values, memory)


def _run(operations: Sequence[Operation], places: list[Any], like: Tensor | None, reduce: Reduce) -> None:
    for operation in operations:
        row = OPERATORS[operation.op]
        args = [places[arg] for arg in operation.args]
        places[operation.place] = reduce(operation.op, _spread(args[0], like)) if row.reduces else row.torch(*args)


def check_inputs(program: Program, inputs: Mapping[str, Tensor]) -> None:
    """Raise ExpressionError if an input of level 2 that the program reads is missing."""
    for name in program.reads & LATE_INPUTS.keys():
        if name not in inputs:
            raise ExpressionError(
                f'the program reads "{name}", which is not among the inputs; lang.horizon_inputs(t, T) and '
                "lang.shape_inputs(shape) make them"
            )


def _begun(
    program: Program, values: Mapping[str, Tensor], memory: Mapping[str, Tensor], reduce: Reduce
) -> Mapping[str, Tensor]:
    """Memory with initial values in their places, at step 1."""
    if not program.init:
        return memory
    done: dict[Expr, Tensor] = {}
    begun = {
        name: _like(evaluate(expr, values, None, reduce, done), memory[name]) for name, expr in program.init.items()
    }
    later = values["t"] > 1
    return {**memory, **{name: torch.where(later, memory[name], value) for name, value in begun.items()}}


def _spread(value: Tensor, like: Tensor | None) -> Tensor:
    """One number a row or column, over the whole tensor: a norm counts every element."""
    return value if like is None or value.dim() != like.dim() else value.expand_as(like)


def _scalar(value: float, t: Tensor | None) -> Tensor:
    """A constant beside the step: without a copy from the host, for which a step captured as a graph has no time."""
    if t is None or t.device.type == "cpu":
        return torch.tensor(value, dtype=torch.float64)
    return torch.full((), value, dtype=torch.float64, device=t.device)


def _next_memory(program: Program, values: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> Memory:
    new = {name: values[name] for name in program.state}
    for name, depth in program.histories.items():
        first = 2 if name in program.state else 1
        newest = memory[name] if name in program.state else values[name]
        for k in range(first, first + depth):
            new[history_key(name, k)] = _like(newest, memory[history_key(name, k)])
            newest = memory[history_key(name, k)]
    return new


def _like(value: Tensor, stored: Tensor) -> Tensor:
    """A state keeps its shape and type: an update that happens to be a scalar is spread over the tensor."""
    return value.to(stored.dtype).expand_as(stored)
