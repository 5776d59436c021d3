"""Schedules of a baseline's learning rate, tried beside the learning rate itself.

A schedule multiplies the learning rate before every update, as torch's schedulers do. `cosine` is torch's `LinearLR`
for the warm-up and then its `CosineAnnealingLR`; the last update still moves, zero would come right after it.

References:
    I. Loshchilov, F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, equation 5.
    A. Defazio et al., "Optimal linear decay learning rate schedules and further refinements", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from closedform._names import lookup
from closedform.errors import OptionError

WARM_UP = 0.05
"""Share of the steps over which a learning rate rises to its full size."""

Schedule = Callable[[int, int], float]
"""Takes the updates made so far and those there will be; gives the factor of the next."""


def _constant(done: int, steps: int) -> float:
    return 1.0


def _warm_up(done: int, steps: int) -> float:
    rising = warm_up_steps(steps)
    return min(1.0, (done + 1) / rising) if rising else 1.0


def _cosine(done: int, steps: int) -> float:
    return _warm_up(done, steps) * 0.5 * (1 + math.cos(math.pi * _progress(done, steps)))


def _linear(done: int, steps: int) -> float:
    return _warm_up(done, steps) * (1 - _progress(done, steps))


def _progress(done: int, steps: int) -> float:
    """Share of the steps after the warm-up that are done."""
    rising = warm_up_steps(steps)
    return max(0, done - rising) / (steps - rising)


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "warm-up": _warm_up,
    "cosine": _cosine,
    "linear": _linear,
}
"""By name: constant; warm-up, then constant; warm-up, then cosine to zero; warm-up, then linear to zero."""


def warm_up_steps(steps: int) -> int:
    """Updates over which the learning rate rises."""
    return round(WARM_UP * steps)


def check_schedules(names: Sequence[str]) -> None:
    """Raise UnknownNameError or OptionError unless ``names`` are schedules to try, each once."""
    for name in names:
        lookup("schedule", name, SCHEDULES)
    if not names or len(set(names)) < len(names):
        raise OptionError(f"schedules must be one or more different names of {', '.join(SCHEDULES)}, not {names!r}")
