from __future__ import annotations

import re
from html import unescape

import pytest

from closedform.evaluation import Baseline, Evaluation, EvaluationOptions, evaluate
from closedform.report import final_losses, loss_curves, profile_plot
from closedform.report._plots import Panel, responses, tuning_curves
from closedform.rules import load_rule

ODD = ["_hidden", "__", "$x_{$", "a $ b", r"\alpha $x$", "<b> & c"]
"""Names that matplotlib would leave out of a legend, set as mathematics, or not take at all."""


def texts(svg: str) -> list[str]:
    """What is written in a plot, without characters that are not seen."""
    return [unescape(text).strip("\N{ZERO WIDTH SPACE}") for text in re.findall(r"<text[^>]*>([^<]+)</text>", svg)]


@pytest.fixture(scope="module")
def odd() -> Evaluation:
    options = EvaluationOptions(workers=1, tuning_seeds=1, tail=2, resamples=19, extensions=0)
    rules = dict.fromkeys(ODD, load_rule("sgd"))
    tuned = {f"tuned {name}": Baseline(load_rule("sgd"), name, (0.01, 0.1)) for name in ODD}
    return evaluate(rules | tuned, ["quadratic"], steps=5, seeds=2, baselines=(), options=options)


@pytest.mark.parametrize("plot", [loss_curves, final_losses])
def test_learned_optimizers_are_called_what_they_are(odd: Evaluation, plot: object) -> None:
    assert callable(plot)
    assert set(ODD) <= set(texts(plot([entry for entry in odd.entries if entry.kind == "rule"], "name")))


def test_baselines_are_called_what_they_are(odd: Evaluation) -> None:
    assert set(ODD) <= set(texts(tuning_curves(odd.entries, "name")))


def test_labels_of_profiles_and_responses_are_shown() -> None:
    assert set(ODD) <= set(texts(profile_plot({name: [1.0, 2.0] for name in ODD}, ODD[:2], "name")))
    panel = Panel("title", "x", (0.0, 1.0), None, None, dict.fromkeys(ODD, (0.0, 1.0)), {})
    assert set(ODD) <= set(texts(responses([panel], "name")))
