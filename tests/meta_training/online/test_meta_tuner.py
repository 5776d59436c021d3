"""The online tuner against finite differences of whole runs, closed forms, and runs that were interrupted."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import closedform as cf
from closedform.errors import CheckpointError, ClosedFormError, DivergenceError, OptionError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule, library_names, load_rule

STEPS = 12
ELEMENTWISE = [name for name in library_names() if SymbolicOptimizer(load_rule(name)).coordinatewise]


def slopes() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))] for _ in range(STEPS)
    ]


def linear_run(rule: Rule, after: Callable[[cf.RuleOptimizer], Any] = lambda optimizer: optimizer) -> tuple[float, Any]:
    """Minimise <g_t, w> with other g_t at every step, a schedule and weight decay; the sum of the losses."""
    generator = torch.Generator().manual_seed(4)
    params = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))]
    leaves = [nn.Parameter(param) for param in params]
    optimizer = cf.RuleOptimizer(leaves, rule, lr=0.1, weight_decay=0.2, total_steps=STEPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * STEPS)
    stepper, total = after(optimizer), 0.0
    for row in slopes():
        for leaf, slope in zip(leaves, row, strict=True):
            leaf.grad = slope.clone()
            total += float((leaf.detach() * slope).sum())
        stepper.step()
        schedule.step()
    return total, stepper


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_hypergradients_are_finite_differences_of_the_whole_run(name: str) -> None:
    rule = load_rule(name)
    _, tuner = linear_run(rule, lambda optimizer: cf.MetaTuner(optimizer, rate=0.0, memory=None, every=STEPS))
    part, found = tuner._parts[0], []
    for place in range(len(part.constants.names)):
        losses = []
        for sign in (1, -1):
            part.constants.symbolic.coordinates.data.zero_()[place] = sign * 1e-5
            moved = part.constants.symbolic.rule()
            scaled = lambda optimizer, factor=moved.lr: Scaled(optimizer, factor)  # noqa: E731
            losses.append(linear_run(moved, scaled)[0])
        found.append((losses[0] - losses[1]) / 2e-5)
    expected = torch.tensor(found, dtype=torch.float64)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(part.hypergradient, expected, rtol=1e-5, atol=1e-6)


class Scaled:
    """An optimizer whose scheduled learning rate is multiplied by a factor."""

    def __init__(self, optimizer: cf.RuleOptimizer, factor: float) -> None:
        self.optimizer, self.factor = optimizer, factor

    def step(self) -> None:
        [group] = self.optimizer.param_groups
        group["lr"] *= self.factor
        self.optimizer.step()
        group["lr"] /= self.factor


# ---------------------------------------------------------------------------------------------------- training loops


class Loop:
    """A small regression, trained with a tuner, that can stop and go on."""

    def __init__(self, rule: str = "adam", **options: Any) -> None:
        generator = torch.Generator().manual_seed(7)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        for param in self.model.parameters():
            param.data = 0.3 * torch.randn(param.shape, generator=generator, dtype=torch.float64)
        self.inputs = torch.randn(64, 8, generator=generator, dtype=torch.float64)
        self.labels = self.inputs[:, :1] * self.inputs[:, 1:2]
        self.optimizer = cf.RuleOptimizer(self.model.parameters(), rule)
        self.tuner = cf.MetaTuner(self.optimizer, **options)

    def loss(self) -> Tensor:
        return (self.model(self.inputs) - self.labels).square().mean()

    def run(self, steps: int) -> float:
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            self.tuner.step()
        return float(self.loss().detach())


@pytest.mark.parametrize("options", [{}, {"coordinates": 50}, {"trainable": ["lr"]}, {"rule": "muon"}])
@pytest.mark.parametrize("stop", [20, 23])
def test_a_run_that_goes_on_from_a_file_is_the_run_that_never_stopped(options: dict[str, Any], stop: int) -> None:
    if "rule" in options:
        options = {**options, "trainable": ["lr"]}
    whole, first, second = Loop(**options), Loop(**options), Loop(**options)
    whole.run(stop + 30)
    first.run(stop)
    file = io.BytesIO()
    torch.save({"model": first.model.state_dict(), "tuner": first.tuner.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second.model.load_state_dict(saved["model"])
    second.tuner.load_state_dict(saved["tuner"])
    second.run(30)
    assert whole.tuner.constants == second.tuner.constants
    for one, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_rate_that_is_far_too_small_grows_and_training_profits() -> None:
    plain = Loop(rate=0.0).run(300)
    tuned = Loop()
    assert tuned.run(300) < 0.5 * plain
    assert tuned.tuner.constants["lr"] > 3e-3


def test_rate_0_changes_nothing() -> None:
    loop, alone = Loop(rate=0.0), Loop(rate=0.0)
    alone.tuner = alone.optimizer  # type: ignore[assignment]
    assert loop.run(40) == alone.run(40)
    assert loop.tuner.hypergradients["lr"] < 0  # as it is far too small


def test_schedulers_never_see_the_factor() -> None:
    loop = Loop()
    schedule = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 0.5**step)
    for step in range(1, 31):
        loop.run(1)
        schedule.step()
        [group] = loop.optimizer.param_groups
        assert group["lr"] == pytest.approx(1e-3 * 0.5**step)


def test_the_rule_as_tuned_is_a_rule_that_trains() -> None:
    loop = Loop()
    loop.run(50)
    rule = loop.tuner.rule
    assert rule.lr == loop.tuner.constants["lr"] != 1e-3
    assert rule.constants["beta1"] == loop.tuner.constants["beta1"] != 0.9
    assert Rule.from_json(rule.to_json()) == rule


def test_rails_keep_constants_within_bounds_and_pace() -> None:
    loop = Loop(rate=10.0, limit=2.0, every=5)
    before = 1e-3
    for _ in range(20):
        loop.run(5)
        now = loop.tuner.constants["lr"]
        assert abs(math.log(now / before)) <= math.log(2) * 5 / 100 + math.log(2) + 1e-9  # the brake comes on top
        before = now


def test_a_closure_is_called_once_and_its_loss_returned() -> None:
    loop, calls = Loop(), []

    def closure() -> float:
        loop.optimizer.zero_grad()
        loss = loop.loss()
        loss.backward()
        calls.append(float(loss))
        return float(loss)

    assert loop.tuner.step(closure) == calls[0]
    assert len(calls) == 1


# --------------------------------------------------------------------------------------------------------- bad input


def test_a_loss_that_is_nan_leaves_everything_as_it_was() -> None:
    loop = Loop()
    loop.run(15)
    before = [param.clone() for param in loop.model.parameters()]
    (loop.loss() * math.nan).backward()
    with pytest.raises(DivergenceError, match="NaN or infinite"):
        loop.tuner.step()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.model.parameters(), strict=True))
    assert loop.run(5) < math.inf


def test_a_step_without_gradients_says_what_to_do() -> None:
    loop = Loop()
    with pytest.raises(OptionError, match=r"call loss\.backward\(\) before tuner\.step\(\)"):
        loop.tuner.step()


def test_other_optimizers_are_refused() -> None:
    with pytest.raises(OptionError, match="RuleOptimizer, and Adam is none"):
        cf.MetaTuner(torch.optim.Adam([nn.Parameter(torch.ones(2))]))  # type: ignore[arg-type]


def test_rules_that_look_at_whole_tensors_are_tuned_by_their_rate_alone() -> None:
    with pytest.raises(OptionError, match=r'trainable=\["lr"\]'):
        Loop("muon")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every": 0}, "every"),
        ({"coordinates": 0}, "coordinates"),
        ({"limit": 1.0}, "limit"),
        ({"memory": 0.5}, "memory"),
        ({"spread": 0.0}, "spread"),
        ({"rate": -1.0}, "rate"),
        ({"speed": 1}, "speed"),
        ({"sampling": "random"}, "sampling"),
        ({"trainable": ["beta3"]}, "beta3"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ClosedFormError, match=text):
        Loop(**options)


def test_a_checkpoint_of_another_optimizer_is_refused_and_nothing_changed() -> None:
    loop = Loop()
    loop.run(20)
    before = loop.tuner.constants
    other = Loop("sgd")
    other.run(20)
    lone = Loop(trainable=["lr"])
    lone.run(20)
    damaged = {key: value for key, value in loop.tuner.state_dict().items() if key != "generator"}
    for saved in (other.tuner.state_dict(), lone.tuner.state_dict(), damaged, {}, None):
        with pytest.raises(CheckpointError, match="of another optimizer"):
            loop.tuner.load_state_dict(saved)  # type: ignore[arg-type]
    assert loop.tuner.constants == before
