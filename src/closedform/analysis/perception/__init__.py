"""How far back an optimizer looks: the temporal perception field."""

from closedform.analysis.perception._perception import Perception, PerceptionCurve, mean_response, perception

__all__ = ["Perception", "PerceptionCurve", "mean_response", "perception"]
