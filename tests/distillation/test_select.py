"""Choosing by what a rule does, with rules planted whose R^2 says the opposite."""

from __future__ import annotations

import json

import pytest

from closedform.distillation import Entry, HallOfFame, Selection, select_closed_loop
from closedform.distillation import select as select_rule
from closedform.errors import DistillationError, DivergenceError, OptionError, UnknownNameError
from closedform.rules import Rule


def entry(update: str, error: float, complexity: int, **rule: object) -> Entry:
    whole = Rule.parse("planted", update, **rule)
    return Entry(whole, update, error, error, complexity, whole.state_cost, "planted")


GOOD, SLOW, SAME = entry("-0.02*g", 0.03, 5), entry("-0.0001*g", 0.02, 4), entry("-0.02*g + 0*w", 0.02, 9)
DIVERGES = entry("0.02*g*(1 + g*g)", 0.0001, 12)


def select(*entries: Entry, **options: object) -> Selection:
    return select_closed_loop(HallOfFame(entries), ["quadratic"], **{"length": 60, "seeds": 2, **options})


def test_the_most_faithful_rule_is_rejected_where_it_diverges() -> None:
    hall = (GOOD, SLOW, DIVERGES)
    assert HallOfFame(hall).best is DIVERGES
    found = select(*hall)
    assert found.entry is GOOD
    trials = {trial.entry.equation: trial for trial in found.trials}
    assert trials[DIVERGES.equation].rejected.startswith(("diverges on quadratic", "explodes on quadratic"))
    assert trials[DIVERGES.equation].losses == {"quadratic": None}
    assert trials[SLOW.equation].score > trials[GOOD.equation].score


def test_the_reason_is_in_the_rules_provenance() -> None:
    found = select(GOOD, SLOW, DIVERGES)
    rule = Rule.from_json(found.rule.to_json())
    chosen = rule.provenance["chosen"]
    assert rule.program == GOOD.rule.program
    assert chosen["by"] == "closed-loop training loss"
    assert [candidate["r2"] for candidate in chosen["candidates"]] == [0.9999, 0.98, 0.97]
    assert chosen["candidates"][0]["rejected"]
    assert chosen["candidates"][2]["losses"]["quadratic"] == pytest.approx(chosen["candidates"][2]["score"], rel=1e-6)
    assert "trains best" in chosen["reason"]
    assert chosen["reason"].endswith("1 diverged or exploded")
    json.dumps(chosen, allow_nan=False)


def test_an_unseen_task_may_decide() -> None:
    """Good on the one, too fast for the other: rejected for it."""
    fast = entry("-2.5*g", 0.01, 5)
    seen = select_closed_loop(HallOfFame((GOOD, fast)), ["logistic-digits"], length=60)
    assert seen.entry is fast
    both = select_closed_loop(HallOfFame((GOOD, fast)), ["logistic-digits"], unseen=["quadratic"], length=60)
    assert both.entry is GOOD
    assert "quadratic (unseen)" in both.reason


def test_of_two_that_train_alike_the_smaller_one_is_taken() -> None:
    assert select(SAME, GOOD).entry is GOOD


def test_only_the_best_few_are_tried_and_the_usual_choice_always() -> None:
    usual = entry("-0.02*g + 0*g", 0.00011, 6)  # what six more nodes would win is not worth them
    hall = HallOfFame((GOOD, SLOW, usual, DIVERGES))
    assert hall.choose() is usual
    found = select(*hall.entries, top=1)
    assert [trial.entry for trial in found.trials] == [DIVERGES, usual]
    assert found.entry is usual


def test_where_nothing_trains_it_says_so() -> None:
    with pytest.raises(DivergenceError, match="none of the 1 most faithful equations trains: the first one"):
        select(DIVERGES)


def test_progress_and_the_same_seed() -> None:
    seen: list[tuple[int, int, str]] = []
    first = select(GOOD, SLOW, progress=lambda *at: seen.append(at))
    assert [at[:2] for at in seen] == [(1, 2), (2, 2)]
    again, other = select(GOOD, SLOW), select(GOOD, SLOW, first_seed=5)
    assert [trial.losses for trial in again.trials] == [trial.losses for trial in first.trials]
    assert [trial.losses for trial in other.trials] != [trial.losses for trial in first.trials]


def test_bad_input() -> None:
    for options in ({"top": 0}, {"seeds": 0}, {"length": 0}):
        with pytest.raises(OptionError, match=next(iter(options))):
            select(GOOD, **options)
    with pytest.raises(OptionError, match="tasks"):
        select_closed_loop(HallOfFame((GOOD,)), [])
    with pytest.raises(UnknownNameError, match="did you mean"):
        select(GOOD, unseen=["quadratics"])
    with pytest.raises(DistillationError, match="empty"):
        select()


def test_without_tasks_it_is_the_halls_own_choice() -> None:
    hall = HallOfFame((GOOD, SLOW))
    found = select_rule(hall)
    assert found.entry is hall.choose()
    assert found.rule == found.entry.rule
    assert not found.trials
    assert "shortest description" in found.reason


def test_closed_loop_is_select_with_tasks() -> None:
    hall = HallOfFame((GOOD, SLOW))
    tried = select_rule(hall, ["quadratic"], length=60, seeds=2)
    assert tried == select_closed_loop(hall, ["quadratic"], length=60, seeds=2)
    assert tried.trials
