"""Library rules against torch.optim: the same numbers for 100 steps on a small network's gradients, in float64."""

from collections.abc import Iterator

import pytest
import torch
from tape import Tape, assert_as_close_as_rounding

from closedform import RuleOptimizer
from closedform.rules import library_names

TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.01),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
}
WITHOUT_TORCH = {"lion", "signum", "adabelief", "lamb", "cf1"}
ELSEWHERE = {"adafactor", "ademamix", "adopt", "cautious-adamw", "mars", "muon", "schedulefree-adamw"}
"""Compared in test_lockstep_public.py."""
OURS = {"cf1"}
"""Published here: there is no other to compare it with. Its back ends are compared in test_matrix_stages.py."""
STEPS = 100


@pytest.fixture(autouse=True)
def restore_default_dtype() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def network(tape: Tape) -> torch.nn.Module:
    torch.manual_seed(0)
    return tape.watch(torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double())


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(16, 5, generator=generator, dtype=torch.float64)
        target = torch.stack([x.sum(1), x.prod(1), x[:, 0] ** 2], dim=1)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), target).backward()
        optimizer.step()


def test_every_library_rule_is_either_compared_or_known_to_have_no_counterpart() -> None:
    assert set(library_names()) == set(TORCH) | WITHOUT_TORCH | ELSEWHERE | OURS


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize("name", TORCH)
def test_rule_matches_torch(name: str, backend: str) -> None:
    torch.set_default_dtype(torch.float64)  # torch keeps NAdam's running product in the default type
    tape = Tape()
    expected = network(tape)
    reference = TORCH[name](expected.parameters())
    train(expected, reference)
    tape.rewind()
    found = network(tape)
    lr = reference.param_groups[0]["lr"]
    train(found, RuleOptimizer(found.parameters(), name, lr=lr, backend=backend))
    assert tape.played()
    assert_as_close_as_rounding(found, expected, lr=lr, steps=STEPS)
