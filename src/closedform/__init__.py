"""Learn an optimizer, write it down as an equation, train your network with the equation.

    import closedform as cf

    rule = cf.load_rule("adam")
    optimizer = cf.RuleOptimizer(model.parameters(), rule, lr=1e-3)

Names are loaded when first used, so that training with a rule does not import what only learning one needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from closedform.optim import RuleOptimizer as RuleOptimizer
    from closedform.rules import Rule as Rule
    from closedform.rules import load_rule as load_rule
    from closedform.rules import save_rule as save_rule

_EXPORTS = {
    "Rule": "closedform.rules",
    "load_rule": "closedform.rules",
    "save_rule": "closedform.rules",
    "RuleOptimizer": "closedform.optim",
}
_SUBPACKAGES = ("errors", "features", "lang", "optim", "rules")

__all__ = sorted([*_EXPORTS, *_SUBPACKAGES])


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"closedform.{name}")
    raise AttributeError(f"module 'closedform' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
