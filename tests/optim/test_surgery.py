"""Random surgery between steps (`surgery`), and the same on torch's own optimizers: both go on alike."""

from __future__ import annotations

import pytest
from surgery import BACKENDS, PAIRS, SURGERIES, Sequence, fuzz


def test_150_sequences() -> None:
    done = fuzz(150, seed=10_000)
    assert done["steps"] == 1500
    assert done["refused"] > 50
    assert all(done[surgery.__name__.strip("_")] for surgery in SURGERIES)


@pytest.mark.parametrize("backend", [*dict.fromkeys(BACKENDS)])
@pytest.mark.parametrize("name", PAIRS)
def test_every_rule_on_every_back_end(name: str, backend: str) -> None:
    for seed in range(3):
        Sequence(seed, name, backend).run()


@pytest.mark.slow
def test_2000_sequences() -> None:
    assert fuzz(2000)["steps"] == 20_000
