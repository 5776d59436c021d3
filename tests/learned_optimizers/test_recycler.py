"""Memory that is handed out again: never while anything can see it, and never without bound."""

from __future__ import annotations

import pytest
import torch

from closedform.learned_optimizers import _native_lstm as _recycler
from closedform.learned_optimizers import get
from closedform.learned_optimizers._native_lstm import Recycler


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recycler, "LARGE", 64)


def test_memory_comes_back_with_the_last_view() -> None:
    recycler, like = Recycler(spare=2), torch.zeros(8, 16)
    first = recycler.empty_like(like)
    address, view = first.data_ptr(), first[3]
    assert first.shape == like.shape
    del first
    assert recycler.empty_like(like).data_ptr() != address
    del view
    assert address in {recycler.empty_like(like).data_ptr() for _ in range(2)}


def test_keeps_a_few_pieces_only() -> None:
    recycler = Recycler(spare=2)
    held = [recycler.empty_like(torch.zeros(100)) for _ in range(5)]
    del held
    assert [len(pieces) for pieces in recycler._free.values()] == [2]


def test_tensors_outlive_the_recycler() -> None:
    recycler = Recycler(spare=1)
    tensor = recycler.empty_like(torch.zeros(100)).fill_(3.0)
    del recycler
    assert bool((tensor == 3).all())


@torch.no_grad()
def test_states_that_are_kept_stay_as_they_are(generator: torch.Generator) -> None:
    l2o = get("rp-s", generator=generator)
    w = torch.zeros(50)
    update, state = l2o.bind(), l2o.init_state(w)
    kept, copies = [], []
    for _ in range(6):
        _, state = update(torch.randn(50, generator=generator), w, state)
        kept.append(state)
        copies.append({key: value.clone() for key, value in state.items()})
    for state, copy in zip(kept, copies, strict=True):
        assert all(torch.equal(state[key], value) for key, value in copy.items())
