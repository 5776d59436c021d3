"""Random generators made from a run's seed and what they are for, so that nothing depends on who drew before."""

from __future__ import annotations

import numpy as np
import torch

from closedform.unroll._unroll import Carry


def generator_for(*entropy: int) -> torch.Generator:
    """The generator of these numbers."""
    (seed,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)


def window_generator(carry: Carry) -> torch.Generator:
    """A generator for the window that starts at ``carry``, apart from the one that draws batches.

    It depends on the episode's seed and the step alone, so a resumed run draws the same.
    """
    first = carry.generator if isinstance(carry.generator, torch.Generator) else carry.generator[0]
    return generator_for(first.initial_seed(), carry.step)
