"""Damaged state_dicts (`damaged_states`): refused in one line with nothing changed, or good to go on from."""

from __future__ import annotations

import pytest
from damaged_states import fuzz


def test_300() -> None:
    done = fuzz(300, seed=10_000)
    assert done["refused"] > 100
    assert done["accepted"] > 30


@pytest.mark.slow
def test_3000() -> None:
    assert fuzz(3000).total() == 3000
