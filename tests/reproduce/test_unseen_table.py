from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from closedform import tasks
from closedform.errors import DataError, DivergenceError, OptionError, UnknownNameError
from closedform.evaluation import (
    CAP,
    Curve,
    Entry,
    EvaluationOptions,
    StepsToTarget,
    Summary,
    Tuning,
    evaluate,
    summarize,
)
from closedform.reproduce import REPRODUCTIONS, HorizonRow, UnseenResult, UnseenRow, unseen
from closedform.reproduce._entrants import OTHERS, REFERENCE, RULE, SINGLE, THREE, chosen, of_rule
from closedform.reproduce._unseen import UnseenPlan, best_single_rate, check_reference
from closedform.reproduce._unseen_numbers import against, verdicts
from closedform.rules import Rule, library_names, load_rule


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[UnseenResult, Path, list[Any]]:
    runs: list[Any] = []
    out = tmp_path_factory.mktemp("unseen")
    names = ["signum", "momentum"]
    result = unseen(2, out, lambda *run: runs.append(run), quick=True, entrants=names, workers=1)
    return result, out, runs


def test_everyone_takes_part_with_a_stated_number_of_trials(made: Any) -> None:
    result = made[0]
    kinds = {row.entrant: row.kind for row in result.rows}
    assert kinds == {
        REFERENCE: REFERENCE,
        SINGLE: SINGLE,
        "signum": RULE,
        "signum-three": THREE,
        "momentum": "baseline",
    }
    assert len(result.rows) == 2 * 5
    trials = {row.entrant: row.trials for row in result.rows}
    assert (trials["signum"], trials["signum-three"], trials["momentum"], trials[SINGLE]) == (0, 3, 7, 0)
    assert all(row.trials >= 3 for row in result.of(REFERENCE))
    assert {row.schedule for row in result.rows if row.kind in (REFERENCE, SINGLE)} == {"cosine"}
    assert all(row.lr == result.single_rate for row in result.of(SINGLE))


def test_steps_to_both_targets_are_measured_for_rules(made: Any) -> None:
    result = made[0]
    for row in result.rows:
        assert set(row.to_targets) == ({REFERENCE, SINGLE} if row.kind in (RULE, THREE) else set())
        for name, steps in row.to_targets.items():
            (there,) = (other for other in result.of(name) if other.task == row.task)
            assert steps.target == there.loss.mean
            assert steps.horizon == row.steps == 60


def test_the_table_is_written_and_goes_on_where_it_stopped(made: Any) -> None:
    result, out, runs = made
    page = (out / "reproduce_unseen.md").read_text()
    assert "signum untuned against AdamW-cosine at its best single rate: better on 8 of 10" in page
    document = json.loads((out / "reproduce_unseen.json").read_text())
    assert [row["entrant"] for row in document["rows"]] == [row.entrant for row in result.rows]
    assert document["against"][SINGLE]["signum"]["tasks"] == 2
    picture = (out / "reproduce_unseen_profile.svg").read_text()
    assert picture.startswith("<svg")
    assert "signum, untuned" in picture
    before = len(runs)
    again = unseen(2, out, lambda *run: runs.append(run), quick=True, entrants=["signum", "momentum"], workers=1)
    assert again.rows == result.rows
    assert again.horizons == result.horizons
    assert len(runs) == before


def test_there_are_ten_tasks_and_thirteen_rates() -> None:
    plan = UnseenPlan()
    assert tuple(name for name, _ in plan.tasks) == tasks.UNSEEN
    assert len(plan.rates) == 13
    assert plan.horizons == (100, 1000, 10000)
    known = {name for name in OTHERS if name in library_names()}
    assert {len(OTHERS[name]().lrs) for name in known} == {7}


# ------------------------------------------------------------------------------------------- what numbers add up to


def row(entrant: str, kind: str, task: str, *losses: float | None, ratio: float | None = None) -> UnseenRow:
    steps = StepsToTarget(1.0, 100, (), 50, ratio, False) if ratio is not None else None
    targets = {REFERENCE: steps, SINGLE: steps} if steps else {}
    return UnseenRow(task, 100, entrant, entrant, kind, 0.1, "cosine", 0, summarize(losses), {}, None, targets)


def field(*ours: tuple[tuple[float | None, ...], float]) -> list[UnseenRow]:
    """A rule "r" beside references that are at 1 with all seeds; one task an item: its losses, its steps ratio."""
    rows = []
    for index, (losses, ratio) in enumerate(ours):
        rows += [row(name, name, f"t{index}", *[1.0] * len(losses)) for name in (REFERENCE, SINGLE)]
        rows.append(row("r", RULE, f"t{index}", *losses, ratio=ratio))
    return rows


def test_totals_of_known_rows() -> None:
    rows = field(((0.5, 0.5), 2.0), ((2.0, 2.0), 0.5), ((0.9, 1.2), 1.0), ((0.1, None), 4.0))
    found = against(rows, "r", REFERENCE)
    assert (found.better, found.clearly_better, found.clearly_worse, found.tasks) == (1, 1, 2, 4)
    ratios = (0.5, 2.0, 1.05, (0.1 + CAP) / 2)
    assert found.mean.value == pytest.approx((ratios[0] * ratios[1] * ratios[2] * ratios[3]) ** 0.25)
    assert found.middle.value == pytest.approx((1.05 + 2.0) / 2)
    assert (found.worst, found.worst_task) == (pytest.approx(ratios[3]), "t3")
    assert found.faster is not None
    assert found.faster.value == pytest.approx(4**0.25)
    assert found.reached == 4


