"""The paper's tables beside ours.

``REPRODUCTIONS`` lists them. Each is a function that takes the number of seeds, the folder to write its outcome to and
a function to call with its progress, and returns a `Reproduction`.
"""

from collections.abc import Callable

from closedform.reproduce._base import Reproduction
from closedform.reproduce._interpretability import interpretability
from closedform.reproduce._interpretability_result import InterpretabilityResult
from closedform.reproduce._interpretability_statements import Statement
from closedform.reproduce._numerical import NumericalResult, NumericalRow, numerical
from closedform.reproduce._r2 import r2
from closedform.reproduce._r2_result import LossRow, R2Result, R2Row
from closedform.reproduce._replay import replayed
from closedform.reproduce._sanity import SanityResult, SanityRow, sanity
from closedform.reproduce._targets import TARGETS, Target
from closedform.reproduce._unseen import unseen
from closedform.reproduce._unseen_numbers import HorizonRow, UnseenRow
from closedform.reproduce._unseen_result import UnseenResult

REPRODUCTIONS: dict[str, Callable[..., Reproduction]] = {
    "interpretability": interpretability,
    "numerical": numerical,
    "r2": r2,
    "sanity": sanity,
    "unseen": unseen,
}

__all__ = [
    "REPRODUCTIONS",
    "TARGETS",
    "HorizonRow",
    "InterpretabilityResult",
    "LossRow",
    "NumericalResult",
    "NumericalRow",
    "R2Result",
    "R2Row",
    "Reproduction",
    "SanityResult",
    "SanityRow",
    "Statement",
    "Target",
    "UnseenResult",
    "UnseenRow",
    "interpretability",
    "numerical",
    "r2",
    "replayed",
    "sanity",
    "unseen",
]
