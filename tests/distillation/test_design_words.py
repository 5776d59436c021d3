"""Designs in words: published optimizers are called by their names, and every choice says something of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from closedform.distillation.designs._design import CHOICES, KINDS, Design
from closedform.distillation.designs._words import NAMED, in_words

ADAM = NAMED["Adam"]
MEANT = {
    "Adam": ADAM,
    "Adam, with decoupled weight decay": replace(ADAM, w="w"),
    "Adam, with coupled weight decay": replace(ADAM, x="decayed"),
    "Adam, the largest second moment so far (AMSGrad)": replace(ADAM, below="top"),
    "Adam, the second moment about the average (AdaBelief)": replace(ADAM, below="spread"),
    "Adam, its size with the gradient's sign (Grams)": replace(ADAM, form="size"),
    "Lion, with decoupled weight decay": replace(NAMED["Lion"], w="w"),
    "SGD, with averages of every second step (positive-negative momentum)": Design(above="pair"),
    "Rprop": Design(above="x", schedule="resilient"),
}


@pytest.mark.parametrize("words", MEANT)
def test_published_optimizers_are_called_by_their_names(words: str) -> None:
    assert in_words(MEANT[words], {}, [1.0, -0.5]).split(";")[0] == words


def test_constants_are_told_after_it() -> None:
    told = in_words(replace(ADAM, w="w"), {"d_m": 0.9, "d_v": 0.999, "eps": 1e-8}, [-1e-3, -1e-5])
    assert told.endswith(
        "; decay of the average 0.9, decay of the second moment 0.999, eps 1e-08, 1e-05 of the parameter taken off in "
        "each step"
    )


def test_no_two_choices_say_the_same() -> None:
    changed = [replace(ADAM, **{name: kind}) for name, kinds in CHOICES.items() for kind in kinds]
    every = {design: in_words(design, {}, [1.0, -0.5]) for design in {*KINDS, *NAMED.values(), *changed}}
    assert len(set(every.values())) == len(every)
    assert all("\n" not in told and len(told) < 300 for told in every.values())
