"""The rule language: operators, expressions, programs, and what can be done with them.

An expression is text such as ``"beta1*m + (1 - beta1)*g"``: `parse` reads it (untrusted text is fine), `to_text`
prints it, `evaluate` gives it a meaning in torch. A `Program` is a set of recurrences over such expressions, run
one training step at a time by `step`.
"""

from closedform.lang._abstract import folded, nonfinite_constant
from closedform.lang._degree import Degree, degrees
from closedform.lang._expression import (
    Apply,
    Expr,
    Lag,
    Number,
    Symbol,
    apply,
    complexity,
    lags,
    names,
    rename,
    substitute,
    transform,
    walk,
)
from closedform.lang._inputs import (
    HORIZON_INPUTS,
    INPUTS,
    LATE_INPUTS,
    SHAPE_INPUTS,
    horizon_inputs,
    shape_inputs,
    shape_values,
)
from closedform.lang._interpreter import (
    Memory,
    Reduce,
    check_inputs,
    evaluate,
    history_key,
    initial_memory,
    memory_kinds,
    memory_shape,
    reduce_whole,
    step,
)
from closedform.lang._kinds import Kind, join, kind_of, reduces, result_kind
from closedform.lang._latex import equation_latex, latex, number_latex, symbol_latex
from closedform.lang._mathml import mathml, symbol_mathml
from closedform.lang._matrices import matrix_shape, newton_schulz
from closedform.lang._operators import FUNCTIONS, OPERATORS, Operator
from closedform.lang._parity import Parity, parities, parity
from closedform.lang._parser import LIMITS, Limits, number_text, parse, to_text
from closedform.lang._program import Program
from closedform.lang._program_checks import LATE_NAMES
from closedform.lang._straight_line import Operation, Registers
from closedform.lang._symbolic import derivative, from_sympy, simplify, to_sympy
from closedform.lang._typeset import Equation, equations

__all__ = [
    "FUNCTIONS",
    "HORIZON_INPUTS",
    "INPUTS",
    "LATE_INPUTS",
    "LATE_NAMES",
    "LIMITS",
    "OPERATORS",
    "SHAPE_INPUTS",
    "Apply",
    "Degree",
    "Equation",
    "Expr",
    "Kind",
    "Lag",
    "Limits",
    "Memory",
    "Number",
    "Operation",
    "Operator",
    "Parity",
    "Program",
    "Reduce",
    "Registers",
    "Symbol",
    "apply",
    "check_inputs",
    "complexity",
    "degrees",
    "derivative",
    "equation_latex",
    "equations",
    "evaluate",
    "folded",
    "from_sympy",
    "history_key",
    "horizon_inputs",
    "initial_memory",
    "join",
    "kind_of",
    "lags",
    "latex",
    "mathml",
    "matrix_shape",
    "memory_kinds",
    "memory_shape",
    "names",
    "newton_schulz",
    "nonfinite_constant",
    "number_latex",
    "number_text",
    "parities",
    "parity",
    "parse",
    "reduce_whole",
    "reduces",
    "rename",
    "result_kind",
    "shape_inputs",
    "shape_values",
    "simplify",
    "step",
    "substitute",
    "symbol_latex",
    "symbol_mathml",
    "to_sympy",
    "to_text",
    "transform",
    "walk",
]
