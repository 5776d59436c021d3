"""The curriculum: stages end when validation stands still, horizons grow, and a resumed run knows where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import get
from closedform.meta_training import MetaTrainConfig, MetaTrainResult, TruncatedBPTT, _trainer, meta_train

CONFIG = MetaTrainConfig(
    steps=18,
    horizon=30,
    curriculum=(4, 10),
    warmup=3,
    batch=2,
    validate_every=2,
    validation_episodes=2,
    checkpoint_every=3,
)


class Stop(Exception):
    pass


def _train(config: MetaTrainConfig = CONFIG, **options: object) -> MetaTrainResult:
    optimizer = get("rp-s", generator=torch.Generator().manual_seed(0))
    members = [tasks.get("quadratic", dim=4)]
    return meta_train(optimizer, members, estimator=TruncatedBPTT(4), config=config, **options)


def _validations(scores: list[float]) -> Callable[..., float]:
    """A validation that gives these, one after another."""
    left = iter(scores)
    return lambda *_: next(left)


def test_a_stage_ends_after_validations_that_are_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [9.0, 8.0, 8.0, 7.0, 7.5, 7.0, 6.0, 6.5, 6.0, float("inf")]  # at steps 0, 2, 4, ...
    monkeypatch.setattr(_trainer, "validate", _validations(scores))
    result = _train()
    records = [record for record in result.history if "stage" in record]
    assert [record["stage"] for record in records] == [0] * 10 + [1] * 6 + [2] * 2
    assert [record["horizon"] for record in records] == [4] * 10 + [10] * 6 + [30] * 2
    assert (result.best_step, result.best_validation) == (12, 6.0)
    inner = [record["inner_step"] for record in records]
    assert max(inner[:10]) == 4 < max(inner[10:16]) <= 10


def test_the_last_stage_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trainer, "validate", _validations([1.0] * 10))
    result = _train(replace(CONFIG, curriculum=(4,), curriculum_patience=1))
    assert [record["stage"] for record in result.history if "stage" in record] == [0] * 2 + [1] * 16


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    def stop(record: dict) -> None:
        if record["step"] == 13:
            raise Stop

    def weights(result: MetaTrainResult) -> list[Tensor]:
        return list(result.optimizer.state_dict().values())

    config = replace(CONFIG, lr=0.05, curriculum_patience=1)
    whole = _train(config, out=tmp_path / "whole")
    assert {record.get("stage") for record in whole.history[1:13]} >= {0, 1}  # otherwise nothing is tested here
    with pytest.raises(Stop):
        _train(config, out=tmp_path / "cut", on_record=stop)
    resumed = _train(config, out=tmp_path / "cut", resume=True)
    assert resumed.history == whole.history
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["config"]["curriculum"] == [4, 10]


def test_without_a_curriculum_nothing_is_said() -> None:
    assert not {"stage", "horizon"} & {
        key for record in _train(replace(CONFIG, curriculum=())).history for key in record
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curriculum": (10, 4)}, "horizons that grow"),
        ({"curriculum": (4, 4)}, "horizons that grow"),
        ({"curriculum": (4, 30)}, r"\[4, 30, 30\] do not"),
        ({"curriculum": (0, 4)}, "curriculum must be a whole number of at least 1"),
        ({"curriculum": (4,), "validate_every": 0}, "curriculum needs validations"),
        ({"curriculum_patience": 0}, "curriculum_patience must be"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        replace(CONFIG, **options)
