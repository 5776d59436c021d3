"""The odd part of a rule: its terms one by one, and the definition (u(g) - u(-g))/2 over whole runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from closedform.lang import to_text
from closedform.pipeline._odd import odd_rule
from closedform.rules import Rule, load_rule

M = {"m": "b*m + (1 - b)*g", "v": "b*v + (1 - b)*square(g)", "k": "b*k + (1 - b)*exp(g)"}


def rule(update: str) -> Rule:
    return Rule.parse("planted", update, state=M, where={"n": "m/(sqrt(v) + 0.1)"}, constants={"b": 0.9})


@torch.no_grad()
def updates(subject: Rule, gradients: Tensor) -> Tensor:
    """[T, N] of gradients [T, N]."""
    from closedform.learned_optimizers import SymbolicOptimizer

    optimizer, w = SymbolicOptimizer(subject, []), torch.zeros(gradients.shape[1], dtype=torch.float64)
    state, update, found = optimizer.init_state(w, None, len(gradients)), optimizer.bind(), []
    for g in gradients:
        u, state = update(g, w, state)
        found.append(u)
    return torch.stack(found)


@pytest.mark.parametrize(
    ("update", "odd"),
    [
        ("0.001 - 0.2*n", "-(0.2*n)"),
        ("0.3*exp(2*n) - 0.3", "0.3*sinh(2*n)"),
        ("(0.1 - m)/(sqrt(v) + 1)", "-m/(sqrt(v) + 1)"),
        ("(m + 0.5)*(v + 1)*progress", "m*(v + 1)*progress"),
        ("(m + v)*(m - v)", "v*m + m*(-v)"),
        ("tanh(n) - 0.1*abs(m)", "tanh(n)"),
        ("-min(n, 0.2)", "-((min(n, 0.2) - min(-n, 0.2))/2)"),
    ],
)
def test_the_odd_part_is_worked_out_term_by_term(update: str, odd: str) -> None:
    found = odd_rule(rule(update))
    assert found is not None
    assert to_text(found.update) == odd
    gradients = torch.randn(12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (updates(rule(update), gradients) - updates(rule(update), -gradients)) / 2
    torch.testing.assert_close(updates(found, gradients), expected)
    assert not updates(found, torch.zeros_like(gradients)).any()


def test_what_is_odd_stays_as_it_is() -> None:
    for name in ("adam", "lion", "momentum"):
        assert odd_rule(load_rule(name)) == load_rule(name)


@pytest.mark.parametrize("update", ["0.1*v", "0.5", "-0.1*m - 0.2*k"])
def test_nothing_is_left_of_what_does_not_turn_or_is_not_known_to(update: str) -> None:
    assert odd_rule(rule(update)) is None
