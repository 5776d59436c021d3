from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from open_loop import updates_of

from closedform.distillation import HallOfFame, distill
from closedform.errors import DistillationError, OptionError, UnknownNameError
from closedform.rules import Rule, load_rule
from closedform.trajectories import Trajectories, record

MakeRecording = Callable[..., Trajectories]
QUICK = {"generations": 10, "population": 200, "rows": 400, "gates": 0, "threads": 1}


@pytest.mark.parametrize(("name", "constants"), [("momentum", {"beta": 0.6}), ("adam", {}), ("adam", {"beta2": 0.9})])
def test_hand_designed_rules_are_recovered_from_their_own_states(name: str, constants: dict[str, float]) -> None:
    original = load_rule(name).with_constants(**constants)
    hall = distill(record(original, "mlp-digits", steps=80, episodes=4, samples=4000), **QUICK)
    entry = hall.choose()
    assert entry.r2 > 0.9999
    assert entry.state_cost == original.state_cost
    gradients = 0.01 * torch.randn(60, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(updates_of(entry.rule, gradients), updates_of(original, gradients), rtol=1e-3, atol=1e-7)
    again = Rule.from_json(entry.rule.to_json())
    assert again == entry.rule
    assert entry.rule.with_constants(c1=2.0).constants["c1"] == 2.0


def test_gradient_descent_is_exact(make_recording: MakeRecording) -> None:
    hall = distill(make_recording(lambda g: -0.01 * g(0), window=10), **QUICK)
    assert (hall.best.equation, hall.best.state_cost) == ("-0.01*g", 0)


def test_a_sum_of_eleven_lags_is_exact(make_recording: MakeRecording) -> None:
    hall = distill(make_recording(lambda g: sum((1 - 0.1 * k) * g(k) for k in range(10)), window=10), **QUICK)
    assert hall.best.r2 > 1 - 1e-5  # held-out updates leave the range that predictions are clipped to
    assert hall.best.train_error < 1e-9
    found = {float(text.split("*")[0]) for text in hall.best.equation.split(" + ") if "*" in text}
    assert found == {0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1}


@pytest.mark.slow
def test_the_third_sanity_target_is_found(make_recording: MakeRecording) -> None:
    target = make_recording(lambda g: g(0) ** 2 + g(1) + 2 * g(2) + torch.exp(g(4)), window=5, coordinates=20)
    options = {"operators": ("add", "sub", "mul", "square", "exp"), "decays": (), "gates": 0}
    hall = distill(target, max_complexity=20, time_limit=60, **options)
    assert hall.best.r2 > 0.99999
    assert hall.choose(tolerance=1e-5).complexity <= 14


def test_a_saturating_average_is_recovered_with_its_decay() -> None:
    rule = Rule.parse("saturated", "-0.01*tanh(2*m)", state={"m": "b*m + (1 - b)*g"}, constants={"b": 0.83})
    recording = record(rule, "mlp-digits", features=("g",), steps=60, episodes=4, samples=3000)
    entry = distill(recording, "sparse", gates=0).choose(tolerance=1e-4)
    assert entry.r2 > 0.9999
    decays = [value for name, value in entry.rule.constants.items() if name.startswith("d_")]
    assert min(abs(decay - 0.83) for decay in decays) < 2e-3


def test_the_same_seed_gives_the_same_hall_whatever_the_threads(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: torch.tanh(g(0)) * g(1).abs() + 0.1 * g(2), window=3)
    options = {**QUICK, "decays": (), "time_limit": 500.0}
    first, again, parallel = (distill(recording, **{**options, "threads": threads}) for threads in (1, 1, 2))
    assert first.entries == again.entries == parallel.entries
    assert any(entry.stage == "operon" for entry in first.entries)


def test_entries_are_non_dominated_and_state_true_numbers(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: torch.tanh(g(0) + g(1)) + 0.2 * g(3), window=4)
    hall = distill(recording, seed=2, decays=(), **QUICK)
    for one, other in itertools.permutations(hall.entries, 2):
        assert not (
            other.error <= one.error and other.complexity <= one.complexity and other.state_cost <= one.state_cost
        )
    held = recording.split(0.25, seed=2)[1]
    flat = held.gradients.transpose(0, 1).reshape(held.gradients.shape[1], -1)
    truth = held.episode_updates.transpose(0, 1).reshape_as(flat)
    for entry in hall.entries:
        predicted = updates_of(entry.rule, flat).clamp(recording.updates.min(), recording.updates.max())
        error = (truth - predicted).square().sum() / (truth - truth.mean()).square().sum()
        assert abs(float(error) - entry.error) < 0.02
        assert entry.state_cost == entry.rule.state_cost


def test_limits_hold(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: torch.tanh(g(0) + g(1) - g(2)), window=4)
    hall = distill(recording, max_complexity=9, max_state_cost=1, decays=(), **QUICK)
    assert hall.entries
    assert all(entry.complexity <= 9 and entry.state_cost <= 1 for entry in hall.entries)


def test_no_time_gives_the_quick_stages(make_recording: MakeRecording) -> None:
    hall = distill(make_recording(lambda g: torch.tanh(g(0)) + g(1) * g(2), window=2), time_limit=0)
    assert {entry.stage for entry in hall.entries} <= {"linear", "recurrences", "additive", "sparse", "saturating"}


def test_an_interrupt_returns_the_best_so_far(make_recording: MakeRecording) -> None:
    def interrupt(record: Mapping[str, Any]) -> None:
        if record["stage"] == "sparse":
            raise KeyboardInterrupt

    hall = distill(make_recording(lambda g: torch.tanh(g(0) * g(1)) + g(1), window=2), on_record=interrupt)
    assert hall.entries
    assert "interrupted: the best so far" in hall.provenance["notes"]
    assert hall.interrupted


def test_progress_tells_of_the_best_equation(make_recording: MakeRecording) -> None:
    seen: list[Mapping[str, Any]] = []
    distill(make_recording(lambda g: torch.tanh(g(0)), window=1), on_record=seen.append, **QUICK)
    assert seen[0]["stage"] == "linear"
    assert seen[-1]["stage"] == "finished"
    assert seen[-1]["error"] <= seen[0]["error"]
    assert "g" in seen[-1]["equation"]


def spoiled(recording: Trajectories, rows: int, column: int = 0, value: float = float("nan")) -> Trajectories:
    features = recording.features.clone()
    features[:rows, column] = value
    return dataclasses.replace(recording, features=features)


def test_rows_that_are_not_finite_are_counted_and_refused_past_a_limit(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: -g(0))
    hall = distill(spoiled(recording, 10), **QUICK)
    assert "10 rows with NaN or infinity left out" in hall.provenance["notes"]
    assert hall.best.equation == "-g"
    with pytest.raises(DistillationError, match="500 of 2880 rows hold NaN"):
        distill(spoiled(recording, 500), **QUICK)


def test_useless_columns_are_left_out_and_named(make_recording: MakeRecording) -> None:
    recording = spoiled(make_recording(lambda g: -g(0), window=2), 10**6, column=1)
    constant = spoiled(recording, 10**6, column=2, value=4.0)
    assert set(distill(constant, **QUICK).provenance["notes"]) == {
        "column g_1 left out: never finite",
        "column g_2 left out: constant",
    }
    twins = dataclasses.replace(recording, features=recording.features[:, [0, 0, 0]])
    assert "column g_1 left out: the same as g" in distill(twins, **QUICK).provenance["notes"]


def test_data_that_cannot_be_distilled_are_refused(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: -g(0))
    flat = dataclasses.replace(recording, updates=torch.full_like(recording.updates, 0.5))
    tiny = make_recording(lambda g: -g(0), episodes=1, steps=1, coordinates=1)
    for bad, match in [
        (flat, "always 0.5"),
        (tiny, "1 usable rows"),
        (spoiled(recording, 10**6), "no column holds a finite value"),
        (spoiled(recording, 10**6, value=1.0), "every column is constant"),
    ]:
        with pytest.raises(DistillationError, match=match):
            distill(bad, **QUICK)


def test_more_rows_than_are_needed_are_thinned_out(
    make_recording: MakeRecording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("closedform.distillation.problem._problem.MAX_ROWS", 1000)
    hall = distill(make_recording(lambda g: -g(0)), **QUICK)
    assert "2,880 rows: 1,000 of them are used, drawn at random" in hall.provenance["notes"]
    assert hall.best.equation == "-g"


def test_one_episode_holds_out_coordinates(make_recording: MakeRecording) -> None:
    hall = distill(make_recording(lambda g: -g(0), episodes=1), **QUICK)
    assert hall.provenance["held_out"] == "3 of 12 coordinates of the one episode"
    hall = distill(make_recording(lambda g: -g(0), episodes=1, coordinates=1, steps=200), **QUICK)
    assert hall.provenance["held_out"] == "steps after 150 of the one coordinate"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"operators": ("ad",)}, UnknownNameError, "did you mean 'add'"),
        ({"operators": ("add", "erf")}, DistillationError, "operon cannot search with erf"),
        ({"backend": "operonn"}, UnknownNameError, "did you mean 'operon'"),
        ({"time_limit": -1}, OptionError, "time_limit"),
        ({"time_limt": 1}, OptionError, "did you mean 'time_limit'"),
        ({"max_complexity": 0}, OptionError, "max_complexity"),
        ({"decays": (1.0,)}, OptionError, "between 0 and 1"),
        ({"test_fraction": 1.0}, OptionError, "between 0 and 1"),
        ({"gates": 3}, OptionError, "gates"),
    ],
)
def test_options_that_make_no_sense(
    make_recording: MakeRecording, options: dict[str, object], error: type[Exception], match: str
) -> None:
    recording = make_recording(lambda g: torch.tanh(g(0)) * g(1), window=1, steps=30)
    with pytest.raises(error, match=match):
        distill(recording, **{"decays": (), "gates": 0, **options})


def test_the_hall_selects_and_round_trips(make_recording: MakeRecording) -> None:
    hall = distill(make_recording(lambda g: torch.tanh(g(0) + g(1)), window=2), decays=(), **QUICK)
    assert HallOfFame.from_json(hall.to_json()) == hall
    assert hall.choose().error <= hall.best.error + 0.01
    assert hall.mapping_complexity == hall.choose().complexity
    smallest = hall.choose(max_complexity=6)
    assert smallest.complexity <= 6
    assert hall.select(max_complexity=6) == smallest.rule
    with pytest.raises(DistillationError, match="raise the limit"):
        hall.select(max_complexity=0)
