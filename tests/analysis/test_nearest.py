"""Known optimizers are recognised with constants that nobody told, and strangers are not."""

import dataclasses
from typing import Any

import pytest
import torch

import closedform as cf
from closedform.analysis import nearest
from closedform.analysis.nearest._refit import rounded
from closedform.analysis.nearest._words import percent
from closedform.errors import OptionError, UnknownNameError
from closedform.rules import Rule, library_names

CHANGED: dict[str, dict[str, float]] = {
    "adabelief": {"beta1": 0.75, "beta2": 0.98},
    "adadelta": {"rho": 0.83},
    "adagrad": {},
    "adam": {"beta1": 0.75, "beta2": 0.98},
    "adamax": {"beta1": 0.75, "beta2": 0.98},
    "adamw": {"beta1": 0.94, "beta2": 0.98, "weight_decay": 0.3},
    "ademamix": {"beta1": 0.8, "beta2": 0.99},
    "adopt": {"beta1": 0.94, "beta2": 0.9995},
    "amsgrad": {"beta1": 0.75, "beta2": 0.95},
    "lion": {"beta1": 0.75, "beta2": 0.95},
    "momentum": {"beta": 0.94},
    "nadam": {"beta1": 0.75, "beta2": 0.995, "momentum_decay": 0.0052},
    "nesterov": {"beta": 0.75},
    "radam": {"beta1": 0.75, "beta2": 0.98},
    "rmsprop": {"alpha": 0.95},
    "schedulefree-adamw": {"beta1": 0.8, "beta2": 0.98},
    "sgd": {},
    "signum": {"beta": 0.75},
}
"""Constants that are not the library's."""


def recorded(optimizer: Any, **options: Any) -> cf.Trajectories:
    return cf.record(optimizer, "mlp-digits", **{"steps": 60, "episodes": 4, "coordinates": 24, **options})


@pytest.fixture(scope="module")
def adam() -> cf.Trajectories:
    return recorded("adam")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGED)
def test_library_rules_are_recognised_by_their_updates(name: str) -> None:
    rule = cf.load_rule(name)
    changed = Rule(name, rule.program, 1.7 * rule.lr).with_constants(**CHANGED[name])
    found = nearest(recorded(changed))
    best = found.matches[0]
    assert (found.verdict, best.name) == ("exact", name), found.sentence
    assert best.rule.lr == pytest.approx(1.7 * rule.lr, rel=0.01)
    for constant, value in CHANGED[name].items():
        if value < 1 and constant != "momentum_decay":
            assert 1 - best.rule.constants[constant] == pytest.approx(1 - value, rel=0.02)
    assert found.sentence.startswith(f"exact: {name} with")


def test_every_rule_that_can_be_tried_is_here(adam: cf.Trajectories) -> None:
    assert set(CHANGED) == set(library_names()) - set(nearest(adam).left_out)


def test_the_simplest_of_equals_is_named(adam: cf.Trajectories) -> None:
    found = nearest(adam)
    assert found.matches[0].name == "adam"
    assert "adamw" in found.sentence
    assert found.matches[0].rule.constants["beta2"] == 0.999


def test_a_small_weight_decay_is_not_overlooked() -> None:
    found = nearest(recorded(cf.load_rule("adamw")))
    assert found.matches[0].name == "adamw"
    assert found.matches[0].rule.constants["weight_decay"] == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("name", ["dm", "rp"])
