"""Read rules and learned optimizers: what they are, what they cost, how they answer to gradients, what is certain."""

from closedform.analysis._certify import Certificate, Certificates, certify
from closedform.analysis._explain import Curve, Explanation, equations, explain
from closedform.analysis._response import Response, ResponseCurves, response_curves
from closedform.analysis.comparison import Comparison, ComparisonRow, Map, classical_scaling, compare
from closedform.analysis.nearest import Addition, Match, Nearest, nearest
from closedform.analysis.perception import Perception, PerceptionCurve, perception
from closedform.analysis.portrait import Portrait, portrait

__all__ = [
    "Addition",
    "Certificate",
    "Certificates",
    "Comparison",
    "ComparisonRow",
    "Curve",
    "Explanation",
    "Map",
    "Match",
    "Nearest",
    "Perception",
    "PerceptionCurve",
    "Portrait",
    "Response",
    "ResponseCurves",
    "certify",
    "classical_scaling",
    "compare",
    "equations",
    "explain",
    "nearest",
    "perception",
    "portrait",
    "response_curves",
]
