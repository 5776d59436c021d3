"""What the pipeline tunes, and what it hands over, with rules planted whose R^2 or tuning says the opposite."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from closedform import tasks
from closedform.distillation import Entry, HallOfFame
from closedform.errors import DistillationError, OptionError, UnknownNameError
from closedform.evaluation import Verdict
from closedform.meta_training import EvolveConfig
from closedform.pipeline import ChooseConfig, RunConfig, Silent
from closedform.pipeline._choice import FIRST_SEED, Choice, Validated, choose
from closedform.pipeline._forms import DISTILLED, SCHEDULED, TUNED, Candidate, candidates
from closedform.pipeline._lead import lead
from closedform.pipeline._tuning import Tuned, tune_candidates
from closedform.rules import Rule

BRIEF = EvolveConfig(generations=2, population=4, tasks=1, episodes=2, validate_every=1)
QUICK = ChooseConfig(seeds=6, tuning_seeds=1, baselines=("momentum", "adam"))


def entry(update: str, error: float, complexity: int) -> Entry:
    return Entry(Rule.parse("planted", update), update, error, error, complexity, 0, "planted")


GOOD, DIVERGES = entry("-0.1*g", 0.1, 4), entry("1e9*g*g*g", 0.001, 9)


def small_task() -> tasks.Task:
    task = tasks.get("quadratic", dim=4)
    task.horizon = 30
    return task


def planted(update: str, tuned: str, folder: Path) -> Tuned:
    one = Candidate(entry(update, 0.1, 4), Rule.parse("planted", update))
    return Tuned(one, Rule.parse("planted", tuned), folder, 0.0)


def chosen(out: Path, *tuned: Tuned) -> Choice:
    return choose(tuned, small_task(), QUICK, out, resume=False)


def test_candidates_are_odd_and_are_the_faithful_one_and_small_ones() -> None:
    with_drift, even = entry("0.001 - 0.1*g - 0.01*g*w", 0.02, 7), entry("0.1*g*g", 0.01, 3)
    hall = HallOfFame((even, entry("-0.1*g", 0.3, 4), with_drift, DIVERGES))
    found = candidates(hall, (4, 8))
    assert [one.entry.complexity for one in found] == [9, 4, 7]
    assert found[2].distilled.to_json().count("0.001") == 0
    with pytest.raises(DistillationError, match="turns with the gradient"):
        candidates(HallOfFame((even,)), ())


def test_a_schedule_rises_and_comes_to_rest_and_takes_no_name_that_is_there() -> None:
    rule = Rule.parse("named", "-rise*g", constants={"rise": 0.3})
    found = Candidate(GOOD, rule).scheduled
    assert found.needs_total_steps
    assert found.constants == {"rise": 0.3, "rise2": 0.05, "fall": 1.0}
    assert found.state_cost == rule.state_cost


def test_the_one_that_trains_best_is_tuned_in_full(tmp_path: Path) -> None:
    hall = HallOfFame((GOOD, DIVERGES))
    found = tune_candidates(
        candidates(hall, (4,)), small_task(), BRIEF, BRIEF, tmp_path, resume=False, listener=Silent()
    )
    assert [one.candidate.entry for one in found] == [DIVERGES, GOOD]
    assert found[0].score > found[1].score
    assert found[1].folder == tmp_path / "chosen"
    assert set(found[1].forms) == {DISTILLED, SCHEDULED, TUNED}
    again = tune_candidates(
        candidates(hall, (4,)), small_task(), BRIEF, BRIEF, tmp_path, resume=True, listener=Silent()
    )
    assert again == found


def test_tuning_that_does_not_hold_on_fresh_episodes_is_thrown_away(tmp_path: Path) -> None:
    found = chosen(tmp_path, planted("-0.1*g", "-1e-4*g", tmp_path), planted("-1e-3*g", "1e9*g", tmp_path))
    assert found.form in (DISTILLED, SCHEDULED)
    assert found.tuned.rule.update == Rule.parse("planted", "-1e-4*g").update
    assert math.isinf(found.scores["tuned rule 2"].high)
    note = found.rules[found.form].provenance["chosen"]
    assert note["form"] == found.form
    assert "chosen" not in found.rules[TUNED].provenance
    json.dumps(found.reason, allow_nan=False)


def test_validation_sees_neither_the_reported_data_nor_seeds_nor_horizon_alone(tmp_path: Path) -> None:
    task = tasks.get("mlp-digits")
    inside = Validated(task, 2)
    assert inside.horizon == 2 * task.horizon
    assert inside.name != Validated(task).name != task.name
    assert inside.full("eval")[0] is task.full("train")[0]
    assert inside.full("test")[0] is task.full("test")[0]
    chosen(tmp_path, planted("-0.1*g", "-0.2*g", tmp_path))
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    reported = [run for run in runs if run["stream"] == "report"]
    assert {run["seed"] for run in reported} == set(range(FIRST_SEED, FIRST_SEED + QUICK.seeds))
    assert {run["steps"] for run in reported} == {30, 60}


def test_a_score_is_that_of_the_task_where_it_is_worst(tmp_path: Path) -> None:
    """-0.1*g w/o noise: on a longer horizon it only gets better, but so do the baselines."""
    found = chosen(tmp_path, planted("-1e-6*g", "-1e-6*g", tmp_path))
    assert found.score.task.endswith("-60")
    assert found.score.low <= found.score.mean <= found.score.high
    assert not found.score.beats
    assert "does not beat" in found.reason["reason"]


def test_the_first_line_says_what_was_not_beaten() -> None:
    won = lead(Verdict(("SGD", "Adam"), ()), "bowl", TUNED, won=True)
    assert won.startswith("On bowl the tuned rule (rule.json), which is handed over, beats tuned SGD and Adam.")
    lost = lead(Verdict(("SGD",), ("Momentum", "Adam")), "bowl", DISTILLED, won=False)
    assert lost.startswith("On bowl nothing was found that beats tuned Momentum or Adam")
    assert "did not beat" in lost
    assert "It does beat tuned SGD." in lost
    assert "no baseline" in lead(Verdict((), ()), "bowl", TUNED, won=False)


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="longer"):
        dataclasses.replace(QUICK, longer=1)
    with pytest.raises(UnknownNameError, match="clock"):
        RunConfig(clock="sundial")
