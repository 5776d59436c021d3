"""Small optimizers and tasks on which the right answer is known."""

from __future__ import annotations

import pytest
from noisy_bowl import LearnedSGD, NoisyBowl


@pytest.fixture
def bowl() -> NoisyBowl:
    return NoisyBowl()


@pytest.fixture
def noisy_bowl() -> NoisyBowl:
    return NoisyBowl(noise=0.5)


@pytest.fixture
def learned_sgd() -> LearnedSGD:
    return LearnedSGD()
