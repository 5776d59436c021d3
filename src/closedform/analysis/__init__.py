"""Read rules and learned optimizers: what they are, what they cost, how they answer to gradients, what is certain."""

from closedform.analysis._certify import Certificate, Certificates, certify
from closedform.analysis._explain import Curve, Explanation, equations, explain
from closedform.analysis._response import Response, ResponseCurves, response_curves
from closedform.analysis.perception import Perception, PerceptionCurve, perception

__all__ = [
    "Certificate",
    "Certificates",
    "Curve",
    "Explanation",
    "Perception",
    "PerceptionCurve",
    "Response",
    "ResponseCurves",
    "certify",
    "equations",
    "explain",
    "perception",
    "response_curves",
]
