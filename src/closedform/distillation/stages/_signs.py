"""Updates of one size only: their sign as a function of the gradient and one moving average.

    update = -size * sign(m + c*g),   m = EMA(g; d)

Lion's interpolation b1*m_{t-1} + (1 - b1)*g_t is this with c = b2/b1 - 1, over its own m of decay d = b2; signed
momentum has c = 0. No derivative tells of d and c, but every cell does: where the sign is given, c must lie on one side
of -m/g. So for a decay the best c is found exactly, by sorting; the decay by zooming in on the fewest contradictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from closedform.distillation.problem import SIGNAL, Average, Candidate, Problem
from closedform.distillation.stages._screen import DECAYS, STAGE, Screen
from closedform.lang import Expr, Number, Symbol, apply

ONE_SIZE = 1e-3
"""Share by which the sizes of updates other than 0 may differ."""
ZOOMS, PLACES = 8, 9
"""Times that the decay is searched again, around the best so far, and at how many places each time."""
WHOLE_SEQUENCES, WHOLE_CELLS = 1000, 200_000
"""What the last looks are at: the more cells, the better d and c are known."""
ROUNDING = 2e-5
"""Share of the cells that a shorter decay or weight may contradict beyond the best."""


@dataclass(frozen=True)
class _Fit:
    contradictions: int
    decay: float
    low: float
    high: float


def signs(data: Problem, screen: Screen) -> Iterator[Candidate]:
    """The sign of the gradient, and of it with the best average; nothing where updates have several sizes."""
    sizes = np.abs(screen.y[screen.y != 0])
    if sizes.max() - sizes.min() > ONE_SIZE * sizes.max():
        return
    size = float(np.median(sizes))
    yield _candidate(size, Symbol(SIGNAL), {})
    width, best = _narrowed(screen, None, 1.0)
    whole = Screen(data, WHOLE_SEQUENCES, WHOLE_CELLS)
    best = _rounded(_narrowed(whole, best, width)[1], whole)
    average = Average(SIGNAL, best.decay)
    for inner in (Symbol(average.label), _inner(best, Symbol(average.label))):
        yield _candidate(size, inner, {average.label: average})


def _candidate(size: float, inner: Expr, averages: dict[str, Average]) -> Candidate:
    return Candidate(apply("mul", Number(-size), apply("sign", inner)), averages, stage=STAGE)


def _inner(best: _Fit, mean: Expr) -> Expr:
    """M + c*g, or Lion's b1*m + (b2 - b1)*g if b1 is the shorter number."""
    weight = _shortest(best.low, best.high)
    if not weight:
        return mean
    inner = _shortest(best.decay / (1 + best.high), best.decay / (1 + best.low)) if best.low > 0 else 0.0
    if not 0 < inner < best.decay or len(f"{weight:g}".lstrip("-0.")) <= len(f"{inner:g}".lstrip("0.")):
        return apply("add", mean, apply("mul", Number(weight), Symbol(SIGNAL)))
    interpolated = apply("mul", Number(round(best.decay - inner, 12)), Symbol(SIGNAL))
    return apply("add", apply("mul", Number(inner), mean), interpolated)


def _narrowed(screen: Screen, start: _Fit | None, width: float) -> tuple[float, _Fit]:
    """The decay that the fewest cells contradict, from all of the grid or from a start on; and how well it is known."""
    best = start or min((_best_weight(decay, screen) for decay in DECAYS), key=lambda fit: fit.contradictions)
    for _ in range(ZOOMS):
        centre = math.log(best.decay / (1 - best.decay))
        tried = [_best_weight(_decay(x), screen) for x in np.linspace(centre - width, centre + width, PLACES)]
        least = min(fit.contradictions for fit in tried)
        level = [fit for fit in tried if fit.contradictions == least]
        best = level[len(level) // 2]  # of equally good ones, which lie side by side, the one in the middle
        if len(level) > 2:
            break
        width *= 2.5 / (PLACES - 1)
    return width, best


def _decay(x: float) -> float:
    return 1 / (1 + math.exp(-float(x)))


def _best_weight(decay: float, screen: Screen) -> _Fit:
    """The interval of c that the fewest cells contradict, for a decay."""
    told = (screen.y != 0) & (screen.g != 0)
    g, m, y = screen.g[told], screen.values(Average(SIGNAL, decay))[told], screen.y[told]
    limits, above = -m / g, (y < 0) == (g > 0)  # update -sign(m + c*g): c above the limit where m + c*g has g's sign
    order = np.argsort(limits)
    limits, above = limits[order], above[order]
    wrong = np.concatenate([[0], np.cumsum(~above)]) + (above.sum() - np.concatenate([[0], np.cumsum(above)]))
    edges = np.concatenate([[-math.inf], limits, [math.inf]])
    k = int(wrong.argmin())
    return _Fit(int(wrong[k]), decay, float(edges[k]), float(edges[k + 1]))


def _rounded(best: _Fit, screen: Screen) -> _Fit:
    allowed = best.contradictions + ROUNDING * len(screen.y)
    for digits in (1, 2, 3, 4):
        decay = round(1 - float(f"{1 - best.decay:.{digits}g}"), 12)
        if 0 < decay < 1:
            fit = _best_weight(decay, screen)
            if fit.contradictions <= allowed:
                return fit
    return best


def _shortest(low: float, high: float) -> float:
    """The number of fewest digits in an interval: 0 if it is there."""
    if low <= 0 <= high:
        return 0.0
    if not (math.isfinite(low) and math.isfinite(high)):
        return low if math.isfinite(low) else high
    middle = (low + high) / 2
    for digits in range(1, 16):
        value = float(f"{middle:.{digits}g}")
        if low <= value <= high:
            return value
    return middle
