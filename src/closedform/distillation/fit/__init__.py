"""An equation's constants: fitted by least squares, decays included; smaller forms, pruned and rounded."""

from closedform.distillation.fit._prune import prune, reductions, round_constants
from closedform.distillation.fit._refine import refine

__all__ = ["prune", "reductions", "refine", "round_constants"]
