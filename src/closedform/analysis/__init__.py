"""Read rules and learned optimizers: what they are, what they cost, how they answer to gradients, what is certain."""

from closedform.analysis._certify import Certificate, Certificates, certify
from closedform.analysis._explain import Curve, Explanation, equations, explain

__all__ = ["Certificate", "Certificates", "Curve", "Explanation", "certify", "equations", "explain"]
