"""How far back an optimizer looks: the temporal perception field."""

from closedform.analysis.perception._perception import Perception, PerceptionCurve, perception

__all__ = ["Perception", "PerceptionCurve", "perception"]
