"""An optimizer as a filter: its impulse response about noise, and what it passes of slow and of fast gradients.

With h_k = E[-du_t/dg_{t-k}], the answer to a small signal of frequency f is H(f) = sum_k h_k exp(-2 pi i f k): |H| the
effective learning rate at that frequency, its angle how far the answer lags. At f = 0 is a drift; noise has all
frequencies alike, and is passed with the root mean square of |H|. A response that has not ended with the last lag is
carried on as the geometric series that its end looks like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_GONE = 1e-9
"""Share of the largest value below which the end of a response has faded."""
_LEVEL = 1e-9
"""1 - ratio up to which it does not fade."""
_LITTLE = 1e-3
"""Share of the whole that an end which does not fade must have to be more than chance."""


@dataclass(frozen=True)
class Spectrum:
    """A filter.

    Attributes:
        impulse: h_k, k = 0, 1, ...
        frequency: f, cycles a step, from 0 to 1/2.
        gain: |H(f)|.
        phase: Its angle, radians; negative where the answer lags.
        drift: |H(0)|, the gain of a constant gradient.
        noise: The gain of white noise, sqrt(sum h_k^2).
        tail: Share of the drift that lies past the last lag; 1 where the response does not fade within the lags, and
            drift and noise are those of what was seen.
    """

    impulse: tuple[float, ...]
    frequency: tuple[float, ...]
    gain: tuple[float, ...]
    phase: tuple[float, ...]
    drift: float
    noise: float
    tail: float = 0.0

    @property
    def averaging(self) -> float:
        """Gradients that it averages over: (drift/noise)^2, which is 1 for the present alone, NaN if nothing passes."""
        return (self.drift / self.noise) ** 2 if self.noise > 0 else math.nan


def spectrum_of(impulse: Sequence[float], points: int = 65) -> Spectrum:
    """The spectrum of an impulse response."""
    h = np.asarray(impulse, np.float64)
    frequency = np.linspace(0, 0.5, points)
    turn = np.exp(-2j * np.pi * frequency)
    last, ratio = _end(h)
    past = np.zeros_like(turn) if ratio >= 1 else last * ratio * turn ** len(h) / (1 - ratio * turn)
    answer = np.exp(-2j * np.pi * np.outer(frequency, np.arange(len(h)))) @ h + past
    phase = np.where(np.abs(answer) > 1e-12 * np.abs(h).max(initial=0.0), np.angle(answer), 0.0)
    return Spectrum(
        tuple(h.tolist()),
        tuple(frequency.tolist()),
        tuple(np.abs(answer).tolist()),
        tuple(phase.tolist()),
        float(abs(answer[0])),
        float(np.sqrt(np.square(h).sum() + (0.0 if ratio >= 1 else (last * ratio) ** 2 / (1 - ratio**2)))),
        1.0 if ratio >= 1 else float(min(abs(past[0]) / abs(answer[0]), 1.0)) if answer[0] else 0.0,
    )


def _end(h: np.ndarray) -> tuple[float, float]:
    """The last value and the ratio of the geometric series through the means of the last two eighths.

    (0, 0) if the end has faded or changes sign; a ratio of 1 if it does not fall.
    """
    width, count = max(len(h) // 8, 1), len(h)
    end = h[count - 2 * width :]
    same = bool((end > 0).all() or (end < 0).all())
    if not same or abs(end[width:].mean()) <= _GONE * np.abs(h).max():
        return 0.0, 0.0
    ratio = float(end[width:].mean() / end[:width].mean()) ** (1 / width)
    if ratio >= 1 - _LEVEL:
        rises = abs(end[width:].sum()) > _LITTLE * np.abs(h).sum()
        return (float(h[-1]), 1.0) if rises else (0.0, 0.0)
    return float(end[width:].sum() / np.power(ratio, -np.arange(width)).sum()), ratio
