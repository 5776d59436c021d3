"""The benchmark's reference, released code's loop in plain torch, and truncated BPTT have the same meta-gradient."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from closedform import learned_optimizers, tasks
from closedform.meta_training import OBJECTIVES, Problem, TruncatedBPTT, begin

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("loop", ["ReleasedLoop", "OwnGradientLoop"])
def test_the_loop_as_released_has_our_meta_gradient(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    reference = importlib.import_module("unrolled_loop")
    monkeypatch.delitem(sys.modules, "unrolled_loop")
    task, network = tasks.get("mlp-digits"), learned_optimizers.get("rp", generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.output_weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    theirs = getattr(reference, loop)(network, task, seed=2)
    theirs.window(5)
    problem = Problem(task)
    carry = begin(network, problem, torch.Generator().manual_seed(2))
    estimate = TruncatedBPTT(5).estimate(network, problem, carry, 5, OBJECTIVES["mean"])
    ours = torch.cat([gradient.reshape(-1) for gradient in estimate.gradients])
    torch.testing.assert_close(ours, theirs.network.gradient_like(network), rtol=1e-4, atol=1e-5 * float(ours.norm()))
