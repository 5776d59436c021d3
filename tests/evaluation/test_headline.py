from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from closedform.evaluation import (
    Evaluation,
    EvaluationOptions,
    duration,
    evaluate,
    headline,
    interval,
    number,
    percent,
    rate,
    summarize,
    verdict,
)
from closedform.rules import load_rule


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    options = EvaluationOptions(workers=1, tuning_seeds=1, tail=5, resamples=199)
    optimizers = {"tuned rule": load_rule("lion"), "wild": dataclasses.replace(load_rule("sgd"), lr=1e20)}
    return evaluate(optimizers, ["quadratic"], steps=25, seeds=4, baselines=("sgd", "adam"), options=options)


def with_losses(evaluation: Evaluation, losses: dict[str, list[float | None]]) -> Evaluation:
    """The evaluation with other final losses; everything that follows from them is worked out anew."""
    from closedform.evaluation import Difference, paired_difference

    entries = [dataclasses.replace(entry, final_loss=summarize(losses[entry.name])) for entry in evaluation.entries]
    best = min((entry for entry in entries if entry.kind == "baseline"), key=lambda entry: entry.final_loss.rank)

    def difference(entry: Any) -> Difference | None:
        if entry is best:
            return None
        ours, theirs = entry.final_loss, best.final_loss
        relative = (ours.mean - theirs.mean) / theirs.mean if ours.mean and theirs.mean else None
        return Difference(best.name, paired_difference(ours.values, theirs.values), relative)

    found = tuple(dataclasses.replace(entry, difference=difference(entry)) for entry in entries)
    return dataclasses.replace(evaluation, entries=found)


@pytest.mark.parametrize(
    ("losses", "won", "text"),
    [
        ([0.8, 0.9, 0.85, 0.95], True, "beats every tuned baseline"),
        ([1.8, 1.9, 1.85, 1.95], False, "does not beat the baselines"),
        ([3.8, 3.9, 3.85, 3.95], False, "times that of the best tuned baseline (SGD"),
        ([1.3, 0.6, 1.5, 0.7], False, "cannot be told from chance"),
        ([0.8, 0.9, None, 0.95], False, "diverged with 1 of 4 seeds"),
        ([None, None, None, None], False, "diverged with all 4 seeds"),
    ],
)
def test_the_headline_says_what_the_numbers_say(
    evaluation: Evaluation, losses: list[float | None], won: bool, text: str
) -> None:
    others: dict[str, list[float | None]] = {"sgd": [1.0, 1.1, 1.05, 1.15], "adam": [2.0] * 4, "wild": [None] * 4}
    (found,) = headline(with_losses(evaluation, {"tuned rule": losses, **others}), "tuned rule")
    assert found.won is won
    assert text in found.text
    assert "\n" not in found.text


def test_the_verdict_names_what_is_beaten_and_what_is_not(evaluation: Evaluation) -> None:
    losses: dict[str, list[float | None]] = {"sgd": [1.0, 1.1, 1.05, 1.15], "adam": [2.0] * 4, "wild": [None] * 4}

    def found(ours: list[float | None]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        one = verdict(with_losses(evaluation, {"tuned rule": ours, **losses}), evaluation.tasks[0], "tuned rule")
        return one.beaten, one.unbeaten, one.won

    assert found([0.8, 0.9, 0.85, 0.95]) == (("SGD", "Adam"), (), True)
    assert found([1.3, 0.6, 1.5, 0.7]) == (("Adam",), ("SGD",), False)
    assert found([0.8, None, 0.85, 0.95]) == ((), ("SGD", "Adam"), False)


def test_the_headline_is_about_the_last_learned_optimizer_by_default(evaluation: Evaluation) -> None:
    assert headline(evaluation) == headline(evaluation, "wild")
    nothing = dataclasses.replace(evaluation, entries=tuple(e for e in evaluation.entries if e.kind == "baseline"))
    assert headline(nothing) == ()


# ---------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.031234, "0.0312"),
        (-2.0, "−2.00"),
        (1234.0, "1234"),
        (1.5e-7, "1.50·10⁻⁷"),
        (1e9, "1.00·10⁹"),
        (None, "–"),
        (0.0, "0.00"),
    ],
)
def test_numbers_are_short(value: float | None, expected: str) -> None:
    assert number(value) == expected


def test_other_quantities() -> None:
    assert rate(1e-05) == "10⁻⁵"
    assert rate(0.2154) == "0.215"
    assert percent(-0.0312) == "−3.1\N{NO-BREAK SPACE}%"
    units = {3.2e-5: "32 µs", 0.0012: "1.2 ms", 4.0: "4 s", 59.7: "59.7 s", 119.9: "2 min 0 s"}
    for seconds, text in units.items():
        assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == text
    assert interval(summarize([1.0, None])) == "1.00 (diverged 1/2)"
    assert interval(summarize([None])) == "diverged 1/1"
