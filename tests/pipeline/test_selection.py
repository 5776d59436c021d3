"""The pipeline's choice among equations of several sizes, with rules planted whose R^2 says the opposite."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from closedform import tasks
from closedform.distillation import Entry, HallOfFame
from closedform.meta_training import MetaTrainConfig
from closedform.pipeline import RunConfig, Silent
from closedform.pipeline._selection import Tuned, candidates, tune_candidates
from closedform.rules import Rule

BRIEF = MetaTrainConfig(steps=55, horizon=10, lr=1e-3, warmup=0, validate_every=50, validation_episodes=1)
CONFIG = RunConfig(screen=BRIEF, tune=dataclasses.replace(BRIEF, steps=3), tune_unroll=5)


def entry(update: str, error: float, complexity: int) -> Entry:
    return Entry(Rule.parse("planted", update), update, error, error, complexity, 0, "planted")


GOOD, DIVERGES = entry("-0.1*g", 0.1, 4), entry("1e9*g*g*g", 0.001, 9)


def choose(out: Path, *entries: Entry) -> Tuned:
    return tune_candidates(entries, tasks.get("quadratic"), CONFIG, out, resume=False, listener=Silent())


def test_the_candidates_are_the_faithful_one_and_small_ones() -> None:
    hall = HallOfFame((entry("-0.1*g", 0.3, 4), GOOD, entry("-0.1*g - 0.01*w", 0.02, 7), DIVERGES))
    assert [one.complexity for one in candidates(hall, (4, 8))] == [9, 4, 7]
    assert candidates(hall, (1,)) == [DIVERGES]


def test_the_one_that_trains_is_kept_and_the_reason_is_in_its_rule(tmp_path: Path) -> None:
    best = choose(tmp_path, DIVERGES, GOOD)
    assert best.entry is GOOD
    chosen = best.after.provenance["chosen"]
    assert [one["loss"] is None for one in chosen["candidates"]] == [True, False]
    assert chosen["candidates"][0]["r2"] == pytest.approx(0.999)
    assert "trains best" in chosen["reason"]
    json.dumps(chosen, allow_nan=False)
    assert (tmp_path / "metrics.jsonl").is_file()
