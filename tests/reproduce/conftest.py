"""Weights that ship, for the tests of the tables about them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from closedform.learned_optimizers import PRETRAINED, get, save_learned_optimizer


@pytest.fixture
def one_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the weights of one network shipped: drawn at random, all of them, since new networks do not move."""
    path = tmp_path / "rp-s.safetensors"
    network, generator = get("rp-s", clock="progress"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.5, generator=generator)
    save_learned_optimizer(network, path)
    for name in tuple(PRETRAINED):
        monkeypatch.delitem(PRETRAINED, name)
    monkeypatch.setitem(PRETRAINED, "rp-s", path)
