"""From design to design: the best of some plain ones, then whatever single change of a choice explains more."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

from closedform.distillation.designs._design import KINDS, Design
from closedform.distillation.designs._fit import Cells, Fitted, fitted

FIRST = (
    *KINDS,
    *(
        Design(above=above, below=below, hat_m=hat if above != "x" else "", hat_v=hat)
        for above in ("m", "x", "m+x", "m+m")
        for below in ("", "mean", "spread", "abs", "peak", "sum", "yogi")
        for hat in ("", "own")
    ),
)
WIDTH, PROMISING, LEVELS = 3, 12, 6
"""Designs that are changed at each level, changed ones that are fitted further, and levels."""
LOOK, FIT, FINISH = 2, 8, 60
"""Steps of a fit: at first, of what is promising, of what is handed on."""
GAIN = 0.7
"""Share of the error that a level must leave at most."""
ELSEWHERE, FARTHER = (0.5, 0.9, 0.99, 0.999, 0.9998), 10
"""Decays to begin at again, and how much larger the error may be after a first look for a fit to go to its end."""
NOTHING, DEARER = 1e-13, 1.1
"""An error that is none, and how much larger one may be for a constant less."""


def searched(cells: Cells, enough: float, parameter: bool = True, until: float = math.inf) -> Iterator[Fitted]:
    """Designs that explain more and more, each level's best; ends with one whose error is small enough.

    Args:
        cells: What they are fitted to.
        enough: 1 - R^2 at which it ends.
        parameter: Whether they may read the parameter.
        until: When to end, as ``time.monotonic()`` tells it.
    """
    met: set[tuple[Design, bool]] = set()
    beam = _level(
        [(design, {}) for design in FIRST if design.sensible and (parameter or not design.reads_parameter)], cells, met
    )
    for _ in range(LEVELS):
        if not beam:
            return
        best = fitted(beam[0].design, cells, beam[0].constants, FINISH) or beam[0]
        best = _plainest(best if best.error <= enough else _elsewhere(best, cells), cells)
        yield best
        if best.error <= enough or time.monotonic() > until:
            return
        beam = [best, *beam[1:]]
        changed = [
            (near, one.constants)
            for one in beam
            for near in one.design.neighbours()
            if near.sensible and (parameter or not near.reads_parameter)
        ]
        further = _level(changed, cells, met)
        beam = _different(sorted([*beam, *further], key=_rank))
        if beam[0].error > GAIN * best.error:
            return


def _rank(one: Fitted) -> float:
    return (one.error + NOTHING) * DEARER ** (len(one.constants) + len(one.weights))


def _elsewhere(best: Fitted, cells: Cells) -> Fitted:
    """The same design from other decays, one at a time: a fit may end in a valley."""
    decays = [name for name in best.constants if name.startswith("d_")]
    starts = ({**best.constants, name: value} for name in decays for value in ELSEWHERE)
    tried = [one for start in starts if (one := fitted(best.design, cells, start, LOOK)) is not None]
    found = min(tried, key=_rank, default=best)
    finished = fitted(best.design, cells, found.constants, FINISH) if found.error < best.error * FARTHER else None
    return finished if finished is not None and finished.error < best.error else best


def _plainest(best: Fitted, cells: Cells) -> Fitted:
    """Choices taken back that explain nothing."""
    while True:
        found = (fitted(design, cells, best.constants, FIT) for design in best.design.plainer() if design.sensible)
        plainer = min((one for one in found if one is not None), key=_rank, default=best)
        if _rank(plainer) >= _rank(best):
            return best
        best = plainer


def _level(
    starts: list[tuple[Design, Mapping[str, float]]], cells: Cells, met: set[tuple[Design, bool]]
) -> list[Fitted]:
    found = []
    for design, constants in starts:
        if (design, bool(constants)) not in met:  # from other constants it may end elsewhere
            met.add((design, bool(constants)))
            one = fitted(design, cells, constants, LOOK)
            if one is not None:
                found.append(one)
    found.sort(key=_rank)
    again = [fitted(one.design, cells, one.constants, FIT) for one in found[:PROMISING]]
    return _different(sorted((one for one in again if one is not None), key=_rank))


def _different(found: list[Fitted]) -> list[Fitted]:
    """The best of those that differ in what stands below, or how it is formed."""
    firsts: dict[object, Fitted] = {}
    for one in found:
        firsts.setdefault((one.design.below, one.design.form), one)
    return list(firsts.values())[:WIDTH]
