"""One protocol of progress: whatever takes long calls ``progress(done, total, text)`` until all is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import closedform as cf
from closedform import learned_optimizers, tasks
from closedform.distillation import select_closed_loop
from closedform.evaluation import EvaluationOptions

QUADRATIC = [tasks.get("quadratic", dim=3, horizon=20)]
RULE = cf.Rule.parse("descent", "-g", lr=0.1)


def recording() -> cf.Trajectories:
    return cf.record(RULE, QUADRATIC, steps=30, episodes=8, coordinates=3)


def hall() -> cf.HallOfFame:
    return cf.distill(recording(), "sparse", generations=0)


def network() -> cf.LearnedOptimizer:
    return learned_optimizers.get("rp-s")


WORK: dict[str, Callable[..., Any]] = {
    "record": lambda **told: cf.record(RULE, QUADRATIC, steps=5, episodes=2, **told),
    "meta_train": lambda **told: cf.meta_train(network(), QUADRATIC, steps=3, horizon=10, validate_every=0, **told),
    "meta_tune": lambda **told: cf.meta_tune(RULE, QUADRATIC, steps=3, horizon=10, validate_every=0, **told),
    "evolve": lambda **told: cf.evolve(RULE, QUADRATIC, generations=2, population=4, tasks=1, **told),
    "evaluate": lambda **told: cf.evaluate({"mine": RULE}, QUADRATIC, seeds=2, baselines=[], **told),
    "distill": lambda **told: cf.distill(recording(), "sparse", generations=3, **told),
    "distill, restarted": lambda **told: cf.distill(recording(), "sparse", restarts=2, generations=0, **told),
    "select_closed_loop": lambda **told: select_closed_loop(hall(), QUADRATIC, length=10, **told),
}


@pytest.mark.parametrize("name", WORK)
def test_progress_goes_from_little_to_all(name: str) -> None:
    seen: list[tuple[int, int, str]] = []
    WORK[name](progress=lambda *at: seen.append(at))
    assert seen
    assert all(isinstance(text, str) and 0 <= done <= total for done, total, text in seen)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    done, total, _ = seen[-1]
    assert done == total


@pytest.mark.parametrize("name", ["meta_train", "meta_tune", "evolve"])
def test_records_are_told_besides(name: str, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    steps: list[int] = []
    WORK[name](on_record=records.append, progress=lambda done, *_: steps.append(done), out=tmp_path)
    counted = [record.get("step", record.get("generation")) for record in records]
    assert counted == steps
    assert all(record["seconds"] >= 0 for record in records)


@pytest.mark.parametrize("name", ["record", "meta_train", "meta_tune", "evolve", "evaluate", "distill"])
def test_options_by_name_are_checked(name: str) -> None:
    with pytest.raises(cf.errors.OptionError, match=f"unknown option of {name} 'seedling'"):
        WORK[name](seedling=1)


def test_options_of_an_evaluation_in_all_their_ways() -> None:
    ways: list[dict[str, Any]] = [
        {"tail": 3, "tuning_seeds": 1},
        {"config": EvaluationOptions(tail=3, tuning_seeds=1)},
        {"options": EvaluationOptions(tail=3, tuning_seeds=1)},
        {"config": EvaluationOptions(tail=9, tuning_seeds=1), "tail": 3},
    ]
    found = [WORK["evaluate"](**way) for way in ways]
    assert {one.protocol.tail for one in found} == {3}
    assert len({one.entries[0].final_loss for one in found}) == 1
