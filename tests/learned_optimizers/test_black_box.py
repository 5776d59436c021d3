"""Other people's optimizers behind the pure interface do what they do by themselves."""

import itertools

import pytest
import torch

import closedform as cf
from closedform.analysis import nearest, perception, portrait
from closedform.errors import OptionError, UnknownNameError
from closedform.learned_optimizers import BlackBox, SymbolicOptimizer, black_box, load_optimizer

SAME = {
    "torch.optim:Adam": "adam",
    "torch.optim:AdamW": "adamw",
    "torch.optim:NAdam": "nadam",
    "torch.optim:RMSprop": "rmsprop",
    "torch.optim:Adagrad": "adagrad",
    "torch.optim:Adadelta": "adadelta",
    "pytorch_optimizer:Lion": "lion",
}


@pytest.mark.parametrize("path", SAME)
def test_it_is_the_library_rule_step_by_step(path: str) -> None:
    options = {"lr": 1e-3, "betas": (0.9, 0.99)} if "Lion" in path else {}
    box = black_box(path, **options)
    rule = cf.load_rule(SAME[path])
    lr = options.get("lr", rule.lr)
    twin = SymbolicOptimizer(cf.Rule(rule.name, rule.program, lr), ())
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(12, generator=generator, dtype=torch.float64)
    ours, theirs = twin.init_state(w), box.init_state(w, [(3, 4)])
    for _ in range(12):
        g = torch.randn(12, generator=generator, dtype=torch.float64)
        expected, ours = twin.update(g, w, ours)
        found, theirs = box.update(g, w, theirs)
        assert torch.allclose(found, expected, rtol=1e-7, atol=1e-13)
        w = w + found


@pytest.mark.parametrize(
    "path",
    [
        "torch.optim:Adam",
        *(
            f"pytorch_optimizer:{name}"
            for name in ("ScheduleFreeAdamW", "Adan", "AggMo", "AdaShift", "MADGRAD", "SOAP")
        ),
    ],
)
def test_an_old_state_gives_the_same_again(path: str) -> None:
    box = black_box(path)
    w = torch.linspace(-1, 1, 8, dtype=torch.float64)
    state, states = box.init_state(w), []
    for k in range(5):
        g = torch.sin(w + k)
        states.append((g, w, state))
        update, state = box.update(g, w, state)
        w = w + update
    again = box.update(*states[3])[0]
    assert torch.equal(again, states[4][1] - states[3][1]) or torch.allclose(
        again, states[4][1] - states[3][1], atol=1e-15
    )


@pytest.mark.parametrize("name", ["AdamP", "Prodigy", "DAdaptAdam", "SGDP", "StableAdamW", "Shampoo"])
def test_what_looks_at_others_seldom_or_slowly_shows(name: str) -> None:
    assert not black_box(f"pytorch_optimizer:{name}").coordinatewise


def test_what_it_is_is_found_by_trying() -> None:
    adam, lamb = black_box("torch.optim:Adam"), black_box("pytorch_optimizer:Lamb")
    assert (adam.coordinatewise, adam.random, adam.state_cost) == (True, False, 2)
    assert lamb.coordinatewise is False


def test_it_is_recorded_and_identified() -> None:
    recording = cf.record("torch.optim:AdamW", "mlp-digits", steps=60, episodes=4, coordinates=24)
    found = nearest(recording)
    assert (found.verdict, found.matches[0].name) == ("exact", "adamw")
    assert found.matches[0].rule.constants["weight_decay"] == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(("path", "options", "name"), [("SGD", {"momentum": 0.9}, "momentum"), ("Adam", {}, "adam")])
def test_its_field_is_that_of_the_rule(path: str, options: dict, name: str) -> None:
    box = black_box(f"torch.optim:{path}", lr=cf.load_rule(name).lr, **options)
    found, exact = perception(box, lags=24, coordinates=8).gradient, perception(name, lags=24, coordinates=8).gradient
    assert found.by == "perturbation"
    assert found.sensitivity == pytest.approx(exact.sensitivity, rel=0.01, abs=1e-4 * max(exact.sensitivity))


def test_it_has_a_portrait_from_outside() -> None:
    seen = portrait(black_box("torch.optim:SGD", lr=0.01, momentum=0.9), lags=32)
    assert seen.settled is None
    assert seen.spectrum is not None
    assert seen.spectrum.impulse[1] / seen.spectrum.impulse[0] == pytest.approx(0.9, rel=1e-6)


def test_a_callable_of_ones_own() -> None:
    box = BlackBox(lambda parameters: torch.optim.SGD(parameters, lr=0.5), "mine")
    w = torch.zeros(3)
    assert box.update(torch.ones(3), w, box.init_state(w))[0].tolist() == [-0.5] * 3


class Forgetful(torch.optim.SGD):
    """Counts its steps where nobody looks."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.count = itertools.count()

    def step(self, closure=None):
        factor = next(self.count)
        for group in self.param_groups:
            group["params"][0].data.add_(-0.1 * factor * group["params"][0].grad)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: black_box("torch.optim:LBFGS"), "closure"),
        (lambda: black_box("torch.optim:SparseAdam"), "cannot take a step"),
        (lambda: black_box("torch.optim:Adam", learning_rate=1), "no option 'learning_rate'"),
        (lambda: black_box("torch.nn:Linear"), "no torch.optim.Optimizer"),
        (lambda: BlackBox(lambda parameters: Forgetful(parameters, lr=1.0), "forgetful"), "outside its state"),
        (lambda: BlackBox(lambda parameters: torch.optim.SGD(parameters, lr=float("inf")), "wild"), "not finite"),
        (lambda: BlackBox(lambda parameters: 3, "three"), "no torch.optim.Optimizer"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(make, told: str) -> None:
    with pytest.raises(OptionError, match=told) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_unknown_paths_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Adam"):
        load_optimizer("torch.optim:Adamm")
    with pytest.raises(UnknownNameError, match="cannot be imported"):
        load_optimizer("no_such_package:Adam")
