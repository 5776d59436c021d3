"""Task distributions: the same draw from the same seed, every family trains, and changes of scale are exact."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import closedform as cf
from closedform import tasks
from closedform.errors import OptionError, UnknownNameError
from closedform.meta_training import Problem, ProblemBatch
from closedform.tasks.distribution import FAMILIES, DrawnTask, NoisyLabels, Reparametrised, ScaledStart

CHEAP: dict[str, Any] = {"data": ("digits",), "horizon": (20, 40), "width": (8, 12), "batch_size": (16, 24)}


def drawn(family: str, seed: int = 0, **options: Any) -> DrawnTask:
    return cf.TaskDistribution(families=(family,), **{**CHEAP, **options}).repeat(seed)


def gradient(task: tasks.Task, seed: int = 0) -> tuple[tasks.Params, torch.Tensor, tasks.Params]:
    generator = torch.Generator().manual_seed(seed)
    params = task.init(generator)
    return params, *task.loss_and_grad(params, task.batch("train", generator))


def test_a_draw_is_repeated_from_its_seed() -> None:
    distribution = cf.TaskDistribution(**CHEAP)
    first = distribution.draw(torch.Generator().manual_seed(3))
    again = cf.TaskDistribution(**CHEAP).repeat(first.seed)
    assert first.describe() == again.describe() == json.loads(json.dumps(first.describe()))
    (params, loss, grads), (params2, loss2, grads2) = gradient(first.task), gradient(again.task)
    assert torch.equal(loss, loss2)
    torch.testing.assert_close((params, grads), (params2, grads2), rtol=0, atol=0)


def test_draws_differ_and_cover_families_and_ranges() -> None:
    distribution = cf.TaskDistribution(data=("digits",), horizon=(50, 500), budget=2000)
    generator = torch.Generator().manual_seed(0)
    draws = [distribution.draw(generator) for _ in range(150)]
    assert {one.family for one in draws} == set(FAMILIES)
    assert len({one.seed for one in draws}) == len(draws)
    for one in draws:
        assert 50 <= one.horizon <= 500
        assert one.task.horizon == one.horizon
        assert one.horizon * one.step_cost <= 2000
        assert one.describe()["parameters"] == one.task.size
    assert {one.chosen["reparametrised"] for one in draws} == {"no", "by tensor", "as a whole"}
    assert {one.chosen["activation"] for one in draws if one.family == "mlp"} == {"relu", "tanh", "gelu", "silu"}
    assert {one.chosen["norm"] for one in draws if one.family == "mlp"} == {"none", "layer", "batch"}
    assert sum(one.chosen["small_start"] for one in draws) > 5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_family_trains(family: str, seed: int) -> None:
    """Adam lowers the loss of three optimizees that share task and batches, whatever their units."""
    task = drawn(family, seed, label_noise=0.0, reparametrise=0.0, reparametrise_all=0.0, small_start=0.0).task
    problem, generator = Problem(task), torch.Generator().manual_seed(1)
    w = torch.stack([problem.start(generator) for _ in range(3)])
    batch = task.full("train")
    before, _ = problem.evaluate(w, batch)
    m = v = torch.zeros_like(w)
    for step in range(1, 61):
        _, g = problem.evaluate(w, problem.draw(generator))
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g.square()
        w = w - 0.03 * (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    after, _ = problem.evaluate(w, batch)
    assert (after < 0.97 * before).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_side_by_side_is_one_by_one(family: str) -> None:
    task = drawn(family, 2, reparametrise=1.0, reparametrise_all=0.0, factors=(0.1, 10)).task.to(dtype=torch.float64)
    generators = tuple(torch.Generator().manual_seed(seed) for seed in (0, 1))
    together = ProblemBatch(task)
    w = together.start(generators)
    losses, gradients = together.loss_and_grad(w, generators)
    for k, seed in enumerate((0, 1)):
        generator, alone = torch.Generator().manual_seed(seed), Problem(task)
        loss, one = alone.loss_and_grad(alone.start(generator), generator)
        torch.testing.assert_close(losses[k], loss)
        torch.testing.assert_close(gradients[k], one)


@pytest.mark.parametrize("family", ["mlp", "vit", "regression", "factorisation", "quadratic"])
def test_reparametrisation_is_exact(family: str) -> None:
    """The loss at mapped parameters is the other's, and the gradient obeys the chain rule, by hand or by autograd."""
    inner = drawn(family, 1, reparametrise=0.0, reparametrise_all=0.0).task.to(dtype=torch.float64)
    factors = {name: 10.0 ** (index % 7 - 3) for index, name in enumerate(inner.shapes)}
    task = Reparametrised(inner, factors)
    assert task.by_hand == inner.by_hand
    batch = inner.batch("train", torch.Generator().manual_seed(0))
    start = inner.init(torch.Generator().manual_seed(5))
    params = task.init(torch.Generator().manual_seed(5))
    torch.testing.assert_close(params, {name: value / factors[name] for name, value in start.items()})
    loss, grads = task.loss_and_grad(params, batch)
    expected, inside = inner.loss_and_grad(start, batch)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grads, {name: factors[name] * value for name, value in inside.items()})
    assert task.metrics(params, batch)["loss"] == pytest.approx(float(expected))


