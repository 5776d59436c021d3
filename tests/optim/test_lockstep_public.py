"""Library rules that torch.optim does not have, against pytorch_optimizer, and Muon against torch.optim's.

The same numbers for 100 steps on a small network's gradients, in float64.
"""

from collections.abc import Callable

import pytest
import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5
from tape import Tape
from test_lockstep_torch import STEPS, network, train

from closedform import RuleOptimizer
from closedform.lang import newton_schulz
from closedform.optim._steps import BACKENDS
from closedform.rules import load_rule

PUBLIC = {
    "adafactor": lambda p: pytorch_optimizer.AdaFactor(
        p, lr=0.01, betas=(None, 0.999), relative_step=False, momentum_dtype=torch.float64
    ),
    "ademamix": lambda p: pytorch_optimizer.AdEMAMix(p, lr=0.01, t_alpha_beta3=STEPS),
    # its clipping grows with the number of this step; the paper's and its authors' with that of the step before
    "adopt": lambda p: pytorch_optimizer.ADOPT(p, lr=0.01, clip_lambda=lambda step: (step - 1) ** 0.25),
    "cautious-adamw": lambda p: pytorch_optimizer.AdEMAMix(
        p, lr=0.01, alpha=0.0, cautious=True, weight_decay=0.01, weight_decouple=True
    ),
    "mars": lambda p: pytorch_optimizer.MARS(p, lr=0.01, optimize_1d=True, eps=1e-20),
    "schedulefree-adamw": lambda p: pytorch_optimizer.ScheduleFreeAdamW(p, lr=0.01),
}
CLOSE = {"mars": 1e-7}  # theirs adds 1e-15 under the root
CONSTANTS = {"mars": {"eps": 1e-20}}  # theirs adds eps before the bias correction, the paper's authors after it


Make = Callable[[torch.nn.Module], torch.optim.Optimizer]


def both(theirs: Make, ours: Make) -> tuple[torch.nn.Module, torch.nn.Module, list[torch.optim.Optimizer]]:
    """The network trained by theirs, the same moved by ours on the same gradients, and the two optimizers."""
    tape, models, optimizers = Tape(), [], []
    for make in (theirs, ours):
        models.append(network(tape))
        optimizers.append(make(models[-1]))
        train(models[-1], optimizers[-1])
        tape.rewind()
    return *models, optimizers


def assert_close(found: torch.nn.Module, expected: torch.nn.Module, tolerance: float, least: float) -> None:
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        assert ((a - b).abs() / b.abs().clamp(min=least)).max() < tolerance


@pytest.mark.parametrize("backend", [*BACKENDS, None])
@pytest.mark.parametrize("name", PUBLIC)
def test_rule_matches_the_public_implementation(name: str, backend: str | None) -> None:
    rule = load_rule(name).with_constants(**CONSTANTS.get(name, {}))
    expected, found, _ = both(
        lambda model: PUBLIC[name](model.parameters()),
        lambda model: RuleOptimizer(model.parameters(), rule, lr=0.01, backend=backend, total_steps=STEPS),
    )
    assert_close(found, expected, CLOSE.get(name, 1e-9), 1e-3)


def matrices(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.ndim == 2]


@pytest.mark.parametrize("backend", [*BACKENDS, None])
def test_muon_matches_torch_in_float64(backend: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch orthogonalises in bfloat16 whatever the type; pytorch_optimizer's function, put in its place, does not."""

    def exact(grad, coefficients, steps, eps):
        return zero_power_via_newton_schulz_5(grad, steps, eps, weights=coefficients, dtype=torch.float64)

    monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", exact)
    expected, found, _ = both(
        lambda model: torch.optim.Muon(matrices(model), lr=0.02, weight_decay=0.1),
        lambda model: RuleOptimizer(matrices(model), "muon", weight_decay=0.1, backend=backend),
    )
    assert_close(found, expected, 1e-4, 1e-2)  # theirs divides by max(norm, 1e-7), not by norm + 1e-7


def test_one_step_of_muon_is_torchs_to_its_bfloat16() -> None:
    theirs, ours = network(Tape()), network(Tape())
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moves = []
    for model, make in ((theirs, torch.optim.Muon), (ours, lambda p, **kw: RuleOptimizer(p, "muon", **kw))):
        before = [parameter.detach().clone() for parameter in matrices(model)]
        model(x).square().mean().backward()
        make(matrices(model), lr=0.02, weight_decay=0.0).step()
        moves.append([after.detach() - old for after, old in zip(matrices(model), before, strict=True)])
    for a, b in zip(*moves, strict=True):
        assert (a - b).norm() / b.norm() < 0.02


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
def test_newton_schulz_is_the_public_one(shape, generator: torch.Generator) -> None:
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    expected = zero_power_via_newton_schulz_5(x, dtype=torch.float64)
    torch.testing.assert_close(newton_schulz(x), expected, rtol=1e-5, atol=1e-6)


def test_the_average_of_schedule_free_is_where_its_file_says() -> None:
    theirs, ours, (reference, optimizer) = both(
        lambda model: pytorch_optimizer.ScheduleFreeAdamW(model.parameters(), lr=0.01),
        lambda model: RuleOptimizer(model.parameters(), "schedulefree-adamw", lr=0.01),
    )
    reference.eval()
    beta1 = load_rule("schedulefree-adamw").constants["beta1"]
    for parameter, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        lead = optimizer.state[parameter]["d@1"]
        found = parameter - 0.01 * lead * (1 - beta1) / beta1
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-9, atol=1e-9)
