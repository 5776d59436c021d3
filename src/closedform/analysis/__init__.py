"""Read rules and learned optimizers: what they are, what they cost, how they answer to gradients, what is certain."""

from closedform.analysis._certify import Certificate, Certificates, certify
from closedform.analysis._explain import Curve, Explanation, equations, explain
from closedform.analysis._response import Response, ResponseCurves, response_curves
from closedform.analysis.perception import Perception, PerceptionCurve, perception
from closedform.analysis.portrait import Portrait, portrait

__all__ = [
    "Certificate",
    "Certificates",
    "Curve",
    "Explanation",
    "Perception",
    "PerceptionCurve",
    "Portrait",
    "Response",
    "ResponseCurves",
    "certify",
    "equations",
    "explain",
    "perception",
    "portrait",
    "response_curves",
]
