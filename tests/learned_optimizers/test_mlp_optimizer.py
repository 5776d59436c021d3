"""The per-parameter MLP against its definition, written out tensor by tensor in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.learned_optimizers import LEARNED_OPTIMIZERS, MLP, get

SHAPES = {"matrix": (4, 3), "vector": (5,), "filters": (2, 3, 6), "scalar": ()}
DECAYS = (0.9, 0.99, 0.999)
TIMES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def _average(values: list[Tensor], decay: float) -> Tensor:
    total = torch.zeros_like(values[0])
    for value in values:
        total = decay * total + (1 - decay) * value
    return total


def _factored(gradients: list[Tensor], momenta: list[Tensor]) -> list[Tensor]:
    """Adafactor's 18 inputs of one tensor, in the order of the released code."""
    g, kinds = gradients[-1], [[] for _ in range(6)]
    for decay, m in zip(DECAYS, momenta, strict=True):
        second = _average([x**2 + 1e-30 for x in gradients], decay)
        if g.dim() < 2:
            inverse = (second + 1e-8) ** -0.5
            values = (g * (second + 1e-9) ** -0.5, second, second, inverse, inverse, m * (second + 1e-6) ** -0.5)
        else:
            last, first = sorted(range(g.dim()), key=lambda dim: (-g.shape[dim], -dim))[:2]
            row, column = second.mean(last, keepdim=True), second.mean(first, keepdim=True)
            share = (row / (row.mean(first, keepdim=True) + 1e-9)).clamp(min=1e-9)
            factor = share**-0.5 * column.clamp(min=1e-9) ** -0.5
            values = (g * factor, row, column, (row + 1e-8) ** -0.5, (column + 1e-8) ** -0.5, m * factor)
        for kind, value in zip(kinds, values, strict=True):
            kind.append(value.expand_as(g))
    return [value for kind in kinds for value in kind]


def _by_hand(l2o: MLP, w: Tensor, gradients: list[Tensor]) -> Tensor:
    """The update of one tensor after these gradients."""
    momenta = [_average(gradients, decay) for decay in DECAYS]
    second = _average([g**2 for g in gradients], 0.999)
    inverse = (second + 1e-6) ** -0.5
    inputs = [w, gradients[-1], *momenta, second, inverse, *(m * inverse for m in momenta)]
    inputs += _factored(gradients, momenta)
    inputs = [x * (x.square().mean() + 1e-5) ** -0.5 for x in inputs]
    step = torch.tensor(len(gradients) - 1.0, dtype=w.dtype)
    inputs += [torch.tanh(step / scale - 1).expand_as(w) for scale in TIMES]
    x = torch.stack(inputs, dim=-1)
    assert x.shape[-1] == 39
    x = torch.relu(x @ l2o.input_weight.T + l2o.input_bias[:, 0])
    x = torch.relu(x @ l2o.hidden_weight.T + l2o.hidden_bias[:, 0])
    direction, magnitude = (x @ l2o.output_weight.T + l2o.output_bias[:, 0]).unbind(-1)
    return l2o.scale * direction * torch.exp(0.001 * magnitude)


@torch.no_grad()
def test_update_by_hand(generator: torch.Generator) -> None:
    l2o = get("mlp", generator=generator, width=8).double()
    l2o.output_weight += torch.randn(2, 8, generator=generator)
    l2o.output_bias += 0.1
    sizes = [torch.Size(shape).numel() for shape in SHAPES.values()]
    w = torch.randn(sum(sizes), generator=generator, dtype=torch.float64)
    state, gradients = l2o.init_state(w, list(SHAPES.values())), []
    for _ in range(5):
        g = torch.randn(len(w), generator=generator, dtype=torch.float64)
        gradients.append(g)
        update, state = l2o.update(g, w, state)
        parts = zip(SHAPES.values(), w.split(sizes), update.split(sizes), strict=True)
        for index, (shape, own, found) in enumerate(parts):
            seen = [x.split(sizes)[index].view(shape) for x in gradients]
            torch.testing.assert_close(found.view(shape), _by_hand(l2o, own.view(shape), seen), rtol=1e-9, atol=1e-15)


def test_matrices_keep_means_only() -> None:
    state = get("mlp").init_state(torch.zeros(54), ((4, 3), (5,), (2, 3, 6), (1,)))
    assert (state["row0"].shape, state["column0"].shape) == ((3, 1, 3), (3, 4, 1))
    assert state["second1"].shape == (3, 5)
    assert (state["row2"].shape, state["column2"].shape) == ((3, 2, 3, 1), (3, 2, 1, 6))


def test_size_of_the_paper() -> None:
    """190 weights; the paper's 197 count 7 decays, which stay fixed here."""
    assert sum(parameter.numel() for parameter in get("mlp").parameters()) == 190


def test_lengths_make_vectors(generator: torch.Generator) -> None:
    l2o, w = get("mlp"), torch.zeros(12)
    lengths, vectors = l2o.init_state(w, (5, 7)), l2o.init_state(w, ((5,), (7,)))
    assert {key: value.shape for key, value in lengths.items()} == {key: value.shape for key, value in vectors.items()}


@pytest.mark.parametrize("width", [0, 1.5, True, 10**6])
def test_widths_that_make_no_sense(width: object) -> None:
    with pytest.raises(OptionError, match="width must be a whole number from 1 to 1024"):
        get("mlp", width=width)


@pytest.mark.parametrize("name", LEARNED_OPTIMIZERS)
@pytest.mark.parametrize("scale", [0, -1.0, True, float("inf"), "0.1"])
def test_scales_that_make_no_sense(name: str, scale: object) -> None:
    with pytest.raises(OptionError, match="scale must be a finite number above 0"):
        get(name, scale=scale)
