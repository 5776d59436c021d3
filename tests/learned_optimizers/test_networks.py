"""DM, RNNprop and their cells, against torch's own LSTM and formulas written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from closedform.errors import UnknownNameError
from closedform.learned_optimizers import LEARNED_OPTIMIZERS, RecurrentOptimizer, get
from closedform.learned_optimizers._lstm import LSTMCell

N = 9


def test_cell_equals_torch(generator: torch.Generator) -> None:
    cell = LSTMCell(3, 5, generator).double()
    theirs = torch.nn.LSTM(3, 5).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(cell.weight[:, :3])
        theirs.weight_hh_l0.copy_(cell.weight[:, 3:])
        theirs.bias_ih_l0.copy_(cell.bias[:, 0])
        theirs.bias_hh_l0.zero_()
    x = torch.randn(7, N, 3, generator=generator, dtype=torch.float64)
    expected, (_, expected_memory) = theirs(x)
    hidden = memory = torch.zeros(5, N, dtype=torch.float64)
    bound, outputs = cell.bind(), []
    for columns in x.transpose(1, 2):
        hidden, memory = bound(columns, hidden, memory)
        outputs.append(hidden.T)
    torch.testing.assert_close(torch.stack(outputs), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(memory.T, expected_memory[0], rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(torch.stack(outputs).square().sum(), cell.weight)[0]
    grads = torch.autograd.grad(expected.square().sum(), [theirs.weight_ih_l0, theirs.weight_hh_l0])
    torch.testing.assert_close(ours, torch.cat(grads, dim=1), rtol=1e-10, atol=1e-12)


def test_an_untrained_cell_remembers_from_one_step_to_hundreds() -> None:
    """A gate that keeps T/(T + 1) forgets over T + 1 steps; with what is written, the sum of weights is 1."""
    cell = LSTMCell(3, 4)
    write, keep, candidate, read = torch.sigmoid(cell.bias.double()).reshape(4, 4)
    times = torch.tensor([1, 600 ** (1 / 3), 600 ** (2 / 3), 600], dtype=torch.float64)
    torch.testing.assert_close(keep, times / (times + 1), rtol=1e-5, atol=0)
    torch.testing.assert_close(write, 1 - keep, rtol=1e-5, atol=0)
    assert (torch.cat([candidate[:-1], read[:-1]]) - 0.5).abs().max() < 0.13
    (only,) = LSTMCell(3, 1).bias[1]
    assert only == 0


@torch.no_grad()
def test_the_last_unit_of_an_untrained_cell_is_a_clock(generator: torch.Generator) -> None:
    step = LSTMCell(3, 4, generator).bind()
    hidden = memory = torch.zeros(4, 5)
    for _ in range(300):
        hidden, memory = step(torch.randn(3, 5, generator=generator), hidden, memory)
    expected = math.tanh(2) * (1 - (600 / 601) ** 300)
    torch.testing.assert_close(memory[3], torch.full((5,), expected), rtol=1e-4, atol=0)


def _awake(l2o: RecurrentOptimizer) -> RecurrentOptimizer:
    """With an output layer that is not zero."""
    with torch.no_grad():
        l2o.output_weight += torch.linspace(-0.5, 1, l2o.output_weight.numel())
        l2o.output_bias += 0.1
    return l2o


def _rnnprop_features(gradients: list[Tensor], b: float = 0.95, eps: float = 1e-8) -> Tensor:
    """m~, g~ and n~ of the last gradient, from their definitions: bias-corrected means with weights b^k."""
    weights = torch.tensor([b**k for k in range(len(gradients))], dtype=torch.float64).flip(0)[:, None]
    g = torch.stack(gradients)

    def ema(x: Tensor) -> Tensor:
        return (weights * x).sum(0) / weights.sum()

    root = ema(g**2).sqrt() + eps
    return torch.stack([ema(g) / root, g[-1] / root, ema(g) / (ema(g.abs() ** 3) ** (1 / 3) + eps)])


@pytest.mark.parametrize("name", ["rp-s", "rp-si"])
def test_rnnprop_by_hand(name: str, generator: torch.Generator) -> None:
    l2o = _awake(get(name, generator=generator).double())
    gradients = list(torch.randn(6, N, generator=generator, dtype=torch.float64))
    w = torch.zeros(N, dtype=torch.float64)
    state = l2o.init_state(w)
    hidden = memory = torch.zeros(7, N, dtype=torch.float64)
    cell = l2o.cells[0]
    for t, g in enumerate(gradients, start=1):
        update, state = l2o.update(g, w, state)
        x = _rnnprop_features(gradients[:t])[: len(l2o.features)]
        x = torch.nn.functional.elu(l2o.input_weight @ x + l2o.input_bias)
        i, f, c, o = (cell.weight @ torch.cat([x, hidden]) + cell.bias).reshape(4, 7, N)
        memory = f.sigmoid() * memory + i.sigmoid() * c.tanh()
        hidden = o.sigmoid() * memory.tanh()
        expected = l2o.scale * torch.tanh(l2o.output_weight @ hidden + l2o.output_bias)[0]
        torch.testing.assert_close(update, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "cost", "features"),
    [
        ("dm", 80, 2),
        ("dm-raw", 80, 1),
        ("rp", 82, 2),
        ("rp-s", 16, 2),
        ("rp-si", 17, 3),
        ("rp-si-large", 27, 3),
        ("mlp", 7, 21),
    ],
)
def test_sizes(name: str, cost: int, features: int) -> None:
    l2o = get(name)
    assert l2o.state_cost == cost
    assert len(l2o.features) == features
    kept = sum(value.numel() for value in l2o.init_state(torch.zeros(N)).values() if value.dim())
    assert kept == cost * N


# celo starts as Nesterov's Adam: see test_celo.py
@pytest.mark.parametrize("name", sorted(LEARNED_OPTIMIZERS.keys() - {"celo"}))
def test_an_untrained_network_stands_still(name: str, generator: torch.Generator) -> None:
    l2o = get(name, generator=generator)
    g = torch.randn(N, generator=generator)
    assert not l2o.update(g, g, l2o.init_state(g))[0].any()


def test_same_generator_same_weights() -> None:
    first, again, other = (
        get("rp-si", generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["input_weight"], other["input_weight"])


def test_unknown_name_suggests() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'rp-s"):
        get("rp-sii")
