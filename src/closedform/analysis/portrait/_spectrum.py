"""An optimizer as a filter: its impulse response about noise, and what it passes of slow and of fast gradients.

With h_k = E[-du_t/dg_{t-k}], the answer to a small signal of frequency f is H(f) = sum_k h_k exp(-2 pi i f k): |H| the
effective learning rate at that frequency, its angle how far the answer lags. At f = 0 is a drift; noise has all
frequencies alike, and is passed with the root mean square of |H|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
    """

    impulse: tuple[float, ...]
    frequency: tuple[float, ...]
    gain: tuple[float, ...]
    phase: tuple[float, ...]
    drift: float
    noise: float

    @property
    def averaging(self) -> float:
        """Gradients that it averages over: (drift/noise)^2, which is 1 for the present alone, NaN if nothing passes."""
        return (self.drift / self.noise) ** 2 if self.noise > 0 else math.nan


def spectrum_of(impulse: Sequence[float], points: int = 65) -> Spectrum:
    """The spectrum of an impulse response."""
    h = np.asarray(impulse, np.float64)
    frequency = np.linspace(0, 0.5, points)
    answer = np.exp(-2j * np.pi * np.outer(frequency, np.arange(len(h)))) @ h
    phase = np.where(np.abs(answer) > 1e-12 * np.abs(h).max(initial=0.0), np.angle(answer), 0.0)
    return Spectrum(
        tuple(h.tolist()),
        tuple(frequency.tolist()),
        tuple(np.abs(answer).tolist()),
        tuple(phase.tolist()),
        float(abs(answer[0])),
        float(np.sqrt(np.square(h).sum())),
    )
