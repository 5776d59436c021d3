"""Schedules against torch's own, and as part of what is tuned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from closedform import errors
from closedform.evaluation import SCHEDULES, Baseline, Evaluation, EvaluationOptions, evaluate
from closedform.evaluation._baselines import warm_up_steps
from closedform.evaluation._contenders import OptimizerRun
from closedform.rules import Rule, load_rule

SERIAL = EvaluationOptions(workers=1, tuning_seeds=2, tail=3, resamples=99)
SGD = load_rule("sgd")


def torchs(name: str, optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    if name == "constant":
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)
    rising = warm_up_steps(steps)
    start = lr_scheduler.LinearLR(optimizer, start_factor=1 / rising, total_iters=rising - 1)
    after: dict[str, Any] = {
        "warm-up": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, steps - rising),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps - rising),
    }
    return lr_scheduler.SequentialLR(optimizer, [start, after[name]()], milestones=[rising])


@pytest.mark.parametrize("steps", [40, 101, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_torch(name: str, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torchs(name, optimizer, steps)
    for done in range(steps):
        assert SCHEDULES[name](done, steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_short_episodes_have_factors_too(name: str, steps: int) -> None:
    factors = [SCHEDULES[name](done, steps) for done in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
    falling = factors[max(0, warm_up_steps(steps) - 1) :]
    assert falling == sorted(falling, reverse=True)


def test_a_run_moves_by_the_schedules_learning_rates() -> None:
    """Gradients of 1: SGD moves by minus the sum of the learning rates. Groups keep their own ratio."""

    def make(leaves: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": leaves[:1], "lr": 0.1}, {"params": leaves[1:], "lr": 0.3}])

    run = OptimizerRun(make, {"a": torch.zeros(2), "b": torch.zeros(3, 1)}, "cosine", 40)
    for _ in range(40):
        run.step({name: torch.ones_like(value) for name, value in run.params.items()})
    total = sum(SCHEDULES["cosine"](done, 40) for done in range(40))
    torch.testing.assert_close(run.params["a"].detach(), torch.full((2,), -0.1 * total))
    torch.testing.assert_close(run.params["b"].detach(), torch.full((3, 1), -0.3 * total))


def run(baseline: Baseline, task: Any, options: EvaluationOptions = SERIAL, **more: Any) -> Evaluation:
    return evaluate({"it": baseline}, [task], seeds=2, baselines=(), options=options, **more)


def test_the_schedule_is_tuned_with_the_learning_rate(noisy_bowl: Any) -> None:
    """Noisy gradients: annealing wins. Its grid is its own, and all trials are counted."""
    baseline = Baseline(SGD, "SGD", (0.5, 0.7, 1.0), schedules=("constant", "linear"), extensions=0)
    options = dataclasses.replace(SERIAL, tail=50)
    (entry,) = run(baseline, noisy_bowl, options, steps=200).entries
    assert entry.schedule == "linear"
    assert entry.tuning is not None
    assert [other.schedule for other in entry.tuning.others] == ["constant"]
    assert entry.tuning.losses[entry.tuning.lrs.index(entry.tuning.best)] < min(entry.tuning.others[0].losses)
    assert entry.trials == baseline.trials == 6
    assert entry.tuning.runs == 12
    (constant,) = run(dataclasses.replace(baseline, schedules=("constant",)), noisy_bowl, options, steps=200).entries
    assert entry.final_loss.mean < constant.final_loss.mean


def test_a_grid_that_keeps_to_its_budget_is_not_extended(bowl: Any) -> None:
    (entry,) = run(Baseline(SGD, lrs=(0.001, 0.01), extensions=0), bowl).entries
    assert entry.trials == 2
    assert entry.tuning is not None
    assert entry.tuning.at_edge


def test_one_setting_is_run_as_it_is(noisy_bowl: Any) -> None:
    (entry,) = run(Baseline(SGD, lrs=(0.25,), schedules=("cosine",)), noisy_bowl).entries
    assert (entry.lr, entry.schedule, entry.trials, entry.tuning) == (0.25, "cosine", 0, None)
    both = run(Baseline(SGD, lrs=(0.25, 0.5), schedules=("cosine",), extensions=0), noisy_bowl).entries[0]
    assert both.tuning is not None
    assert both.lr == 0.5 or both.final_loss.values == entry.final_loss.values


def test_results_with_schedules_survive_their_file(noisy_bowl: Any, tmp_path: Path) -> None:
    found = run(Baseline(SGD, lrs=(0.1, 0.3), schedules=("constant", "cosine"), extensions=0), noisy_bowl, out=tmp_path)
    assert Evaluation.load(tmp_path / "evaluation.json") == found


def test_finished_runs_are_told_apart_by_schedule(noisy_bowl: Any, tmp_path: Path) -> None:
    for schedule, fresh in (("constant", 2), ("cosine", 2), ("constant", 0)):
        before = len(noisy_bowl.seen)
        run(Baseline(SGD, lrs=(0.1,), schedules=(schedule,)), noisy_bowl, out=tmp_path)
        assert len(noisy_bowl.seen) == before + fresh * noisy_bowl.horizon


def test_baselines_by_name_take_the_options_schedules(bowl: Any) -> None:
    options = dataclasses.replace(SERIAL, schedules=("constant", "cosine"), tuning_seeds=1)
    (entry,) = evaluate({}, [bowl], seeds=1, baselines=["sgd"], options=options).entries
    assert entry.trials >= 26


def test_who_was_not_tuned_is_marked(bowl: Any) -> None:
    import io

    from rich.console import Console

    rule = dataclasses.replace(SGD, lr=0.1)
    others = {
        "mine": rule,
        "one": Baseline(SGD, "one", lrs=(0.1,)),
        "two": Baseline(SGD, "two", lrs=(0.1, 0.2), extensions=0),
    }
    found = evaluate(others, [bowl], seeds=1, baselines=(), options=SERIAL)
    console = Console(width=200, file=io.StringIO())
    console.print(found)
    text = console.file.getvalue()
    trials = {line.split("│")[1].strip(): line.split("│")[7].strip() for line in text.splitlines() if "│" in line}
    assert trials == {"mine": "untuned", "one": "as given", "two": "2"}


# -------------------------------------------------------------------------------------------------- torch optimizers


def test_a_torch_optimizer_does_what_the_rule_of_that_name_does(noisy_bowl: Any) -> None:
    rule = Baseline(load_rule("adam"), lrs=(0.1,), schedules=("cosine",))
    theirs = Baseline.from_torch(torch.optim.Adam, lrs=(0.1,), schedules=("cosine",), eps=1e-8)
    found = evaluate({"rule": rule, "torch": theirs}, [noisy_bowl], seeds=2, baselines=(), options=SERIAL)
    ours, torchs_ = found.entries
    assert torchs_.final_loss.values == pytest.approx(ours.final_loss.values, rel=1e-5)
    assert (torchs_.state_cost, torchs_.complexity, torchs_.label) == (2, None, "Adam")


def test_runs_of_torch_optimizers_are_kept_under_name_and_options(noisy_bowl: Any, tmp_path: Path) -> None:
    for options, fresh in (({}, 2), ({"momentum": 0.5}, 2), ({"momentum": 0.5}, 0)):
        before = len(noisy_bowl.seen)
        run(Baseline.from_torch(torch.optim.SGD, lrs=(0.1,), **options), noisy_bowl, out=tmp_path)
        assert len(noisy_bowl.seen) == before + fresh * noisy_bowl.horizon


def test_vectors_may_have_a_rule_of_their_own(bowl: Any) -> None:
    """The bowl's ``a`` is a vector, its ``b`` a matrix: one that stays, one that is solved in a step."""
    still = Rule.parse("still", "0*g")
    (entry,) = run(Baseline(SGD, lrs=(0.5,), vectors=SGD, vectors_lr=2.0), bowl).entries
    (stuck,) = run(Baseline(SGD, lrs=(1.0,), vectors=still), bowl).entries
    assert entry.final_loss.mean == pytest.approx(0, abs=1e-5)
    assert stuck.final_loss.mean > 0.01


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Baseline(SGD, schedules=("cosin",)), errors.UnknownNameError, "did you mean 'cosine'"),
        (lambda: Baseline(SGD, schedules=()), errors.OptionError, "one or more different names"),
        (lambda: Baseline(SGD, schedules=("linear", "linear")), errors.OptionError, "one or more different names"),
        (lambda: Baseline(SGD, lrs=()), errors.OptionError, "one or more increasing positive numbers"),
        (lambda: Baseline(SGD, lrs=(0.2, 0.1)), errors.OptionError, "one or more increasing positive numbers"),
        (lambda: Baseline.from_torch(lambda p, lr: torch.optim.SGD(p, lr)), errors.OptionError, "not .*<lambda>"),
        (lambda: EvaluationOptions(schedules=("step",)), errors.UnknownNameError, "unknown schedule 'step'"),
        (
            lambda: dataclasses.replace(Baseline.from_torch(torch.optim.SGD), weight_decay=0.1),
            errors.OptionError,
            "for rules alone",
        ),
    ],
)
def test_bad_baselines_are_refused_in_one_line(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        make()
    assert "\n" not in str(caught.value)
