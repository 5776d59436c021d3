"""Moving averages and their kin over whole sequences: what the states of hand-designed optimizers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from closedform.distillation.problem._candidate import Average
from closedform.lang import OPERATORS

Inputs: TypeAlias = dict[tuple[str, str | None], np.ndarray]
"""Transformed signals kept at hand: (signal, transform) -> [..., T]."""


def run_average(average: Average, signals: Mapping[str, np.ndarray], inputs: Inputs) -> np.ndarray:
    """An average's state after every step, uncorrected.

    Args:
        average: The average.
        signals: Name -> values [..., T] from step 1 on.
        inputs: Transformed signals met before; more are added.

    Returns:
        [..., T].
    """
    values = _input(average, signals, inputs)
    if average.kind == "sum":
        return np.cumsum(values, axis=-1)
    if average.kind == "peak":
        return _peak(values, average.decay)
    means = lfilter([1 - average.decay], [1, -average.decay], values, axis=-1)
    return np.maximum.accumulate(means, axis=-1) if average.kind == "top" else means


def start_share(average: Average, t: Tensor) -> Tensor:
    """1 - decay**t: the share of an average that is not its start at 0, at steps ``t``."""
    return 1 - torch.pow(average.decay, t.to(torch.float64))


def _input(average: Average, signals: Mapping[str, np.ndarray], inputs: Inputs) -> np.ndarray:
    if average.about is not None:
        return _transformed(signals[average.signal] - run_average(average.about, signals, inputs), average.transform)
    key = (average.signal, average.transform)
    if key not in inputs:
        inputs[key] = _transformed(signals[average.signal], average.transform)
    return inputs[key]


def _transformed(values: np.ndarray, transform: str | None) -> np.ndarray:
    return OPERATORS[transform].torch(torch.from_numpy(values)).numpy() if transform else values


def _peak(values: np.ndarray, decay: float) -> np.ndarray:
    found = np.empty_like(values)
    now = np.zeros_like(values[..., 0])
    for step in range(values.shape[-1]):
        now = np.maximum(decay * now, values[..., step])
        found[..., step] = now
    return found
