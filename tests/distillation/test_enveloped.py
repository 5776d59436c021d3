"""Directions under an envelope in progress: found with their constants, and only where there is one."""

from __future__ import annotations

import pytest
import torch

import closedform as cf
from closedform.distillation.stages._enveloped import FORMS, PROGRESS
from closedform.lang import evaluate, names, parse, to_text


def rule(envelope: str) -> cf.Rule:
    return cf.Rule.parse(
        "made",
        f"-({envelope})*(0.6*m_hat + 0.3*g_hat)",
        state={"m": "0.8*m + 0.2*g", "v": "0.95*v + 0.05*square(g)"},
        where={"g_hat": "g/(sqrt(v/(1 - 0.95**t)) + 1e-8)", "m_hat": "m/(sqrt(v/(1 - 0.95**t)) + 1e-8)"},
        lr=0.01,
    )


@pytest.mark.parametrize("envelope", ["exp(-1.3*square(progress))", "1 - 0.8*progress", "square(1 - 0.6*progress)"])
def test_an_envelope_is_found(envelope: str) -> None:
    features = ("g_hat", "m_hat", "progress")
    recording = cf.record(rule(envelope), "mlp-digits", features=features, steps=120, episodes=6)
    hall = cf.distill(recording, "sparse", time_limit=0, max_complexity=24)
    best = hall.choose(max_complexity=19, tolerance=0)
    assert best.error < 1e-6
    assert PROGRESS in names(parse(best.equation))


def test_it_says_nothing_without_progress() -> None:
    recording = cf.record("adam", "mlp-digits", features=("g", "m"), steps=30, episodes=3)
    assert all(entry.stage != "enveloped" for entry in cf.distill(recording, "sparse", time_limit=0).entries)


@pytest.mark.parametrize("form", FORMS)
def test_envelopes_begin_at_one_and_stay_positive(form: str) -> None:
    make, constants = FORMS[form]
    progress = torch.linspace(0, 0.95, 20, dtype=torch.float64)
    for k in constants:
        values = evaluate(parse(to_text(make(k))), {PROGRESS: progress})
        assert float(values[0]) == pytest.approx(1)
        assert bool((values > 0).all())
