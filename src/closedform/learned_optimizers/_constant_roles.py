"""Which constants of a rule are trained, and in what coordinates.

A meta-optimizer such as Adam moves every coordinate by about its learning rate, so a coordinate should mean the same
everywhere: a step of 0.01 must not be a hundredth of one constant and a hundred times another. Each constant c gets a
coordinate x, 0 at its initial value c0, by the role that it plays in the rule:

    role      who                                                        c(x)
    decay     0 < c0 < 1, and 1 - c, c**..., or c times its own state    sigmoid(logit(c0) + x): stays in (0, 1)
    positive  c0 > 0, and it is lr, a divisor or the base of a power     c0 exp(x): stays positive
    floor     0 < c0 <= 1e-5: an eps                                     c0 exp(x); trained only if asked for by name
    weight    all others                                                 c0 sinh(asinh(1) + x); sinh(x) where c0 = 0

A weight moves like c0 (1 + 1.4 x) at first, can cross zero, and grows like exp(x) far away: nothing is out of reach.
"""

from __future__ import annotations

import math
from enum import Enum

import torch
from torch import Tensor

from closedform.lang import Apply, Expr, Number, Program, Symbol, walk
from closedform.lang import apply as apply_operator
from closedform.rules import Rule

FLOOR = 1e-5
"""Positive constants up to this are floors."""
STRUCTURAL = frozenset({0.0, 1.0, 2.0})
"""Sizes of literals that are part of a formula's shape rather than tunable numbers."""


class Role(Enum):
    """What a constant is to its rule."""

    DECAY = "decay"
    POSITIVE = "positive"
    FLOOR = "floor"
    WEIGHT = "weight"


def constant_roles(program: Program) -> dict[str, Role]:
    """The role of every constant of a program, in order."""
    nodes = [(state, node) for state, expr in program.state.items() for node in walk(expr)]
    nodes += [("", node) for expr in (*program.where.values(), *program.outputs.values()) for node in walk(expr)]
    return {name: _role(name, value, nodes) for name, value in program.constants.items()}


def from_coordinate(value: float, role: Role, x: Tensor) -> Tensor:
    """The constant at a coordinate.

    Args:
        value: Its initial value.
        role: Its role.
        x: The coordinate, a scalar; 0 gives ``value``, to the last rounding.
    """
    if role is Role.DECAY:
        return torch.sigmoid(math.log(value / (1 - value)) + x)
    if role is not Role.WEIGHT:
        return value * torch.exp(x)
    return value * torch.sinh(math.asinh(1) + x) if value else torch.sinh(x)


def lift_literals(rule: Rule) -> Rule:
    """The same rule with the numbers written in its update turned into named constants ``c1``, ``c2``, ...

    A distilled rule carries its fitted numbers as literals; lifted, they can be tuned. Each occurrence becomes a
    constant of its own. Left as they are: 0, 1 and 2 of either sign, and everything in an exponent.
    """
    taken = {*rule.constants, *rule.state, *rule.where}
    fresh = (name for name in (f"c{index}" for index in range(1, 1_000_000)) if name not in taken)
    constants = rule.constants

    def lift(node: Expr) -> Expr:
        if not isinstance(node, Number) or abs(node.value) in STRUCTURAL:
            return node
        name = next(fresh)
        constants[name] = node.value
        return Symbol(name)

    def lift_all(expr: Expr) -> Expr:
        if not isinstance(expr, Apply):
            return lift(expr)
        if expr.op in ("pow", "spow"):
            return apply_operator(expr.op, lift_all(expr.args[0]), expr.args[1])
        return apply_operator(expr.op, *(lift_all(arg) for arg in expr.args))

    update = lift_all(rule.update)
    program = Program(constants, rule.state, rule.where, {"update": update}, rule.init)
    return Rule(rule.name, program, rule.lr, rule.provenance, rule.results)


def _role(name: str, value: float, nodes: list[tuple[str, Expr]]) -> Role:
    constant = Symbol(name)
    if 0 < value <= FLOOR:
        return Role.FLOOR
    if 0 < value < 1 and any(_decays(constant, state, node) for state, node in nodes):
        return Role.DECAY
    if value > 0 and any(_divides_or_is_raised(constant, node) for _, node in nodes):
        return Role.POSITIVE
    return Role.WEIGHT


def _decays(constant: Symbol, state: str, node: Expr) -> bool:
    if not isinstance(node, Apply):
        return False
    if node.op == "mul":
        return node.args in ((constant, Symbol(state)), (Symbol(state), constant))
    return (node.op == "sub" and node.args == (Number(1), constant)) or (node.op == "pow" and node.args[0] == constant)


def _divides_or_is_raised(constant: Symbol, node: Expr) -> bool:
    if not isinstance(node, Apply) or node.op not in ("div", "pow"):
        return False
    return node.args[1 if node.op == "div" else 0] == constant
