"""Which known optimizer a recording is nearest to."""

from closedform.analysis.nearest._matches import Addition, Match, Nearest
from closedform.analysis.nearest._nearest import nearest

__all__ = ["Addition", "Match", "Nearest", "nearest"]
