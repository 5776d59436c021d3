"""Read rules and learned optimizers: what they are, what they cost, how they answer to gradients."""

from closedform.analysis._explain import Curve, Explanation, equations, explain

__all__ = ["Curve", "Explanation", "equations", "explain"]
