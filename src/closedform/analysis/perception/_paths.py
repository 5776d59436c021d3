"""Where an optimizer reads: its gradient, the features of a network, each memory of a rule."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from closedform.analysis.perception._tape import Step
from closedform.lang import (
    Apply,
    Expr,
    Program,
    Symbol,
    apply,
    horizon_inputs,
    initial_memory,
    names,
    step,
    transform,
)
from closedform.learned_optimizers import LearnedOptimizer, RecurrentOptimizer, State
from closedform.rules import Rule

GRADIENT, INSIDE_SIGN = "gradient", "gradient, inside sign"
_ELSEWHERE = "g_elsewhere"
_T, _TOTAL = "t", "T"


def through_gradient(optimizer: LearnedOptimizer) -> Step:
    """The gradient is what is nudged."""
    update = optimizer.bind()
    return lambda nudge, g, w, state: update(g + nudge, w, state)


def through_feature(optimizer: RecurrentOptimizer, feature: str) -> Step:
    """One of a network's features is."""

    def at(nudge: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        return lambda columns: {**columns, feature: columns[feature] + nudge}

    return lambda nudge, g, w, state: optimizer.bind_on(at(nudge))(g, w, state)


def memories(rule: Rule) -> list[str]:
    """The states of a rule that read its gradient themselves, where there are two or more."""
    program = rule.program.merged
    found = [name for name, expr in program.state.items() if "g" in _spelled(expr, program)]
    return found if len(found) > 1 and not program.reduces else []


def through_memory(rule: Rule, memory: str) -> Step:
    """What one state reads of the gradient is nudged, and nothing else: others see the gradient as it was."""
    program, other = rule.program.merged, _ELSEWHERE
    while other in {*program.constants, *program.state, *program.where}:
        other += "_"

    def frozen(expr: Expr) -> Expr:
        return transform(expr, lambda node: Symbol(other) if node == Symbol("g") else node)

    state = {name: expr if name == memory else frozen(expr) for name, expr in program.state.items()}
    where = {name: frozen(expr) for name, expr in program.where.items()}
    outputs = {name: frozen(expr) for name, expr in program.outputs.items()}
    constants = {**program.constants, other: 0.0}
    return _interpreted(Program(constants, state, where, outputs, program.init), rule.lr, other)


def inside_sign(rule: Rule) -> Rule | None:
    """The rule without its signs, where its update takes one: sign(x) becomes x; None if it has none."""
    program = rule.program.live
    where = {name: _unsigned(expr) for name, expr in program.where.items()}
    outputs = {name: _unsigned(expr) for name, expr in program.outputs.items()}
    if (where, outputs) == (dict(program.where), dict(program.outputs)):
        return None
    return Rule(rule.name, Program(program.constants, program.state, where, outputs, program.init), rule.lr)


def _unsigned(expr: Expr) -> Expr:
    if not isinstance(expr, Apply):
        return expr
    args = [_unsigned(arg) for arg in expr.args]
    return args[0] if expr.op == "sign" else apply(expr.op, *args)


def fresh_memory(rule: Rule, like: Tensor, total: int) -> State:
    """The state before the first step of `through_memory`."""
    memory = initial_memory(rule.program.merged, like)
    return {
        _T: like.new_zeros(()),
        _TOTAL: like.new_full((), float(total)),
        **{f"rule.{k}": v for k, v in memory.items()},
    }


def _interpreted(program: Program, lr: float, elsewhere: str) -> Step:
    def update(nudge: Tensor, g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
        t, total = state[_T] + 1, state[_TOTAL]
        memory = {key[5:]: value for key, value in state.items() if key.startswith("rule.")}
        inputs = {"g": g + nudge, "w": w, "t": t, **horizon_inputs(t, float(total))}
        outputs, memory = step(program, inputs, memory, {elsewhere: g})
        new = {_T: t, _TOTAL: total, **{f"rule.{key}": value for key, value in memory.items()}}
        return (lr * outputs["update"]).expand_as(g), new

    return update


def _spelled(expr: Expr, program: Program) -> set[str]:
    """Names in an expression, those of named values written out."""
    found = set(names(expr))
    for name in found & set(program.where):
        found |= _spelled(program.where[name], program)
    return found