def test_drawn_factors_spare_what_starts_at_zero() -> None:
    one = drawn("regression", 4, reparametrise=1.0, reparametrise_all=0.0)
    factors = one.chosen["factors"]
    assert set(factors) == {name for name in one.task.shapes if name.endswith("weight")}
    assert all(1e-3 <= factor <= 1e3 for factor in factors.values())


def test_one_factor_for_all_of_them() -> None:
    one = drawn("vit", 4, reparametrise=0.0, reparametrise_all=1.0)
    assert isinstance(one.task, Reparametrised)
    assert set(one.task.factors.values()) == {one.chosen["factor"]}


def test_a_start_of_another_size_keeps_vectors() -> None:
    inner = tasks.get("mlp-deep-digits")
    small = ScaledStart(inner, gain=3.0, std=0.01).init(torch.Generator().manual_seed(0))
    scaled = ScaledStart(inner, gain=3.0).init(torch.Generator().manual_seed(0))
    plain = inner.init(torch.Generator().manual_seed(0))
    assert float(small["layer1.weight"].std()) == pytest.approx(0.03, rel=0.1)
    torch.testing.assert_close(scaled["layer1.weight"], 3 * plain["layer1.weight"])
    assert torch.equal(scaled["layer1.bias"], plain["layer1.bias"])


def test_labels_are_drawn_at_random_in_the_share_asked_for() -> None:
    inner = tasks.get("mlp-digits", batch_size=20_000)
    noisy = NoisyLabels(inner, 10, 0.3)
    wrong = (
        (noisy.batch("train", torch.Generator().manual_seed(0))[1])
        != (inner.batch("train", torch.Generator().manual_seed(0))[1])
    )
    assert float(wrong.double().mean()) == pytest.approx(0.3 * 0.9, abs=0.01)
    assert torch.equal(noisy.full("train")[1], inner.full("train")[1])


def test_splits_of_diabetes_are_disjoint_and_standardised() -> None:
    task = drawn("diabetes").task
    parts = [task.full(split)[0] for split in tasks.SPLITS]
    assert [len(part) for part in parts] == [177, 177, 88]
    assert len(torch.unique(torch.cat(parts), dim=0)) == 442
    whole = torch.cat([torch.cat(task.full(split), dim=1) for split in tasks.SPLITS])
    torch.testing.assert_close(whole.mean(0), torch.zeros(11), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ()}, "at least one family"),
        ({"families": ("mlp",), "data": ()}, "needs images"),
        ({"horizon": (50, 10_000), "budget": 100}, "beyond the budget of 100 ms"),
        ({"horizon": (100, 50)}, "a low and a high end, in this order"),
        ({"horizon": 50}, "must be a pair"),
        ({"width": (0.5, 3)}, "whole number"),
        ({"reparametrise": 0.8, "reparametrise_all": 0.5}, "together at most 1"),
        ({"label_noise": 2}, "share"),
        ({"gain": 0.5}, "gain"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        cf.TaskDistribution(**{"data": ("digits",), **options})


def test_a_horizon_that_no_problem_can_afford_is_refused() -> None:
    distribution = cf.TaskDistribution(families=("gru",), horizon=(90, 100), budget=125, width=(64, 64))
    with pytest.raises(OptionError, match="beyond the budget of 125 ms"):
        distribution.repeat(0)


@pytest.mark.parametrize(("option", "hint"), [("families", "mlp"), ("data", "digits")])
def test_unknown_names_are_refused_with_the_nearest(option: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{hint}'"):
        cf.TaskDistribution(**{option: (hint[:-1],)})


@pytest.mark.parametrize("factors", [{"w": 0.0}, {"nothing": 2.0}])
def test_factors_that_make_no_sense_are_refused(factors: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Reparametrised(tasks.get("quadratic"), factors)


def test_tasks_are_the_draws_of_a_seed() -> None:
    distribution = cf.TaskDistribution(data=("digits",))
    found = distribution.tasks(4, seed=3)
    generator = torch.Generator().manual_seed(3)
    drawn = [distribution.draw(generator) for _ in range(4)]
    assert [(task.name, task.horizon, task.shapes) for task in found] == [
        (one.task.name, one.horizon, one.task.shapes) for one in drawn
    ]
    with pytest.raises(OptionError, match="count"):
        distribution.tasks(0)


def test_larger_tasks_are_larger_longer_and_in_natural_units() -> None:
    small = cf.TaskDistribution(data=("digits",), horizon=(50, 500), budget=500.0)
    large = small.larger()
    for one in large.one_of_each(seed=1):
        assert one.horizon >= 1000
        assert one.factors == {}
    assert len(large.one_of_each()) == len(set(large.families))
    assert large.width[0] >= small.width[1]
