"""An equation's constants: fitted by least squares, decays included, pruned and rounded."""

from closedform.distillation.fit._refine import prune, reductions, refine, round_constants

__all__ = ["prune", "reductions", "refine", "round_constants"]
