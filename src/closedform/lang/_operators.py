"""The operators of the rule language: one table, one row an operator, with its exact meaning.

Every back end reads its part of a row: the reference interpreter the torch function, the SymPy bridge the symbolic
form, generated source the C form. Values are tensors throughout; a scalar is a tensor of no dimensions.

Outside an operator's domain the result is IEEE's (NaN or infinity). Nothing is clipped silently: the protected
operators ``spow ssqrt slog`` of the paper are there for rules that must not leave the domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from closedform.lang._matrices import column_mean, orthogonalised, row_mean

SLOG_FLOOR = 1e-8
"""Added to |x| inside ``slog`` (paper, operator logm)."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: Name in expressions; for infix operators the name of the node.
        arity: Number of arguments.
        meaning: The definition, in plain mathematics.
        domain: Where the result is finite for finite arguments.
        torch: The reference meaning on tensors.
        sympy: Builds the SymPy expression: called with the sympy module and the arguments.
        c: C source template over vectorisable helper functions (``{0}``, ``{1}``, ... are the arguments).
        symbol: Infix or prefix symbol, if it has one.
        over: What it looks at besides an element: "" nothing; "tensor" maps a whole parameter tensor to one number,
            "row" and "column" each row or column of its matrix view; "matrix" maps that matrix to another.
    """

    name: str
    arity: int
    meaning: str
    domain: str
    torch: Callable[..., Tensor]
    sympy: Callable[..., Any]
    c: str
    symbol: str | None = None
    over: str = ""

    @property
    def reduces(self) -> bool:
        """True if an element of the result depends on other elements of the parameter tensor."""
        return bool(self.over)

    @property
    def late(self) -> bool:
        """True if the operator is of ``closedform.rule/2``."""
        return self.over not in ("", "tensor")


def _greater(x: Tensor, y: Tensor) -> Tensor:
    return torch.gt(x, y).to(torch.result_type(x, y))


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition != 0, x, y)


def _clip(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, low), high)


def _rms(x: Tensor) -> Tensor:
    return torch.sqrt(torch.mean(torch.square(x)))


def _norm(x: Tensor) -> Tensor:
    return torch.sqrt(torch.sum(torch.square(x)))


def _piecewise(sp: Any, condition: Any, x: Any, y: Any) -> Any:
    return sp.Piecewise((x, condition), (y, True))


def _sympy_where(sp: Any, c: Any, x: Any, y: Any) -> Any:
    if isinstance(c, sp.Piecewise) and [pair.expr for pair in c.args] == [1, 0]:  # where(greater(a, b), x, y)
        return _piecewise(sp, c.args[0].cond, x, y)
    return _piecewise(sp, sp.Ne(c, 0), x, y)


_ROWS = (
    Operator("add", 2, "x + y", "all", torch.add, lambda sp, x, y: sp.Add(x, y), "({0} + {1})", "+"),
    Operator("sub", 2, "x - y", "all", torch.sub, lambda sp, x, y: sp.Add(x, -y), "({0} - {1})", "-"),
    Operator("mul", 2, "x * y", "all", torch.mul, lambda sp, x, y: sp.Mul(x, y), "({0} * {1})", "*"),
    Operator("div", 2, "x / y", "y != 0", torch.div, lambda sp, x, y: sp.Mul(x, sp.Pow(y, -1)), "({0} / {1})", "/"),
    Operator(
        "pow",
        2,
        "x ** y",
        "x > 0, or integer y >= 0",
        torch.pow,
        lambda sp, x, y: sp.Pow(x, y),
        "cf_pow({0}, {1})",
        "**",
    ),
    Operator("neg", 1, "-x", "all", torch.neg, lambda sp, x: -x, "(-{0})", "-"),
    Operator("abs", 1, "|x|", "all", torch.abs, lambda sp, x: sp.Abs(x), "cf_abs({0})"),
    Operator(
        "sign", 1, "1 if x > 0, -1 if x < 0, 0 if x = 0", "all", torch.sign, lambda sp, x: sp.sign(x), "cf_sign({0})"
    ),
    Operator("sqrt", 1, "square root of x", "x >= 0", torch.sqrt, lambda sp, x: sp.sqrt(x), "cf_sqrt({0})"),
    Operator("square", 1, "x * x", "all", torch.square, lambda sp, x: x**2, "cf_square({0})"),
    Operator("cube", 1, "x * x * x", "all", lambda x: x * x * x, lambda sp, x: x**3, "cf_cube({0})"),
    Operator(
        "exp", 1, "e to the power x", "x < about 88 in float32", torch.exp, lambda sp, x: sp.exp(x), "cf_exp({0})"
    ),
    Operator("log", 1, "natural logarithm of x", "x > 0", torch.log, lambda sp, x: sp.log(x), "cf_log({0})"),
    Operator("tanh", 1, "hyperbolic tangent", "all", torch.tanh, lambda sp, x: sp.tanh(x), "cf_tanh({0})"),
    Operator("sinh", 1, "hyperbolic sine", "|x| < about 89", torch.sinh, lambda sp, x: sp.sinh(x), "cf_sinh({0})"),
    Operator("asinh", 1, "inverse hyperbolic sine", "all", torch.asinh, lambda sp, x: sp.asinh(x), "cf_asinh({0})"),
    Operator("erf", 1, "error function", "all", torch.erf, lambda sp, x: sp.erf(x), "cf_erf({0})"),
    Operator("erfc", 1, "1 - erf(x)", "all", torch.erfc, lambda sp, x: sp.erfc(x), "cf_erfc({0})"),
    Operator("relu", 1, "max(x, 0)", "all", torch.relu, lambda sp, x: sp.Max(x, 0), "cf_relu({0})"),
    Operator(
        "min",
        2,
        "the smaller; NaN if either is",
        "all",
        torch.minimum,
        lambda sp, x, y: sp.Min(x, y),
        "cf_min({0}, {1})",
    ),
    Operator(
        "max",
        2,
        "the larger; NaN if either is",
        "all",
        torch.maximum,
        lambda sp, x, y: sp.Max(x, y),
        "cf_max({0}, {1})",
    ),
    Operator(
        "clip",
        3,
        "min(max(x, low), high)",
        "all",
        _clip,
        lambda sp, x, low, high: sp.Min(sp.Max(x, low), high),
        "cf_min(cf_max({0}, {1}), {2})",
    ),
    Operator(
        "greater",
        2,
        "1 if x > y, else 0",
        "all",
        _greater,
        lambda sp, x, y: _piecewise(sp, sp.Gt(x, y), 1, 0),
        "cf_greater({0}, {1})",
    ),
    Operator(
        "where",
        3,
        "x if c != 0, else y: where(c, x, y)",
        "all",
        _where,
        _sympy_where,
        "cf_where({0}, {1}, {2})",
    ),
    Operator(
        "spow",
        2,
        "sign(x) |x| ** y (paper: pow)",
        "x != 0, or y > 0",
        lambda x, y: torch.sign(x) * torch.pow(torch.abs(x), y),
        lambda sp, x, y: sp.sign(x) * sp.Pow(sp.Abs(x), y),
        "cf_spow({0}, {1})",
    ),
    Operator(
        "ssqrt",
        1,
        "square root of |x| (paper: sqrtm)",
        "all",
        lambda x: torch.sqrt(torch.abs(x)),
        lambda sp, x: sp.sqrt(sp.Abs(x)),
        "cf_sqrt(cf_abs({0}))",
    ),
    Operator(
        "slog",
        1,
        "log(|x| + 1e-8) (paper: logm)",
        "all",
        lambda x: torch.log(torch.abs(x) + SLOG_FLOOR),
        lambda sp, x: sp.log(sp.Abs(x) + SLOG_FLOOR),
        "cf_slog({0})",
    ),
    Operator(
        "mean",
        1,
        "mean over the parameter tensor",
        "all",
        torch.mean,
        lambda sp, x: sp.Function("mean")(x),
        "",
        None,
        "tensor",
    ),
    Operator(
        "rms",
        1,
        "root of the mean square over the parameter tensor",
        "all",
        _rms,
        lambda sp, x: sp.Function("rms")(x),
        "",
        None,
        "tensor",
    ),
    Operator(
        "norm",
        1,
        "Euclidean norm of the parameter tensor",
        "all",
        _norm,
        lambda sp, x: sp.Function("norm")(x),
        "",
        None,
        "tensor",
    ),
    Operator(
        "row_mean",
        1,
        "mean over each row of the parameter as a matrix, spread over the row",
        "all",
        row_mean,
        lambda sp, x: sp.Function("row_mean")(x),
        "",
        None,
        "row",
    ),
    Operator(
        "col_mean",
        1,
        "mean over each column of the parameter as a matrix, spread over the column",
        "all",
        column_mean,
        lambda sp, x: sp.Function("col_mean")(x),
        "",
        None,
        "column",
    ),
    Operator(
        "orthogonalise",
        1,
        "matrix of nearly equal singular values: 5 steps of Newton-Schulz; vectors as they are",
        "all",
        orthogonalised,
        lambda sp, x: sp.Function("orthogonalise")(x),
        "",
        None,
        "matrix",
    ),
)

OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
INFIX: dict[str, str] = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}
FUNCTIONS: dict[str, Operator] = {row.name: row for row in _ROWS if row.symbol is None}
"""Operators written as calls, ``tanh(x)``."""
