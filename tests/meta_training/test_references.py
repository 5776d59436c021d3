"""The reference is torch's AdamW under torch's schedulers, and a score is measured in doublings of its steps."""

from __future__ import annotations

import math

import pytest
import torch

from closedform import tasks
from closedform.errors import DivergenceError, OptionError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.meta_training import Reference, reference
from closedform.meta_training._meta_parameters import moved
from closedform.meta_training._references import RATES, WARMUP, cosine, final_losses
from closedform.rules import load_rule
from closedform.unroll._seeds import generator_for

QUADRATIC = tasks.get("quadratic", dim=5, condition=10.0).to(dtype=torch.float64)


def _by_torch(horizon: int, lr: float, seed: int) -> float:
    """Final loss of torch.optim.AdamW without decay, from the start that this seed draws."""
    w = torch.nn.Parameter(QUADRATIC.init(generator_for(seed))["w"].clone())
    optimizer = torch.optim.AdamW([w], lr=lr, weight_decay=0.0)
    rise = max(1, round(WARMUP * horizon))
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / rise),
            torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: (1 + math.cos(math.pi * (step + 1) / (horizon - rise))) / 2
            ),
        ],
        [rise],
    )
    for _ in range(horizon):
        optimizer.zero_grad()
        QUADRATIC.loss({"w": w}, ()).backward()
        optimizer.step()
        schedule.step()
    return float(QUADRATIC.loss({"w": w.detach()}, ()))


def test_the_reference_is_torchs_adamw_with_a_cosine() -> None:
    rates = (0.01, 0.1, 0.3)
    found = reference(QUADRATIC, 40, seed=3, rates=rates)
    by_torch = {lr: _by_torch(40, lr, 3) for lr in rates}
    assert found.lr == min(by_torch, key=lambda lr: by_torch[lr])
    assert found.loss == pytest.approx(by_torch[found.lr], rel=1e-6)
    assert found.half == pytest.approx(min(_by_torch(20, lr, 3) for lr in rates), rel=1e-6)


def test_the_schedule_rises_then_falls_to_nothing() -> None:
    values = [cosine(step, 100) for step in range(1, 101)]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert values[52] == pytest.approx((1 + math.cos(math.pi * 48 / 95)) / 2)
    assert values[-1] == pytest.approx(0.0, abs=1e-12)


def test_scores_count_doublings_of_the_steps() -> None:
    one = Reference(loss=0.1, half=0.2, lr=0.01)
    scores = one.score(torch.tensor([0.1, 0.2, 0.05, math.nan, math.inf]))
    assert scores[:3].tolist() == pytest.approx([0.0, 1.0, -1.0], abs=1e-6)
    assert torch.isposinf(scores[3:]).all()
    assert math.isfinite(Reference(loss=0.0, half=0.0, lr=0.01).score(torch.tensor([0.0])).item())


def test_rows_of_a_population_are_what_each_would_be_alone() -> None:
    rule = load_rule("adam")
    optimizer = SymbolicOptimizer(rule, ["lr", "beta1"])
    offsets = torch.tensor([[0.0, 0.0], [1.0, -0.5], [-1.0, 0.5]], dtype=torch.float64)
    together = final_losses(optimizer, optimizer.bind_stacked(moved(optimizer, offsets)), 3, QUADRATIC, 20, 0)
    for offset, loss in zip(offsets, together, strict=True):
        alone = optimizer.bind_stacked(moved(optimizer, offset[None]))
        assert final_losses(optimizer, alone, 1, QUADRATIC, 20, 0).item() == pytest.approx(loss.item(), rel=1e-12)


def test_a_reference_that_diverges_is_said_by_name() -> None:
    class Pit(type(QUADRATIC)):
        """Falls without end, and is infinite wherever one goes."""

        def loss(self, params, batch):
            return super().loss(params, batch) * math.inf

    pit = Pit.__new__(Pit)
    pit.__dict__.update(QUADRATIC.__dict__)
    with pytest.raises(DivergenceError, match=f"'quadratic'.*all {len(RATES)} learning rates"):
        reference(pit, 10)


@pytest.mark.parametrize("bad", [0, 1, 2.5, True])
def test_a_horizon_must_be_a_number_of_steps(bad: object) -> None:
    with pytest.raises(OptionError, match="horizon"):
        reference(QUADRATIC, bad)  # type: ignore[arg-type]