def test_what_was_asked_is_held_against_what_was_found() -> None:
    good = verdicts(field(*[((0.5, 0.6), 1.5)] * 8, *[((1.4, 1.4), 1.0)] * 2), ())
    assert [verdict.reached for verdict in good] == [True, True, True, True]
    bad = verdicts(field(*[((0.5, 0.6), 1.2)] * 5, *[((1.6, 1.6), 1.0)] * 5), ())
    assert [verdict.reached for verdict in bad] == [False, False, False, False]
    assert bad[0].found == "5 of 10 (5 clearly, 5 clearly worse)"


def horizon(entrant: str, steps: int, *losses: float | None) -> HorizonRow:
    return HorizonRow("m", steps, entrant, entrant, None, 0, summarize(losses))


@pytest.mark.parametrize(("losses", "fine"), [((1.1, 1.2), True), ((1.2, 1.3), False), ((1.0, None), False)])
def test_horizons_count_all_together(losses: tuple[float | None, ...], fine: bool) -> None:
    study = [horizon(name, steps, 1.0, 1.0) for name in (REFERENCE, "r") for steps in (10, 100)]
    study[-1] = horizon("r", 100, *losses)
    assert verdicts(field(((0.5, 0.5), 1.0)), study)[-1].reached is fine


def tuning(losses: dict[float, float | None], diverged: dict[float, int] | None = None) -> Tuning:
    lrs = tuple(sorted(losses))
    best = min((lr for lr in lrs if losses[lr] is not None), key=lambda lr: losses[lr])
    gone = tuple((diverged or {}).get(lr, int(losses[lr] is None)) for lr in lrs)
    return Tuning(lrs, tuple(losses[lr] for lr in lrs), gone, best, len(lrs), 2, 10, False)


def test_the_single_rate_is_the_best_compromise() -> None:
    first = tuning({0.01: 4.0, 0.1: 1.1, 1.0: 1.0})
    second = tuning({0.01: 1.0, 0.1: 1.2, 1.0: 8.0, 10.0: 9.0})
    assert best_single_rate([first, second]) == 0.1
    assert best_single_rate([first]) == 1.0
    unsafe = tuning({0.01: 1.0, 0.1: 1.2, 1.0: 8.0}, diverged={0.1: 1})
    assert best_single_rate([first, unsafe]) == 0.01  # 2.0 in the mean, against 10.5 at 0.1 and 2.8 at 1


# ---------------------------------------------------------------------------------------------------------- bad input


def entry(loss: Summary) -> Entry:
    curve = Curve((10,), (None,), (None,), (None,))
    return Entry("t", "a", "AdamW", "baseline", 0.1, 10, loss, loss, {}, curve, None, None, 2, 40, None, "x")


def test_a_reference_that_diverges_is_a_clear_line() -> None:
    check_reference([entry(summarize([1.0, 2.0]))])
    text = "the reference, AdamW, diverged on t after 10 steps with 1 of 2 seeds at the learning rate 0.1"
    with pytest.raises(DivergenceError, match=re.escape(text)) as caught:
        check_reference([entry(summarize([1.0, None]))])
    assert "\n" not in str(caught.value)


def test_rules_take_part_untuned_and_with_three_rates() -> None:
    rule = dataclasses.replace(load_rule("lion"), lr=0.3)
    untuned, three = of_rule("mine", rule)
    assert untuned.subject is rule
    assert three.subject.lrs == pytest.approx((0.1, 0.3, 0.9))  # type: ignore[union-attr]
    assert three.subject.extensions == 0  # type: ignore[union-attr]


def test_prodigy_takes_part_with_its_library() -> None:
    (entrant,) = chosen(["prodigy"])
    options = EvaluationOptions(workers=1, tail=3, tuning_seeds=1)
    quadratic = [tasks.get("quadratic-10")]
    prodigy, stuck = evaluate(
        {"prodigy": entrant.subject, "still": Rule.parse("still", "0*g")},
        quadratic,
        steps=60,
        seeds=1,
        baselines=(),
        options=options,
    ).entries
    assert (prodigy.trials, prodigy.schedule) == (7, "cosine")
    assert prodigy.final_loss.mean < 0.1 * stuck.final_loss.mean  # type: ignore[operator]


def test_a_baseline_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OptionError, match="pip install prodigyopt"):
        chosen(["prodigy"])
    assert "prodigy" not in [entrant.name for entrant in chosen(None)]


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    assert "unseen" in REPRODUCTIONS
    with pytest.raises(OptionError, match="seeds"):
        unseen(0)
    with pytest.raises(UnknownNameError, match="did you mean 'lion'"):
        chosen(["lyon"])
    with pytest.raises(DataError, match="MNIST"):
        unseen(1, data_dir=tmp_path)
