"""Read rules and learned optimizers: what they are, what they cost, how they answer to gradients, what is certain."""

from closedform.analysis._certify import Certificate, Certificates, certify
from closedform.analysis._explain import Curve, Explanation, equations, explain
from closedform.analysis._response import Response, ResponseCurves, response_curves

__all__ = [
    "Certificate",
    "Certificates",
    "Curve",
    "Explanation",
    "Response",
    "ResponseCurves",
    "certify",
    "equations",
    "explain",
    "response_curves",
]
