"""Every estimator on a GPU gives what it gives on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from closedform import tasks
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, get
from closedform.meta_training import (
    ESTIMATORS,
    OBJECTIVES,
    MetaTrainConfig,
    Problem,
    ProblemBatch,
    TruncatedBPTT,
    begin,
    meta_train,
)
from closedform.rules import load_rule

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
ROWS = 3


def _optimizer(name: str) -> LearnedOptimizer:
    if name in ("adam", "lamb"):
        return SymbolicOptimizer(load_rule(name))
    optimizer = get(name, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in optimizer.parameters():
            parameter += 0.1
    return optimizer


def _estimates(name: str, estimator_name: str, device: str, rows: int | None) -> list[torch.Tensor]:
    """Gradients and losses of two windows."""
    optimizer, estimator = _optimizer(name).to(device), ESTIMATORS[estimator_name](unroll=3)
    task = tasks.get("mlp-digits", hidden=(4,), batch_size=8).to(device, torch.float64)
    generators = tuple(torch.Generator().manual_seed(row) for row in range(rows or 1))
    problem = ProblemBatch(task) if rows else Problem(task)
    carry = estimator.start(optimizer, begin(optimizer, problem, generators if rows else generators[0]))
    found: list[torch.Tensor] = []
    for _ in range(2):
        estimate = estimator.estimate(optimizer, problem, carry, 3, OBJECTIVES["mean"])
        found += [*estimate.gradients, estimate.losses]
        carry = estimate.carry
    return [value.cpu() for value in found]


@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("name", ["rp-s", "mlp", "adam", "lamb"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_as_on_the_cpu(estimator: str, name: str, rows: int | None) -> None:
    here, there = (_estimates(name, estimator, device, rows) for device in ("cpu", "cuda"))
    for mine, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("estimator", [*ESTIMATORS, "subset"])
def test_trains_and_resumes(estimator: str, tmp_path: Path) -> None:
    made = TruncatedBPTT(6, coordinates=3) if estimator == "subset" else ESTIMATORS[estimator](unroll=6)
    config = MetaTrainConfig(steps=8, horizon=20, batch=2, side_by_side=2, validate_every=4, random_scaling=0.5)
    task = tasks.get("mlp-digits", hidden=(4,)).to("cuda")

    def train(**options: object) -> list[dict]:
        optimizer = get("rp-s", generator=torch.Generator().manual_seed(0)).to("cuda")
        return meta_train(optimizer, [task], estimator=made, config=config, out=tmp_path, **options).history

    whole = train()
    assert whole[-1]["meta_loss"] is not None
    assert train(resume=True) == whole