def test_a_random_network_is_unlike_any(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    network = cf.learned_optimizers.get(name, generator=generator)
    with torch.no_grad():
        network.output_weight.normal_(0, 0.3, generator=generator)
    found = nearest(recorded(network))
    assert found.verdict == "unlike"
    assert found.sentence.startswith("unlike any known optimizer")


def test_muon_is_not_mistaken() -> None:
    found = nearest(recorded("muon"))
    assert found.verdict == "unlike"
    assert "muon" in found.left_out


def test_what_no_matrix_shows_is_told() -> None:
    """Muon is Nesterov's momentum on vectors: nothing recorded there tells them apart."""
    found = nearest(cf.record("muon", "quadratic", steps=60, episodes=4), ["nesterov", "sgd"])
    assert "no matrices were recorded" in found.sentence
    assert "no matrices" not in nearest(recorded("sgd")).sentence


def test_clipping_is_told() -> None:
    clipped = Rule.parse("clipped", "-0.003*tanh(m/0.05)", state={"m": "0.9*m + g"}, lr=1.0)
    found = nearest(recorded(clipped), ["momentum", "sgd"])
    assert "clipping" in found.matches[0].additions[0].what
    assert "clipping" in found.sentence


def test_a_schedule_is_told() -> None:
    annealed = Rule.parse("annealed", "-(1 - progress)*m", state={"m": "0.9*m + g"}, lr=0.01)
    found = nearest(recorded(annealed), ["momentum", "sgd"])
    assert "schedule" in found.sentence


def test_numbers_are_cut_where_that_does_not_count() -> None:
    assert rounded(0.90004, True) == 0.9
    assert rounded(0.9989996, True) == 0.999
    assert rounded(0.998, True) == 0.998
    assert rounded(3.14159, False) == 3.14
    assert rounded(0.1234567, False, room=0.0) == 0.1234567


@pytest.mark.parametrize("updates", ["zero", "constant", "nan"])
def test_thin_evidence(adam: cf.Trajectories, updates: str) -> None:
    values = {"zero": 0.0, "constant": 0.1, "nan": float("nan")}
    dead = dataclasses.replace(adam, episode_updates=torch.full_like(adam.episode_updates, values[updates]))
    found = nearest(dead)
    assert (found.verdict, found.matches) == ("none", ())
    assert "record more" in found.sentence


def test_one_episode_is_split_by_coordinates() -> None:
    assert nearest(recorded("momentum", episodes=1)).matches[0].name == "momentum"


def test_bad_options(adam: cf.Trajectories) -> None:
    with pytest.raises(UnknownNameError, match="adam"):
        nearest(adam, ["adamm"])
    with pytest.raises(OptionError, match="single coordinates"):
        nearest(adam, ["muon"])


def noisy(recording: cf.Trajectories, share: float) -> cf.Trajectories:
    updates = recording.episode_updates
    noise = torch.randn(updates.shape, generator=torch.Generator().manual_seed(0), dtype=updates.dtype)
    return dataclasses.replace(recording, episode_updates=updates * (1 + share * noise))


@pytest.mark.parametrize("name", ["sgd", "adam", "lion"])
def test_noise_does_not_make_a_rule_more_complex(name: str) -> None:
    found = nearest(noisy(recorded(name), 0.01))
    best, rule = found.matches[0], cf.load_rule(name)
    assert (found.verdict, best.name) == ("close", name), found.sentence
    assert found.sentence.startswith("99.")
    assert best.additions == ()
    for constant, role in cf.learned_optimizers.constant_roles(rule.program.live).items():
        if role is cf.learned_optimizers.Role.DECAY and constant != "beta2":
            assert 1 - best.rule.constants[constant] == pytest.approx(1 - rule.constants[constant], rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coarse_numbers(adam: cf.Trajectories, dtype: torch.dtype) -> None:
    names = ("gradients", "weights", "episode_updates")
    coarse = {name: getattr(adam, name).to(dtype).to(getattr(adam, name).dtype) for name in names}
    found = nearest(dataclasses.replace(adam, **coarse))
    assert found.verdict == ("exact" if dtype is torch.float32 else "close")
    assert found.matches[0].name == "adam"
    assert 1 - found.matches[0].r2 < 1e-5


@pytest.mark.parametrize("update", ["-0.1*g - 1e-7*sign(g)", "-0.1*g*(1 - greater(progress, 0.9))"])
def test_what_differs_in_a_part_is_not_exact(update: str) -> None:
    """Pooled R^2 alone is ruled by the large updates: the first differs by 1e-9 of it."""
    found = nearest(recorded(Rule.parse("nearly", update, lr=1.0)))
    assert found.matches[0].name == "sgd"
    assert found.verdict != "exact", found.sentence


def test_the_part_is_named() -> None:
    late = Rule.parse("late", "-0.1*g + 1e-6*greater(progress, 0.9)", lr=1.0)
    found = nearest(recorded(late), "sgd")
    assert found.matches[0].apart.startswith(("in the last tenth", "for "))
    assert found.matches[0].apart in found.sentence


def test_few_coordinates_give_no_additions() -> None:
    found = nearest(recorded("dm", coordinates=2, episodes=4))
    assert all(match.additions == () for match in found.matches)
    assert found.verdict != "exact"


def test_tasks_count_alike() -> None:
    """A rule that is right on one of two tasks only is not near, however large the other's updates are."""
    two = recorded("sgd", episodes=4)
    tasks = [{"number": number, "task": f"task {k % 2}"} for k, number in enumerate(two.episodes.tolist())]
    other = torch.arange(4) % 2 == 1
    updates = two.episode_updates.clone()
    updates[other] = 1e-3 * updates[other].sign()
    mixed = dataclasses.replace(two, episode_updates=updates, provenance={"episodes": tasks})
    assert nearest(mixed, ["sgd", "signum"]).verdict == "unlike"
    same = dataclasses.replace(two, provenance={"episodes": tasks})
    assert nearest(same, ["sgd", "signum"]).verdict == "exact"


def test_nothing_explained(adam: cf.Trajectories) -> None:
    ascent = dataclasses.replace(adam, episode_updates=-adam.episode_updates)
    assert "none explains 1 %" in nearest(ascent, ["adam", "sgd"]).sentence


@pytest.mark.parametrize(
    ("share", "told"), [(0.937, "93 %"), (0.9999, "99.99 %"), (1 - 3e-3, "99.7 %"), (1 - 5e-9, "99.9999 %")]
)
def test_percentages_never_round_up(share: float, told: str) -> None:
    assert percent(share) == told


def test_it_is_plain_data(adam: cf.Trajectories) -> None:
    document = nearest(adam, ["adam", "sgd"]).to_dict()
    assert document["matches"][0]["rule"]["name"] == "adam"
