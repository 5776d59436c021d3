"""Imitation: its gradient, its share, and that a network learns to do what a rule does."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from bowl import CURVATURES, Bowl, GradientDescent
from torch import Tensor

from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, get
from closedform.meta_training import (
    PES,
    AntitheticES,
    Carry,
    Estimate,
    Estimator,
    ForwardAccumulation,
    Imitation,
    MetaTrainConfig,
    Problem,
    ProblemBatch,
    TruncatedBPTT,
    begin,
    meta_train,
    steps,
)
from closedform.meta_training._objectives import OBJECTIVES
from closedform.meta_training.estimators import _window
from closedform.meta_training.estimators._window import Subset
from closedform.optim import RuleOptimizer
from closedform.rules import Rule, load_rule

T, ROWS = 6, 2
MOMENTUM = load_rule("momentum")
BPTT = TruncatedBPTT(T)


def _network() -> LearnedOptimizer:
    optimizer = get("rp-s", generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in optimizer.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    return optimizer


def _problem(rows: int | None) -> Problem | ProblemBatch:
    task = tasks.get("quadratic", dim=4).to(dtype=torch.float64)
    return Problem(task) if rows is None else ProblemBatch(task)


def _start(optimizer: LearnedOptimizer, problem: Problem | ProblemBatch) -> Carry:
    generators = tuple(torch.Generator().manual_seed(row) for row in range(ROWS))
    return begin(optimizer, problem, generators if isinstance(problem, ProblemBatch) else generators[0])


def _windows(estimator: Estimator, optimizer: LearnedOptimizer, rows: int | None, count: int = 1) -> list[Estimate]:
    """So many windows of an episode, one after another."""
    problem, found = _problem(rows), []
    carry = estimator.start(optimizer, _start(optimizer, problem))
    for _ in range(count):
        found.append(estimator.estimate(optimizer, problem, carry, T, OBJECTIVES["mean"]))
        carry = found[-1].carry
    return found


def test_gradient_is_the_closed_form() -> None:
    """Student -c g on a bowl, where g_s = h (1 - c h)^s w_0; teacher -lr m with m_s = sum_r beta^(s-r) g_r."""
    c, beta, lr = torch.tensor(0.13, dtype=torch.float64, requires_grad=True), 0.9, 0.01
    h, w0 = torch.tensor(CURVATURES, dtype=torch.float64), 1 + torch.arange(4, dtype=torch.float64)
    g = torch.stack([h * (1 - 0.13 * h) ** s * w0 for s in range(T)])
    m = torch.stack([sum(beta ** (s - r) * g[r] for r in range(s + 1)) for s in range(T)])
    error = (lr * m - c * g).square().mean() / (lr * m).square().mean()
    (expected,) = torch.autograd.grad(error, c)
    optimizer, problem = GradientDescent(0.13), Problem(Bowl())
    carry = begin(optimizer, problem, torch.Generator())
    estimate = Imitation(BPTT, MOMENTUM).estimate(optimizer, problem, carry, T, OBJECTIVES["mean"])
    assert estimate.value.item() == pytest.approx(error.item(), rel=1e-12)
    assert abs(expected.item()) > 1
    assert estimate.gradients[0].item() == pytest.approx(expected.sign().item())  # shortened to norm 1


def _relative_error(optimizer: LearnedOptimizer, seen: list[Carry], state: dict, targets: list[Tensor]) -> Tensor:
    """Of the updates on inputs that stay as they are."""
    updates = []
    for carry in seen:
        update, state = optimizer.update(carry.gradient.reshape(-1), carry.w.reshape(-1), state)
        updates.append(update.reshape(carry.w.shape))
    squares, sizes = (torch.stack(updates) - torch.stack(targets)).square(), torch.stack(targets).square()
    return (squares.mean((0, -1)) / sizes.mean((0, -1))).mean()


@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("teacher", ["adam", "lamb"])
def test_gradient_by_finite_differences_and_teacher_by_rule_optimizer(teacher: str, rows: int | None) -> None:
    """In the second window, so that the teacher's state and the student's come from the first."""
    rule, optimizer, problem = load_rule(teacher), _network(), _problem(rows)
    window = list(steps(optimizer, problem, _start(optimizer, problem), 2 * T))
    seen = [step.before.detached() for step in window]
    parameters = [torch.nn.Parameter(w.clone()) for w in seen[0].w.reshape(rows or 1, -1)]
    teaching = RuleOptimizer(parameters, rule, backend="reference")
    targets = []
    for carry in seen:
        for parameter, w, g in zip(
            parameters, carry.w.view(rows or 1, -1), carry.gradient.view(rows or 1, -1), strict=True
        ):
            parameter.data, parameter.grad = w.clone(), g.clone()
        teaching.step()
        targets.append(torch.stack([one.detach() for one in parameters]).reshape(carry.w.shape) - carry.w)
    fixed = (seen[T:], seen[T].state, targets[T:])
    found = _windows(Imitation(BPTT, rule), optimizer, rows, 2)[1]
    torch.testing.assert_close(found.value, _relative_error(optimizer, *fixed), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.carry.w, window[-1].after.w)
    differences = []
    with torch.no_grad():
        for parameter in optimizer.parameters():
            weights = parameter.view(-1)
            for index in range(0, len(weights), 7):
                values = []
                for move in (1e-6, -2e-6):
                    weights[index] += move
                    values.append(_relative_error(optimizer, *fixed))
                weights[index] += 1e-6
                differences.append((values[0] - values[1]) / 2e-6)
    ours = torch.cat([gradient.reshape(-1)[::7] for gradient in found.gradients])
    scale = ours.dot(torch.stack(differences)) / ours.dot(ours)  # what it was shortened by
    torch.testing.assert_close(scale * ours, torch.stack(differences), rtol=1e-5, atol=1e-7 * float(scale))
    assert torch.cat([gradient.reshape(-1) for gradient in found.gradients]).norm() == pytest.approx(1)


@pytest.mark.parametrize("rows", [None, ROWS])
def test_subsets_of_coordinates_average_to_the_whole(rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("closedform.meta_training.estimators._imitation._clipped", tuple)
    optimizer = _network()
    whole = _windows(Imitation(BPTT, MOMENTUM), optimizer, rows)[0]
    pairs = [torch.tensor(pair) for pair in itertools.combinations(range(4), 2)]
    choices = pairs if rows is None else [torch.stack([a, b + 4]) for a in pairs for b in pairs]
    parts = []
    for places in choices:
        monkeypatch.setattr(_window, "draw_subset", lambda *_, places=places: Subset(places, 2.0))
        parts.append(_windows(Imitation(BPTT, MOMENTUM, coordinates=2), optimizer, rows)[0])
        torch.testing.assert_close(parts[-1].losses, whole.losses)
    torch.testing.assert_close(sum(part.value for part in parts) / len(parts), whole.value)
    for index, exact in enumerate(whole.gradients):
        mean = sum(part.gradients[index] for part in parts) / len(parts)
        torch.testing.assert_close(mean, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("base", "coordinates"),
    [
        (BPTT, None),
        (TruncatedBPTT(T, coordinates=2), 2),
        (TruncatedBPTT(T, coordinates=2), None),
        (TruncatedBPTT(T, second_order=True), None),
        (AntitheticES(T), 3),
        (ForwardAccumulation(T), None),
    ],
)
def test_a_share_mixes_both_gradients_on_the_same_batches(base: Estimator, coordinates: int | None) -> None:
    optimizer = _network()
    for first, second, mixed in zip(
        _windows(Imitation(base, MOMENTUM, coordinates=coordinates), optimizer, ROWS, 2),
        _windows(base, optimizer, ROWS, 2),
        _windows(Imitation(base, MOMENTUM, weight=0.25, coordinates=coordinates), optimizer, ROWS, 2),
        strict=True,
    ):
        torch.testing.assert_close(mixed.losses, second.losses)
        torch.testing.assert_close(mixed.losses, first.losses)
        torch.testing.assert_close(mixed.carry.w, second.carry.w)
        assert {"teacher.t", "teacher.rule.m"} <= mixed.carry.memory.keys() - second.carry.memory.keys()
        norm = max(1.0, float(torch.cat([gradient.reshape(-1) for gradient in second.gradients]).norm()))
        for ours, imitated, own in zip(mixed.gradients, first.gradients, second.gradients, strict=True):
            torch.testing.assert_close(ours, 0.25 * imitated + 0.75 * own / norm)
        torch.testing.assert_close(mixed.value, 0.25 * first.value + 0.75 * second.value)


def test_the_share_falls_to_nothing() -> None:
    imitation = Imitation(BPTT, MOMENTUM, weight=0.8, until=10)
    assert [imitation.at(step).weight for step in (0, 5, 9)] == pytest.approx([0.8, 0.4, 0.08])
    assert imitation.at(10) is imitation.at(1000) is BPTT
    for until in (None, 0):
        assert Imitation(BPTT, MOMENTUM, weight=0.8, until=until).at(1000).weight == 0.8
    ours = _windows(Imitation(BPTT, MOMENTUM, weight=0), _network(), None)[0]
    assert all(map(torch.equal, ours.gradients, _windows(BPTT, _network(), None)[0].gradients))


CONFIG = MetaTrainConfig(
    steps=12, lr=1e-3, horizon=15, batch=2, side_by_side=2, random_scaling=0.5, validate_every=5, checkpoint_every=4
)


class Stop(Exception):
    pass


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    def train(name: str, **options: object) -> tuple[list, list[Tensor]]:
        estimator = Imitation(TruncatedBPTT(T, coordinates=3), load_rule("adam"), until=9, coordinates=2)
        optimizer = get("rp-s", generator=torch.Generator().manual_seed(0))
        task = tasks.get("quadratic", dim=4)
        result = meta_train(optimizer, [task], estimator=estimator, config=CONFIG, out=tmp_path / name, **options)
        return result.history, list(optimizer.state_dict().values())

    def stop(record: dict) -> None:
        if record["step"] == 7:
            raise Stop

    whole, weights = train("whole")
    with pytest.raises(Stop):
        train("cut", on_record=stop)
    resumed, again = train("cut", resume=True)
    assert resumed == whole
    assert all(map(torch.equal, weights, again))


def test_a_network_learns_what_a_rule_does_on_digits() -> None:
    """The relative error, which is 1 of a network that stands still, falls below a tenth."""
    teacher = Rule.parse("direction", "-m/(sqrt(v) + 1e-8)", state={"m": "0.9*m + 0.1*g", "v": "0.9*v + 0.1*square(g)"})
    teacher = dataclasses.replace(teacher, lr=0.02)
    config = MetaTrainConfig(steps=100, lr=2e-2, warmup=5, horizon=100, side_by_side=2, validate_every=0)
    result = meta_train(
        get("rp-s", generator=torch.Generator().manual_seed(0)),
        [tasks.get("mlp-digits", hidden=(8,), batch_size=32)],
        estimator=Imitation(TruncatedBPTT(10), teacher, coordinates=64),
        config=config,
    )
    errors = [record["meta_loss"] for record in result.history]
    assert errors[0] == pytest.approx(1, abs=0.3)  # of random coordinates
    assert sum(errors[-10:]) / 10 < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("teacher", ["adam", "lamb"])
def test_on_a_gpu_as_on_the_cpu(teacher: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        optimizer, task = _network().to(device), tasks.get("quadratic", dim=4).to(device, torch.float64)
        estimator = Imitation(TruncatedBPTT(T, coordinates=2), load_rule(teacher), until=9, coordinates=2)
        result = meta_train(optimizer, [task], estimator=estimator, config=CONFIG)
        found.append([record["meta_loss"] for record in result.history[1:]])
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_what_makes_no_sense_is_refused() -> None:
    for weight in (1.5, -0.1, float("nan")):
        with pytest.raises(OptionError, match="weight must be"):
            Imitation(BPTT, MOMENTUM, weight=weight)
    with pytest.raises(OptionError, match="cannot be added to 'pes'"):
        Imitation(PES(), MOMENTUM)
    with pytest.raises(OptionError, match="coordinates needs"):
        Imitation(BPTT, MOMENTUM, coordinates=2).check(get("mlp"))
    with pytest.raises(OptionError, match="coordinates needs"):
        Imitation(TruncatedBPTT(T, coordinates=3), MOMENTUM).check(get("mlp"))
