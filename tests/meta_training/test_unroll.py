"""The unroll loop and the flattening of parameters."""

from __future__ import annotations

import torch

from closedform import tasks
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.meta_training import FlatParams, Problem, begin, run, steps
from closedform.rules import Rule, load_rule


def test_flatten_round_trip(generator: torch.Generator) -> None:
    flat = FlatParams({"a": (2, 3), "b": (), "c": (4,)})
    params = {name: torch.randn(shape, generator=generator) for name, shape in flat.shapes.items()}
    w = flat.flatten(dict(reversed(params.items())))
    assert flat.sizes == (6, 1, 4)
    assert torch.equal(w[:6], params["a"].reshape(-1))
    back = flat.unflatten(w)
    assert list(back) == ["a", "b", "c"]
    assert all(torch.equal(back[name], params[name]) for name in params)
    assert back["a"].data_ptr() == w.data_ptr()


def test_runs_torch_sgd_on_digits() -> None:
    """The loop draws what the documented order draws, and moves as torch.optim.SGD does."""
    task = tasks.get("mlp-digits")
    sgd = load_rule("sgd")
    optimizer = SymbolicOptimizer(Rule(sgd.name, sgd.program, 0.5))
    problem = Problem(task, "train")
    losses, carry = run(optimizer, problem, begin(optimizer, problem, torch.Generator().manual_seed(4)), 15)
    generator = torch.Generator().manual_seed(4)
    params = {name: torch.nn.Parameter(value) for name, value in task.init(generator).items()}
    theirs, reference = torch.optim.SGD(params.values(), lr=0.5), []
    for _ in range(16):
        theirs.zero_grad()
        loss = task.loss(params, task.batch("train", generator))
        loss.backward()
        reference.append(loss.item())
        theirs.step()
    torch.testing.assert_close(losses, torch.tensor(reference[1:]), rtol=1e-4, atol=1e-6)
    assert carry.step == 15
    assert carry.initial.item() == reference[0]


def test_steps_tell_what_was_read_and_written() -> None:
    optimizer, problem = SymbolicOptimizer(load_rule("adam")), Problem(tasks.get("quadratic"))
    carry = begin(optimizer, problem, torch.Generator().manual_seed(0))
    previous = carry
    for step in steps(optimizer, problem, carry, 4):
        assert step.before is previous
        expected, _ = optimizer.update(step.before.gradient, step.before.w, step.before.state)
        torch.testing.assert_close(step.update, expected)
        torch.testing.assert_close(step.after.w, step.before.w + expected)
        previous = step.after
    assert previous.step == 4


def test_no_steps() -> None:
    optimizer, problem = SymbolicOptimizer(load_rule("sgd")), Problem(tasks.get("rosenbrock"))
    carry = begin(optimizer, problem, torch.Generator())
    losses, after = run(optimizer, problem, carry, 0)
    assert losses.shape == (0,)
    assert after is carry
