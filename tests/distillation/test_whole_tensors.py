"""Optimizers that look at whole tensors: reductions over recorded ones, and designs that need them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytorch_optimizer
import torch
from typer.testing import CliRunner

import closedform as cf
from closedform.cli import app
from closedform.distillation.problem import Episodes
from closedform.lang import initial_memory, parse, step
from closedform.trajectories import MOST_COORDINATES, Trajectories

SHAPES = ((3, 4), (5,), (2, 2))


@pytest.fixture(scope="module")
def whole() -> Trajectories:
    return cf.record("lamb", "logistic-digits", features=("g", "w"), coordinates=MOST_COORDINATES, steps=5, episodes=2)


@pytest.mark.parametrize("name", ["lamb", "sgd"])
def test_a_program_over_tensors_is_the_interpreters(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    given = [[torch.randn(7, *shape, generator=generator, dtype=torch.float64) for _ in "gw"] for shape in SHAPES]
    tensors = torch.cat([torch.full((shape.numel(),), k) for k, shape in enumerate(map(torch.Size, SHAPES))])
    dimensions = torch.tensor([len(SHAPES[k]) for k in tensors])
    program = cf.load_rule(name).program
    flat = [torch.cat([pair[k].flatten(1) for pair in given], dim=1) for k in range(2)]
    found = Episodes(*flat, 7, tensors, dimensions).run(program)["update"]
    parts = []
    for gradients, weights in given:
        memory = initial_memory(program, gradients[0])
        rows = []
        for t in range(7):
            inputs = {"g": gradients[t], "w": weights[t], "t": torch.tensor(t + 1.0, dtype=torch.float64)}
            outputs, memory = step(program, inputs, memory)
            rows.append(outputs["update"].flatten())
        parts.append(torch.stack(rows))
    assert torch.allclose(found, torch.cat(parts, dim=1), rtol=1e-12, atol=1e-14)


def test_a_reduction_inside_a_knot_of_states_is_over_its_tensor() -> None:
    rule = cf.Rule.parse(
        "knot", "-a*b", state={"a": "0.5*prev(b) + norm(prev(a)) + g", "b": "0.5*prev(a) + mean(prev(b)) + w"}
    )
    g, w = torch.ones(2, 3, dtype=torch.float64), torch.arange(6.0, dtype=torch.float64).view(2, 3)
    found = Episodes(g, w, 2, torch.tensor([0, 0, 1])).run(rule.program)["update"]
    a, b = torch.ones(3, dtype=torch.float64), w[0]
    norms = torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64).sqrt()
    means = torch.tensor([0.5, 0.5, 2.0], dtype=torch.float64)
    assert torch.allclose(found[0], -a * b)
    assert torch.allclose(found[1], -(0.5 * b + norms + 1) * (0.5 * a + means + w[1]))


def test_a_recording_says_whether_its_tensors_are_whole(whole: Trajectories) -> None:
    assert whole.whole_tensors
    assert not cf.record("sgd", "logistic-digits", features=("g",), steps=3, episodes=1).whole_tensors
    assert not replace(whole, provenance={}).whole_tensors
    assert not replace(whole, provenance={"layers": [{"shape": "ab"}, {"shape": [3, None]}]}).whole_tensors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "pytorch_optimizer:LARS",
            "of the gradient in units of the parameters' norm, but for vectors (LARS)",
        ),
        ("pytorch_optimizer:NovoGrad", "divided by the root of an average of the tensor's squared norm (NovoGrad)"),
        ("lamb", "Adam, in units of the parameters' norm (LAMB), with decoupled weight decay"),
    ],
)
def test_what_looks_at_whole_tensors_is_recovered(name: str, words: str) -> None:
    options = {"features": ("g", "w"), "coordinates": MOST_COORDINATES, "steps": 120, "episodes": 3}
    entry = cf.distill(cf.record(name, "mlp-digits", **options), time_limit=60).choose()
    assert entry.error < 1e-12
    assert words in entry.rule.provenance["design"]
    parameter = torch.nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    theirs = torch.nn.Parameter(parameter.detach().clone())
    package, _, label = name.rpartition(":")
    other = getattr(pytorch_optimizer, label)([theirs]) if package else cf.RuleOptimizer([theirs], name)
    mine = cf.RuleOptimizer([parameter], entry.rule)
    for k in range(10):
        parameter.grad = torch.sin(torch.arange(12.0, dtype=torch.float64) * (k + 1)).view(4, 3)
        theirs.grad = parameter.grad.clone()
        mine.step()
        other.step()
    assert torch.allclose(parameter, theirs, rtol=1e-5, atol=1e-9)


def test_a_reduced_value_keeps_its_name_in_the_equation(whole: Trajectories) -> None:
    entry = cf.distill(whole, time_limit=0).choose()  # the quick stages know no tensors
    assert "norm" not in entry.equation
    assert parse(entry.equation)


def test_the_command_follows_every_parameter_of_one_task(tmp_path) -> None:
    runner, out = CliRunner(), str(tmp_path / "r.safetensors")
    short = ["--steps", "3", "--episodes", "1", "--out", out]
    done = runner.invoke(app, ["record", "pytorch_optimizer:Lamb", "--task", "logistic-digits", *short])
    assert done.exit_code == 0
    assert "--whole records what distilling that needs" in done.output
    done = runner.invoke(app, ["record", "pytorch_optimizer:Lamb", "--task", "logistic-digits", "--whole", *short])
    assert "note:" not in done.output
    assert cf.Trajectories.load(out).whole_tensors
    done = runner.invoke(app, ["record", "sgd", "--task", "mlp-digits", "--task", "logistic-digits", "--whole", *short])
    assert done.exit_code == 2
    assert "name a single --task" in done.output
