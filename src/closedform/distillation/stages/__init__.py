"""The quick stages, in order, and small networks written as equations: each proposes candidates over the data."""

from closedform.distillation.stages._gated import gated, units
from closedform.distillation.stages._quick import FITTED, STAGES, bound_of

__all__ = ["FITTED", "STAGES", "bound_of", "gated", "units"]
