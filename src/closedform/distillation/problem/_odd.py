"""Odd forms: what is left of an equation when it must change sign with the gradient and the parameter.

Of a sum the odd terms stay, of a product of which one factor is neither even nor odd the part of it that fits, of a
tanh that of the inside; a bound on one side becomes one on both. So ``0.1 + tanh(m + 0.2)`` becomes ``tanh(m)``. It is
not the odd part (f(x) - f(-x))/2, which would be twice as long, but it is never longer, and its constants are fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from closedform.distillation.problem._candidate import Average, Candidate
from closedform.lang import Apply, Expr, Number, Parity, Program, apply, parities, parity

TURNED = ("g", "w")
"""Inputs that change sign; with the parameter among them weight decay is odd."""
ODD_FUNCTIONS = frozenset(("neg", "cube", "tanh", "sinh", "asinh", "erf", "sign"))
EVEN_FUNCTIONS = frozenset(("abs", "square", "ssqrt", "slog"))
MIXED_FUNCTIONS = frozenset(("exp", "sqrt", "log", "erfc", "relu"))
"""Neither even nor odd."""
_EVEN, _ODD, _ZERO = Parity.EVEN, Parity.ODD, Parity.ZERO

Known = Mapping[str, Parity | None]


@dataclass(frozen=True)
class OddForms:
    """Odd forms over the signals of a recording.

    Attributes:
        signals: Their parities.
    """

    signals: Known

    @classmethod
    def over(cls, source: Program) -> OddForms:
        """Those of a recording's program."""
        return cls(parities(source, odd=TURNED))

    def known(self, candidate: Candidate) -> dict[str, Parity | None]:
        """Parities of all names that a candidate reads."""
        known = dict(self.signals) | {label: self._average(average) for label, average in candidate.averages.items()}
        known |= dict.fromkeys(candidate.recurrences, _ZERO)
        changed = True
        while changed:
            changed = False
            for name, expr in candidate.recurrences.items():
                joined = _joined(known[name], parity(expr, known))
                changed, known[name] = changed or joined is not known[name], joined
        return known

    def project(self, candidate: Candidate) -> Candidate | None:
        """The candidate itself if it is odd, else what is left of it as an odd form; None if nothing is."""
        known = self.known(candidate)
        if parity(candidate.expr, known) is _ODD:
            return candidate
        unclear = {name for name in candidate.recurrences if known[name] is None}
        known |= dict.fromkeys(unclear, _ODD)
        recurrences = {}
        for name, expr in candidate.recurrences.items():
            kept = part(expr, _ODD, known) if name in unclear else expr
            if kept is None:
                return None
            recurrences[name] = kept
        update = part(candidate.expr, _ODD, known)
        if update is None:
            return None
        found = replace(candidate, expr=update, recurrences=recurrences).live
        return found if found.coherent and parity(found.expr, self.known(found)) is _ODD else None

    def _average(self, average: Average) -> Parity | None:
        of = self.signals.get(average.signal)
        if of is None or average.transform is None or average.transform in ODD_FUNCTIONS:
            return of if average.kind in ("mean", "sum") or of is not _ODD else None
        return _EVEN if average.transform in EVEN_FUNCTIONS or of is _EVEN else None


def _joined(x: Parity | None, y: Parity | None) -> Parity | None:
    if x is _ZERO or x is y:
        return y
    return x if y is _ZERO else None


def part(expr: Expr, wanted: Parity, known: Known) -> Expr | None:
    """What is left of an expression as an even or odd one; None if nothing is."""
    own = parity(expr, known)
    if own is wanted:
        return expr
    if own is not None or not isinstance(expr, Apply):
        return None
    return _PARTS[expr.op](expr, wanted, known) if expr.op in _PARTS else None


def _turned(wanted: Parity, by: Parity) -> Parity:
    """What times something of parity ``by`` is wanted."""
    return wanted if by is _EVEN else _EVEN if wanted is _ODD else _ODD


def _sum(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    first, second = (part(arg, wanted, known) for arg in expr.args)
    if first is None or second is None:
        return first if second is None else second if expr.op == "add" else apply("neg", second)
    return apply(expr.op, first, second)


def _product(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    """One factor as it is, if it is even or odd; otherwise an even one first: what is divided by should not be odd."""
    last = expr.op == "div"  # the factor that is even if it can be
    for even in (_EVEN, _ODD):
        one, other = part(expr.args[last], even, known), part(expr.args[not last], _turned(wanted, even), known)
        if one is not None and other is not None:
            return apply(expr.op, *((other, one) if last else (one, other)))
    return None


def _inside(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    """Of a function: of what is inside."""
    inner = part(expr.args[0], wanted, known)
    return None if inner is None else apply(expr.op, inner, *expr.args[1:])


def _even_function(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    if wanted is _ODD:
        return None
    return _inside(expr, _ODD, known) or _inside(expr, _EVEN, known)


def _function(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    """Exp has sinh for its odd part, relu half of what is inside."""
    if wanted is _EVEN:
        return _inside(expr, _EVEN, known)
    inner = part(expr.args[0], _ODD, known) if expr.op in ("exp", "relu") else None
    if inner is None:
        return None
    return apply("sinh", inner) if expr.op == "exp" else apply("mul", Number(0.5), inner)


def _bounded(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    """A bound by a number on one side becomes one on both; otherwise the one that is left."""
    for inner, bound in (expr.args, expr.args[::-1]):
        kept = part(inner, wanted, known)
        if isinstance(bound, Number) and wanted is _ODD and kept is not None:
            size = abs(bound.value)
            return apply("max", apply("min", kept, Number(size)), Number(-size)) if size else kept
    first, second = (part(arg, wanted, known) for arg in expr.args)
    if first is not None and second is not None and wanted is _EVEN:
        return apply(expr.op, first, second)
    return second if first is None else first


def _either(expr: Apply, wanted: Parity, known: Known) -> Expr | None:
    condition, *values = expr.args
    parts = [part(value, wanted, known) for value in values]
    if parity(condition, known) is None or parts[0] is None or parts[1] is None:
        return None
    return apply("where", condition, *(kept for kept in parts if kept is not None))


_PARTS: dict[str, Callable[[Apply, Parity, Known], Expr | None]] = {
    **dict.fromkeys(("add", "sub"), _sum),
    **dict.fromkeys(("mul", "div"), _product),
    **dict.fromkeys((*ODD_FUNCTIONS, "spow"), _inside),
    **dict.fromkeys(EVEN_FUNCTIONS, _even_function),
    **dict.fromkeys(MIXED_FUNCTIONS, _function),
    **dict.fromkeys(("min", "max"), _bounded),
    "where": _either,
}
