"""Learned optimizers from a torch module: the map itself, training, files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import closedform as cf
from closedform.errors import CheckpointError, OptionError, UnknownNameError
from closedform.learned_optimizers import from_module

FEATURES = ("m_tilde", "g_tilde")


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))


def test_it_is_the_module_over_the_features() -> None:
    module = net()
    optimizer = from_module(module, FEATURES, scale=0.5)
    w, state = torch.ones(3), optimizer.init_state(torch.ones(3))
    m = v = torch.zeros(3)
    for t in range(1, 4):
        g = torch.tensor([1.0, -2.0, 0.1]) * t
        update, state = optimizer.update(g, w, state)
        m, v = 0.95 * m + 0.05 * g, 0.95 * v + 0.05 * g * g
        share = 1 - 0.95**t
        root = (v / share).sqrt() + 1e-8
        expected = 0.5 * module(torch.stack([m / share / root, g / root], dim=1))[:, 0]
        assert torch.allclose(update, expected, atol=1e-5)


def test_a_linear_map_is_distilled_to_itself() -> None:
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0, -0.25]]))
    recording = cf.record(from_module(module, FEATURES, scale=0.1), "quadratic", steps=30, episodes=4)
    entry = cf.distill(recording, "sparse", time_limit=1).choose()
    assert entry.error < 1e-6
    assert "m_tilde" in entry.equation


def test_it_is_meta_trained_saved_and_read_back(tmp_path: Path) -> None:
    optimizer = from_module(net(), FEATURES, name="mine")
    before = {name: value.clone() for name, value in optimizer.state_dict().items()}
    bowl = cf.tasks.get("quadratic")
    cf.meta_train(optimizer, [bowl], estimator=cf.TruncatedBPTT(5), steps=3, horizon=10, validate_every=0, out=tmp_path)
    assert any(not torch.equal(value, before[name]) for name, value in optimizer.state_dict().items())
    again = from_module(net(7), FEATURES, name="mine", weights=tmp_path / "model.safetensors")
    for name, value in optimizer.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(CheckpointError, match="does not hold the weights|but 'mine' has"):
        from_module(nn.Linear(2, 1), FEATURES, name="mine", weights=tmp_path / "model.safetensors")


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Linear(3, 1), r"must map \[N, 2\]"),
        (nn.Linear(2, 2), r"of \[64, 2\] it made \[64, 2\]"),
        (Odd(), r"it made \[64\]"),
        (nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1)), "depends on other rows"),
        (nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.9)), "depends on other rows, or on chance"),
    ],
)
def test_modules_that_do_not_fit_are_refused_in_a_line(module: nn.Module, said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        from_module(module, FEATURES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("features", "error"), [("m_tilde", OptionError), ((), OptionError), (("gg",), UnknownNameError)]
)
def test_features_that_are_none(features: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        from_module(net(), features)
