"""A search over a rule's constants, in their coordinates, by CMA-ES (Hansen 2016, arXiv 1604.00772)."""

from __future__ import annotations

import numpy as np
import torch
from cmaes import CMA
from numpy.typing import ArrayLike

from closedform.errors import OptionError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule


def constants_search(optimizer: SymbolicOptimizer, sigma: float, population: int, seed: int) -> CMA:
    """A search that begins at the constants as they are.

    Raises:
        OptionError: the rule has no constants to tune.
    """
    if not optimizer.trainable:
        raise OptionError(f"rule {optimizer.name!r} has no constants to tune")
    return CMA(mean=np.zeros(len(optimizer.trainable)), sigma=sigma, population_size=population, seed=seed)


def rule_at(optimizer: SymbolicOptimizer, coordinates: ArrayLike) -> Rule:
    """The rule whose trainable constants stand there."""
    with torch.no_grad():
        optimizer.coordinates.copy_(torch.as_tensor(np.asarray(coordinates, dtype=np.float64)))
    return optimizer.rule()


def constants_of(optimizer: SymbolicOptimizer, rule: Rule) -> dict[str, float]:
    """What is tuned, of a rule: name -> value."""
    values = {**rule.constants, "lr": rule.lr}
    return {name: float(values[name]) for name in optimizer.trainable}
