"""celo: its start as a formula, its symmetries, its schedule, and what it remembers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import CELO_SEEN, Celo, LearnedOptimizer, State, get
from closedform.meta_training import Problem, begin, run

SHAPES = ((4, 3), (5,), (2, 3, 2), ())
N, T = 12 + 5 + 12 + 1, 20


def celo(seed: int = 0, **options: Any) -> Celo:
    """A celo that does all that it can."""
    generator = torch.Generator().manual_seed(seed)
    made = Celo("celo", generator, **options).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.05 if name == "schedule" else 0.4)
    return made


def updates(optimizer: LearnedOptimizer, gradients: Tensor, w: Tensor, total: int = T) -> Tensor:
    """Updates at fixed parameters, [steps, N]."""
    state = optimizer.init_state(w, SHAPES, total)
    found = []
    for g in gradients:
        update, state = optimizer.update(g, w, state)
        found.append(update)
    return torch.stack(found).detach()


@pytest.fixture
def data(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    numbers = torch.randn(9, N, generator=generator, dtype=torch.float64)
    return numbers[:8], numbers[8]


def test_it_is_odd_in_the_gradient(data: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(updates(celo(), -data[0], data[1]), -updates(celo(), *data))


@pytest.mark.parametrize("factor", [1e-4, 1e5])
def test_the_size_of_the_gradient_does_not_matter(data: tuple[Tensor, Tensor], factor: float) -> None:
    torch.testing.assert_close(updates(celo(), factor * data[0], data[1]), updates(celo(), *data), rtol=1e-6, atol=0)


def test_units_of_a_parameter_tensor_do_not_matter(data: tuple[Tensor, Tensor]) -> None:
    """With w = w'/c and g = c g' for each tensor, updates are those of w', divided by c."""
    sizes = [math.prod(shape) for shape in SHAPES]
    c = torch.cat([torch.full((size,), 10.0 ** (3 * k - 4), dtype=torch.float64) for k, size in enumerate(sizes)])
    torch.testing.assert_close(updates(celo(), c * data[0], data[1] / c), updates(celo(), *data) / c, rtol=1e-6, atol=0)


def test_it_stands_still_without_gradients(data: tuple[Tensor, Tensor]) -> None:
    assert not updates(celo(), torch.zeros_like(data[0]), data[1]).any()


def test_every_tensor_moves_by_the_same_share_of_its_size(data: tuple[Tensor, Tensor]) -> None:
    w = data[1]
    for update in updates(celo(), *data):
        parts = zip(update.split([12, 5, 12, 1]), w.split([12, 5, 12, 1]), strict=True)
        shares = [float(u.norm() / part.norm()) for u, part in parts]
        assert shares == pytest.approx([shares[0]] * 4, rel=1e-9)


def test_untrained_it_is_nesterovs_adam_with_a_schedule(data: tuple[Tensor, Tensor]) -> None:
    gradients, w = data
    optimizer = get("celo").double()
    m = v = torch.zeros(12, dtype=torch.float64)
    for step, update in enumerate(updates(optimizer, gradients, w), start=1):
        g = gradients[step - 1][:12]
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g.square()
        parts = [part / part.square().mean().sqrt() for part in (g / v.sqrt(), m / v.sqrt())]
        d = 0.2 * parts[0] + 0.8 * parts[1]
        share = update[:12].norm() / w[:12].norm()
        torch.testing.assert_close(update[:12], -share * w[:12].norm() * d / d.norm(), rtol=1e-5, atol=1e-12)


def test_the_schedule_rises_and_falls_to_nothing(data: tuple[Tensor, Tensor]) -> None:
    steps = updates(get("celo").double(), data[0][:1].expand(T, N), data[1]).norm(dim=1)
    assert float(steps[-1]) < 1e-4 * float(steps.max())
    assert (steps[2:].diff() < 0).all()
    late = updates(get("celo").double(), data[0][:1].expand(T + 5, N), data[1]).norm(dim=1)
    assert float(late[T:].max()) < 1e-4 * float(late.max())


def test_a_tensor_that_starts_at_zero_moves(generator: torch.Generator) -> None:
    w, g = torch.zeros(N), torch.randn(N, generator=generator)
    assert updates(get("celo"), g[None], w)[0].abs().min() > 0


def test_rows_and_columns_are_seen(data: tuple[Tensor, Tensor]) -> None:
    """The same numbers as a matrix and as a vector give other updates."""
    g, w = data[0], data[1]
    state: State = celo().init_state(w, (N,), T)
    as_vector, _ = celo().update(g[0], w, state)
    assert not torch.allclose(as_vector[:12], updates(celo(), g, w)[0][:12])


@pytest.mark.parametrize("total", [None, 0, -3, math.inf])
def test_it_must_know_how_long_the_episode_is(total: Any) -> None:
    with pytest.raises(OptionError, match="total_steps"):
        get("celo").init_state(torch.zeros(3), None, total)


@pytest.mark.parametrize("horizon", [50, 400])
def test_untrained_it_trains_at_any_horizon(horizon: int) -> None:
    problem = Problem(tasks.get("mlp-digits", init_std=None))
    carry = begin(get("celo"), problem, torch.Generator().manual_seed(0), horizon)
    losses, _ = run(get("celo"), problem, carry, horizon)
    assert float(losses[-5:].mean()) < 0.5 * float(carry.initial)


def test_what_it_sees_and_says_is_its_update_without_schedule_and_size(data: tuple[Tensor, Tensor]) -> None:
    gradients, w = data
    optimizer, numbers = celo(), celo().numbers()
    state = optimizer.init_state(w, SHAPES, T)
    for step, g in enumerate(gradients, start=1):
        seen, direction = optimizer.look(g, state)
        update, state = optimizer.update(g, w, state)
        for part in (*seen.split([12, 5, 12, 1], -1), *direction.split([12, 5, 12, 1])):
            torch.testing.assert_close(part.square().mean(-1), torch.ones_like(part[..., 0]))
        progress = step / T
        length = numbers["peak"] * (T / 1000) ** -numbers["horizon"]
        length *= min(progress / numbers["warmup"], 1) * (1 - progress) ** numbers["power"]
        torch.testing.assert_close(update[:12], -length * w[:12].square().mean().sqrt() * direction[:12])


def test_names_of_what_it_sees(data: tuple[Tensor, Tensor]) -> None:
    seen, _ = celo().look(data[0][0], celo().init_state(data[1], SHAPES, T))
    named = dict(zip(CELO_SEEN, seen, strict=True))
    g = data[0][0][:12]
    torch.testing.assert_close(named["g"][:12], g / g.square().mean().sqrt())
    torch.testing.assert_close(named["mom9"], named["g"])
    torch.testing.assert_close(named["g_v95"][:12], g.sign(), rtol=1e-4, atol=1e-4)
