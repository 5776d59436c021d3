"""The paper's tables beside ours.

``REPRODUCTIONS`` lists them. Each is a function that takes the number of seeds, the folder to write its outcome to and
a function to call with its progress, and returns a `Reproduction`.
"""

from collections.abc import Callable

from closedform.reproduce._base import OnProgress, Reproduction
from closedform.reproduce._replay import replayed
from closedform.reproduce._sanity import SanityResult, SanityRow, sanity
from closedform.reproduce._targets import TARGETS, Target

REPRODUCTIONS: dict[str, Callable[..., Reproduction]] = {"sanity": sanity}

__all__ = [
    "REPRODUCTIONS",
    "TARGETS",
    "OnProgress",
    "Reproduction",
    "SanityResult",
    "SanityRow",
    "Target",
    "replayed",
    "sanity",
]
