"""The networks that the tables are about: those whose weights ship; and what the paper reports of their kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from closedform._names import lookup
from closedform.errors import OptionError
from closedform.learned_optimizers import PRETRAINED, LearnedOptimizer, load_learned_optimizer


@dataclass(frozen=True)
class Reported:
    """What the paper (table of interpretability and performance; table of R^2) reports of a network's kind.

    Attributes:
        losses: Model -> mean minibatch training loss after about 620 steps on the MNIST MLP, and its deviation.
        distilled: The same of the distilled rules.
        r2: R^2 of the distilled rule on training-like problems (P1) and on others (P2); None where there is none.
        asked_r2: R^2 on P1 that this project asks for.
        max_complexity, max_state_cost: Nodes and buffers a parameter within which it asks for it; None: any.
    """

    losses: Mapping[str, tuple[float, float]]
    distilled: Mapping[str, tuple[float, float]]
    r2: tuple[float, float] | None = None
    asked_r2: float | None = None
    max_complexity: int = 30
    max_state_cost: int | None = None


REPORTED: dict[str, Reported] = {
    "dm": Reported(
        {"DM": (0.23, 0.13), "DM+CL+IL": (0.19, 0.16)},
        {"DM": (0.33, 0.26), "DM+CL+IL": (0.33, 0.19)},
        (0.46, 0.54),
        0.95,
        max_complexity=40,
        max_state_cost=6,
    ),
    "rp": Reported(
        {"RP": (0.12, 0.07), "RP+CL+IL": (0.11, 0.04)},
        {"RP": (0.14, 0.09), "RP+CL+IL": (0.12, 0.09)},
        (0.93, 0.94),
        0.98,
    ),
    "rp-s": Reported({"RP_s": (0.09, 0.05)}, {"RP_s": (0.10, 0.06)}),
    "rp-si": Reported({"RP_si": (0.08, 0.05)}, {"RP_si": (0.09, 0.04)}, (0.94, 0.94), 0.98),
}
"""Name of a network -> what the paper reports of its kind."""
NONE = Reported({}, {})


def reported(name: str) -> Reported:
    """What the paper reports of a network's kind; nothing of one that it does not have."""
    return REPORTED.get(name, NONE)


def shipped(names: Sequence[str] | None = None) -> dict[str, LearnedOptimizer]:
    """The networks that ship, by name; those that the paper has first, in its order.

    Args:
        names: Only these.

    Raises:
        OptionError: none ship.
        UnknownNameError: no weights ship under one of the names; suggests the nearest.
    """
    if not PRETRAINED:
        raise OptionError("no weights ship with this installation; meta-train networks first: closedform train")
    for name in names or ():
        lookup("network with weights", name, PRETRAINED)
    order = dict.fromkeys([*(name for name in REPORTED if name in PRETRAINED), *PRETRAINED])
    return {name: load_learned_optimizer(name) for name in order if names is None or name in names}
