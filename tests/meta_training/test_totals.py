"""Weights of tasks against each other, and sums over slots."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bowl import Bowl, GradientDescent

from closedform.errors import UnknownNameError
from closedform.meta_training import MetaTrainConfig, TruncatedBPTT
from closedform.meta_training._ranks import Ranks
from closedform.meta_training._totals import DECAY, GradientNorms
from closedform.meta_training._trainer import Trainer

CONFIG = MetaTrainConfig(batch=8, horizon=6, objective="mean", warmup=0, final_lr=1.0, lr=1e-9, clip=1e9)


class Steep(Bowl):
    """The same valley, a thousand times as steep."""

    def loss(self, params: dict, batch: tuple) -> torch.Tensor:
        return 1000 * super().loss(params, batch)


def _norms(config: MetaTrainConfig) -> list[float]:
    """Norms of the mean meta-gradients of four steps, with slots on both tasks."""
    trainer = Trainer(GradientDescent(1e-6), [Bowl(), Steep()], TruncatedBPTT(6), config)
    return [trainer.advance()["gradient_norm"] for _ in range(4)]


def test_running_means_fade() -> None:
    norms = GradientNorms(2, "gradient-norm")
    first = norms.weights(torch.tensor([[6.0, 3.0], [0.0, 0.0]], dtype=torch.float64))
    assert first[0].item() == pytest.approx(1 / 2)
    second = norms.weights(torch.tensor([[4.0, 1.0], [8.0, 1.0]], dtype=torch.float64))
    assert 1 / second[0].item() == pytest.approx((DECAY * 6 + 4) / (DECAY * 3 + 1))
    assert 1 / second[1].item() == pytest.approx(8)
    third = norms.weights(torch.tensor([[0.0, 0.0], [8.0, 1.0]], dtype=torch.float64))
    assert third[0] == second[0]
    plain = GradientNorms(2, "none").weights(torch.tensor([[6.0, 3.0], [0.0, 0.0]], dtype=torch.float64))
    assert plain.tolist() == [1, 1]


def test_no_task_drowns_the_others() -> None:
    """By the steep task alone the norm would be a million times the other's; divided by it, each counts as 1."""
    assert min(_norms(CONFIG)) > 1e5
    for norm in _norms(replace(CONFIG, normalise="gradient-norm")):
        assert norm == pytest.approx(1.0, rel=0.2)


def test_unknown_normalisation() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gradient-norm'"):
        MetaTrainConfig(normalise="gradient-norms")


def test_one_process_alone() -> None:
    ranks = Ranks.join(torch.device("cpu"))
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert list(ranks.share(3, "batch")) == [0, 1, 2]
    value = torch.ones(2)
    assert ranks.sum(value) is value
    assert ranks.from_first({"a": 1}) == {"a": 1}
