"""The bridge to SymPy: simplification and derivatives.

SymPy is imported when first needed: training with a rule does not pay for it. Expressions cross over node by node, so
nothing is ever parsed by SymPy from text.
"""

from __future__ import annotations

import functools
from typing import Any

from closedform.errors import ExpressionError
from closedform.lang._expression import Expr, Lag, Number, Symbol, apply, complexity
from closedform.lang._operators import OPERATORS

SIMPLIFY_NODES = 60
"""Past this size full simplification takes SymPy minutes; larger expressions are only collected."""
_UNARY_FUNCTIONS = {"exp", "log", "tanh", "sinh", "asinh", "erf", "erfc", "sign", "mean", "rms", "norm"} | {
    "row_mean",
    "col_mean",
    "orthogonalise",
}


def to_sympy(expr: Expr) -> Any:
    """The same expression in SymPy, over real symbols; ``lag(x, k)`` is the symbol ``x@k``."""
    import sympy

    if isinstance(expr, Number):
        return sympy.Integer(int(expr.value)) if expr.value.is_integer() else sympy.Float(expr.value, 17)
    if isinstance(expr, Symbol):
        return sympy.Symbol(expr.name, real=True)
    if isinstance(expr, Lag):
        return sympy.Symbol(f"{expr.name}@{expr.steps}", real=True)
    return OPERATORS[expr.op].sympy(sympy, *(to_sympy(arg) for arg in expr.args))


def from_sympy(value: Any) -> Expr:
    """Read a SymPy expression made of this language's operators back.

    Raises:
        ExpressionError: it holds a function that the language does not have.
    """
    import sympy

    if value.is_Symbol:
        name, _, steps = value.name.partition("@")
        return Lag(name, int(steps)) if steps else Symbol(name)
    if value.is_number and not value.has(sympy.I):
        return Number(float(value))
    if value.is_Add or value.is_Mul:
        return _from_sum(value) if value.is_Add else _from_product(value)
    if value.is_Pow:
        return _from_power(*value.args)
    name = type(value).__name__
    if name in _UNARY_FUNCTIONS:
        return apply(name, from_sympy(value.args[0]))
    if isinstance(value, sympy.Abs):
        return apply("abs", from_sympy(value.args[0]))
    if isinstance(value, (sympy.Max, sympy.Min)):
        return functools.reduce(functools.partial(apply, name.lower()), map(from_sympy, value.args))
    if isinstance(value, sympy.Heaviside):
        return apply("greater", from_sympy(value.args[0]), Number(0))
    if isinstance(value, sympy.DiracDelta):
        return Number(0)
    if isinstance(value, sympy.Piecewise):
        return _from_piecewise(value)
    raise ExpressionError(f"SymPy's {name} has no counterpart in the rule language")


def simplify(expr: Expr) -> Expr:
    """An equal expression of at most the same complexity; the input itself when SymPy finds nothing shorter."""
    import sympy

    value = to_sympy(expr)
    candidates = [lambda value: value, sympy.expand, sympy.factor_terms]
    if complexity(expr) <= SIMPLIFY_NODES:
        candidates.append(functools.partial(sympy.simplify, ratio=1.0))
    best = expr
    for rewrite in candidates:
        try:
            found = from_sympy(rewrite(value))
        except (ExpressionError, TypeError, ValueError, NotImplementedError):
            continue
        if complexity(found) < complexity(best):
            best = found
    return best


def derivative(expr: Expr, name: str, steps: int = 0) -> Expr:
    """The derivative by a name, or by a lagged name, almost everywhere (the derivative of ``sign`` is 0).

    Args:
        expr: An expression without reductions.
        name: The name to differentiate by.
        steps: 0 for the present value, k for ``lag(name, k)``.
    """
    import sympy

    symbol = sympy.Symbol(f"{name}@{steps}" if steps else name, real=True)
    return from_sympy(sympy.diff(to_sympy(expr), symbol))


def _from_sum(value: Any) -> Expr:
    terms = sorted(value.args, key=lambda term: term.could_extract_minus_sign())
    total = from_sympy(terms[0])
    for term in terms[1:]:
        negative = term.could_extract_minus_sign()
        total = apply("sub", total, from_sympy(-term)) if negative else apply("add", total, from_sympy(term))
    return total


def _from_product(value: Any) -> Expr:
    above, below = [], []
    for factor in value.args:
        base, exponent = factor.as_base_exp()
        if exponent.is_number and exponent.is_negative and not base.is_number:
            below.append(_from_power(base, -exponent))
        elif factor != -1:
            above.append(from_sympy(factor))
    product = functools.reduce(functools.partial(apply, "mul"), above) if above else Number(1)
    if below:
        product = apply("div", product, functools.reduce(functools.partial(apply, "mul"), below))
    return apply("neg", product) if -1 in value.args else product


def _from_power(base: Any, exponent: Any) -> Expr:
    import sympy

    if exponent.is_number and exponent.is_negative:
        return apply("div", Number(1), _from_power(base, -exponent))
    named = {sympy.Integer(1): None, sympy.Rational(1, 2): "sqrt", sympy.Integer(2): "square", sympy.Integer(3): "cube"}
    if exponent in named or exponent == 0.5:
        name = "sqrt" if exponent == 0.5 else named[exponent]
        return apply(name, from_sympy(base)) if name else from_sympy(base)
    if base is sympy.E or base == sympy.E:
        return apply("exp", from_sympy(exponent))
    return apply("pow", from_sympy(base), from_sympy(exponent))


def _from_piecewise(value: Any) -> Expr:
    result = from_sympy(value.args[-1][0])
    for branch, condition in reversed(value.args[:-1]):
        result = apply("where", _from_condition(condition), from_sympy(branch), result)
    return result


def _from_condition(condition: Any) -> Expr:
    import sympy

    left, right = (from_sympy(side) for side in condition.args[:2])
    if isinstance(condition, sympy.StrictGreaterThan):
        return apply("greater", left, right)
    if isinstance(condition, sympy.StrictLessThan):
        return apply("greater", right, left)
    if isinstance(condition, sympy.GreaterThan):
        return apply("sub", Number(1), apply("greater", right, left))
    if isinstance(condition, sympy.LessThan):
        return apply("sub", Number(1), apply("greater", left, right))
    if isinstance(condition, sympy.Ne):
        return left if right == Number(0) else apply("sub", left, right)
    raise ExpressionError(f"SymPy's condition {type(condition).__name__} has no counterpart in the rule language")
