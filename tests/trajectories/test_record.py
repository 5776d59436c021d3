from __future__ import annotations

import pytest
import torch

from closedform import learned_optimizers, tasks
from closedform.errors import DivergenceError, OptionError, UnknownNameError
from closedform.features import feature_program
from closedform.lang import initial_memory, step
from closedform.rules import Rule, load_rule
from closedform.trajectories import Trajectories, record

SMALL = {"steps": 30, "episodes": 3, "coordinates": 8, "samples": 400}


@pytest.fixture(scope="module")
def momentum() -> Trajectories:
    return record(load_rule("momentum"), "mlp-digits", steps=40, episodes=2, coordinates=20, samples=600, window=2)


def test_a_rules_columns_are_its_own_states_and_reproduce_its_updates(momentum: Trajectories) -> None:
    assert momentum.column_names == ("g", "m", "g_1", "m_1", "g_2", "m_2")
    m = momentum.features[:, momentum.column_names.index("m")]
    torch.testing.assert_close(momentum.updates, -0.01 * m, rtol=1e-5, atol=1e-9)


def test_lagged_columns_are_the_recorded_past(momentum: Trajectories) -> None:
    first, now, third = momentum.positions()
    past = momentum.gradients[first, (now - 2).clamp_min(0), third]
    expected = torch.where(now >= 2, past, torch.zeros_like(past))
    torch.testing.assert_close(momentum.features[:, momentum.column_names.index("g_2")], expected)


def test_weights_move_by_the_updates(momentum: Trajectories) -> None:
    moved = momentum.weights[:, :-1] + momentum.episode_updates[:, :-1]
    torch.testing.assert_close(moved, momentum.weights[:, 1:])


def test_all_layers_and_times_are_sampled_alike(momentum: Trajectories) -> None:
    shares = torch.bincount(momentum.layer)
    assert len(shares) == len(momentum.provenance["layers"]) == 4
    assert int(shares.max() - shares.min()) <= 2
    halves = [int((momentum.step <= 20).sum()), int((momentum.step > 20).sum())]
    assert abs(halves[0] - halves[1]) < 30


def test_a_networks_columns_are_its_input_features() -> None:
    network = learned_optimizers.get("rp-si", generator=torch.Generator().manual_seed(0))
    found = record(network, "quadratic", **SMALL)
    assert found.column_names == network.features
    program = feature_program(network.features)
    g, w = found.gradients[0].to(torch.float64), found.weights[0].to(torch.float64)
    memory = initial_memory(program, g[0])
    for index in range(10):
        outputs, memory = step(program, {"g": g[index], "w": w[index], "t": torch.tensor(index + 1.0)}, memory)
    rows = (found.episode == 0) & (found.step == 10)
    place = torch.searchsorted(found.episode_coordinates[0], found.coordinate[rows])
    torch.testing.assert_close(
        found.features[rows, 0].to(torch.float64), outputs["m_tilde"][place], rtol=1e-5, atol=1e-6
    )


def test_same_seed_same_recording_other_seed_another() -> None:
    first, again, other = (record("sgd", "quadratic", seed=seed, **SMALL) for seed in (1, 1, 2))
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.gradients, again.gradients)
    assert not torch.equal(first.gradients, other.gradients)


def test_several_tasks_have_layers_of_their_own() -> None:
    found = record("sgd", [tasks.get("quadratic"), "rosenbrock"], **{**SMALL, "coordinates": 2})
    assert found.provenance["tasks"] == ["quadratic", "rosenbrock"]
    assert len(found.episodes) == 6
    assert set(found.layer.tolist()) == set(range(len(found.provenance["layers"])))


def test_what_diverges_is_counted_not_dropped_silently() -> None:
    wild = Rule.parse("wild", "-g*exp(t*t/4)")
    found = record(wild, "quadratic", **SMALL)
    assert found.provenance["diverged"] == [0, 1, 2]
    assert found.provenance["nonfinite_cells"] > 0
    assert found.nonfinite_rows == 0
    assert not bool(torch.isfinite(found.gradients).all())


def test_nothing_finite_is_an_error() -> None:
    with pytest.raises(DivergenceError, match="nothing finite"):
        record(Rule.parse("broken", "log(-1 - abs(g))"), "quadratic", **SMALL)


def test_features_of_the_table_can_be_recorded_for_a_rule() -> None:
    found = record("adam", "quadratic", features=("g", "m_hat", "mom9"), **SMALL)
    assert found.column_names == ("g", "m_hat", "mom9")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"steps": 0}, OptionError, "steps must be a whole number from 1"),
        ({"window": -1}, OptionError, "window"),
        ({"step": 3}, OptionError, "did you mean 'steps'"),
        ({"features": ("m_tildee",)}, UnknownNameError, "did you mean 'm_tilde'"),
        ({"features": ("g", "g")}, OptionError, "different names"),
        ({"features": ("m", "m_tilde")}, OptionError, "one thing in the rule and another"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        record("momentum", "quadratic", **options)


def test_columns_that_need_whole_tensors_are_refused() -> None:
    rule = Rule.parse("normed", "-r", where={"r": "g/norm(g)"})
    with pytest.raises(OptionError, match="cannot use norm"):
        record(rule, "quadratic", features=("r",), **SMALL)
    assert record(rule, "quadratic", **SMALL).column_names == ("g",)
