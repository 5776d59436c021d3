"""Hand-designed optimizers are recovered from gradients and updates alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from open_loop import updates_of

from closedform.distillation import DistillConfig, Entry, distill
from closedform.distillation.problem._candidate import Average
from closedform.distillation.problem._problem import prepare
from closedform.distillation.problem._samples import Samples
from closedform.distillation.problem._states import run_average
from closedform.distillation.stages._recurrences import recurrences
from closedform.distillation.stages._screen import Screen
from closedform.distillation.stages._signs import _shortest
from closedform.distillation.stages._sums import best_pairs
from closedform.rules import Rule, load_rule
from closedform.trajectories import Trajectories, record

MakeRecording = Callable[..., Trajectories]
SHORT = {"steps": 60, "episodes": 3, "samples": 2000, "seed": 1}
NO_SEARCH = {"generations": 0, "threads": 1}

RECOVERED: dict[str, tuple[str, dict[str, float], dict[str, float]]] = {
    "momentum": ("momentum", {"beta": 0.6}, {"d_m": 0.6}),
    "nesterov": ("nesterov", {}, {"d_m": 0.9}),
    "adam 0.9": ("adam", {"beta2": 0.9}, {"d_m": 0.9, "d_v": 0.9}),
    "adam": ("adam", {}, {"d_m": 0.9, "d_v": 0.999}),
    "rmsprop": ("rmsprop", {}, {"d_v": 0.99}),
    "adabelief": ("adabelief", {}, {"d_m": 0.9, "d_s": 0.999}),
    "adamax": ("adamax", {}, {"d_m": 0.9, "d_u": 0.999}),
    "amsgrad": ("amsgrad", {}, {"d_m": 0.9, "d_v_max": 0.999}),
    "lion": ("lion", {}, {"d_m": 0.99}),
    "lion, other": ("lion", {"beta1": 0.95, "beta2": 0.98}, {"d_m": 0.98}),
    "signum": ("signum", {}, {"d_m": 0.9}),
}
"""Library rule and constants that are set; decays that are found. The rest shows in updates."""


def gradients_at(scale: float) -> torch.Tensor:
    """Fresh gradients [T, N] of that size, in runs, so that averages are not all near 0."""
    noise = torch.randn(80, 300, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return scale * (noise + noise.cumsum(dim=0) / 10)


def assert_same_updates(found: Rule, original: Rule, size: float, w: torch.Tensor | None = None) -> None:
    """On fresh gradients of about that root mean square, and of ten times that."""
    for scale in (size, 10 * size):
        g = gradients_at(scale)
        expected = updates_of(original, g, w)
        tolerance = 1e-6 * float(expected.abs().mean())
        torch.testing.assert_close(updates_of(found, g, w), expected, rtol=0, atol=tolerance)


def recovered(recording: Trajectories, **options: Any) -> Entry:
    return distill(recording, **{**NO_SEARCH, **options}).choose(tolerance=1e-8)


def decays(rule: Rule) -> dict[str, float]:
    return {name: value for name, value in rule.constants.items() if name.startswith("d_")}


@pytest.mark.parametrize("case", RECOVERED)
def test_library_rules_are_recovered_exactly(case: str) -> None:
    name, constants, expected = RECOVERED[case]
    original = load_rule(name).with_constants(**constants)
    recording = record(original, "mlp-digits", features=("g",), **SHORT)
    entry = recovered(recording)
    assert (decays(entry.rule), entry.state_cost) == (expected, original.state_cost)
    assert_same_updates(entry.rule, original, float(recording.gradients.square().mean().sqrt()))
    assert entry.stage == "recurrences"
    assert Rule.from_json(entry.rule.to_json()) == entry.rule
    again = record(entry.rule, "mlp-digits", features=("g",), **SHORT)  # in closed loop
    size = recording.episode_updates.abs().mean()
    off = (again.episode_updates - recording.episode_updates)[:, :30].abs().mean()
    assert off < (0.02 if name in ("lion", "signum") else 1e-3) * size


def torch_updates(make: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.Tensor]:
    """A formula for recordings: what an optimizer of torch does with the gradients."""

    def formula(past: Callable[[int], torch.Tensor]) -> torch.Tensor:
        gradients, updates = past(0).transpose(0, 1), []
        w = torch.zeros_like(gradients[0], requires_grad=True)
        optimizer = make([w])
        for g in gradients:
            before, w.grad = w.detach().clone(), g.clone()
            optimizer.step()
            updates.append(w.detach() - before)
        return torch.stack(updates, dim=1)

    return formula


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda w: torch.optim.Adam(w, lr=0.02, betas=(0.8, 0.95), eps=1e-3), {"d_m": 0.8, "d_v": 0.95}),
        (lambda w: torch.optim.RMSprop(w, lr=0.05, alpha=0.7, eps=0.1), {"d_v": 0.7}),
        (lambda w: torch.optim.Adagrad(w, lr=0.1, eps=0.01), {}),
        (lambda w: torch.optim.SGD(w, lr=0.5, momentum=0.75), {"d_m": 0.75}),
        (lambda w: torch.optim.SGD(w, lr=0.5, momentum=0.8, nesterov=True), {"d_m": 0.8}),
    ],
    ids=["adam", "rmsprop", "adagrad", "momentum", "nesterov"],
)
def test_optimizers_of_torch_are_recovered(
    make_recording: MakeRecording, make: Any, expected: dict[str, float]
) -> None:
    entry = recovered(make_recording(torch_updates(make)))
    assert decays(entry.rule) == pytest.approx(expected, abs=1e-6)
    g = gradients_at(1.0)
    updates = torch_updates(make)(lambda lag: g[None])[0]
    torch.testing.assert_close(updates_of(entry.rule, g), updates, rtol=0, atol=1e-5 * float(updates.abs().mean()))


def test_weight_decay_is_found_where_the_parameter_was_recorded() -> None:
    decaying = load_rule("adamw").with_constants(weight_decay=0.3)
    recording = record(decaying, "mlp-digits", features=("g", "w"), **SHORT)
    rule = recovered(recording).rule
    assert decays(rule) == {"d_m": 0.9, "d_v": 0.999}
    w = torch.linspace(-2, 2, 300, dtype=torch.float64)
    assert_same_updates(rule, decaying, float(recording.gradients.square().mean().sqrt()), w)


def test_eleven_lags_and_a_mixture_need_no_recorded_window(make_recording: MakeRecording) -> None:
    lags = recovered(make_recording(lambda g: sum((1 - 0.1 * k) * g(k) for k in range(11))))
    assert lags.r2 > 1 - 1e-12
    g = gradients_at(1.0)
    past = [torch.cat([torch.zeros_like(g[:k]), g[: len(g) - k]]) for k in range(11)]
    assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    assert_close(updates_of(lags.rule, g), sum((1 - 0.1 * k) * past[k] for k in range(11)))
    assert lags.state_cost == 9
    mixture = recovered(make_recording(lambda g: g(0) ** 2 + g(1) + 2 * g(2) + torch.exp(g(4)), coordinates=20))
    assert_close(updates_of(mixture.rule, g), past[0] ** 2 + past[1] + 2 * past[2] + torch.exp(past[4]))
    assert mixture.state_cost == 4


def test_nothing_is_searched_where_the_gradient_or_averages_are_missing(make_recording: MakeRecording) -> None:
    other = prepare(Samples.of(make_recording(lambda g: -g(0), features=("m_tilde",))), DistillConfig())
    assert not list(recurrences(other, DistillConfig()))
    own = prepare(Samples.of(make_recording(lambda g: -g(0))), DistillConfig())
    assert not list(recurrences(own, DistillConfig(decays=())))
    assert list(recurrences(own, DistillConfig()))


def test_a_screen_holds_what_comes_before_anything_not_finite(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: -g(0), steps=40)
    recording.episode_updates[:, 25, 3] = torch.nan
    screen = Screen(prepare(Samples.of(recording), DistillConfig()))
    assert len(screen.y) == 3 * (11 * 40 + 25)  # one of four episodes is held out
    np.testing.assert_array_equal(screen.y, -screen.g)
    assert np.isfinite(screen.values(Average("g", 0.9, corrected=True))).all()


def test_averages_of_every_kind(generator: torch.Generator) -> None:
    g = torch.randn(2, 30, generator=generator, dtype=torch.float64).numpy()
    about = Average("g", 0.6)
    kinds: dict[str, tuple[Average, Callable[..., np.ndarray]]] = {
        "mean": (Average("g", 0.9, "abs"), lambda s, x, m: 0.9 * s + 0.1 * abs(x)),
        "peak": (Average("g", 0.9, "abs", kind="peak"), lambda s, x, m: np.maximum(0.9 * s, abs(x))),
        "sum": (Average("g", 0.9, "square", kind="sum"), lambda s, x, m: s + x * x),
        "about": (Average("g", 0.9, "square", about=about), lambda s, x, m: 0.9 * s + 0.1 * (x - m) ** 2),
    }
    g_squares = run_average(Average("g", 0.9, "square"), {"g": g}, {})
    tops = run_average(Average("g", 0.9, "square", kind="top"), {"g": g}, {})
    np.testing.assert_array_equal(tops, [[max(row[: k + 1]) for k in range(30)] for row in g_squares])
    for average, recurrence in kinds.values():
        s, m = np.zeros(2), np.zeros(2)
        found = run_average(average, {"g": g}, {})
        for step in range(30):
            m = 0.6 * m + 0.4 * g[:, step]
            s = recurrence(s, g[:, step], m)
            np.testing.assert_allclose(found[:, step], s, rtol=1e-12)


def test_the_best_pair_of_columns_is_found(generator: torch.Generator) -> None:
    table = torch.randn(300, 8, generator=generator, dtype=torch.float64).numpy()
    y = 0.5 * table[:, 3] - 2 * table[:, 6] + 1e-3 * table[:, 1]
    pairs = dict(best_pairs(table, y))
    assert pairs[(3, 6)] == pytest.approx((0.5, -2), abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.1, 0.2, 0.0), (0.0996, 0.1003, 0.1), (0.03155, 0.0316, 0.0316), (2.0, 5.0, 4.0), (3.0, float("inf"), 3.0)],
)
def test_the_shortest_number_of_an_interval(low: float, high: float, expected: float) -> None:
    assert _shortest(low, high) == expected
