"""Which known optimizer a recording is nearest to."""

from closedform.analysis.nearest._nearest import Addition, Match, Nearest, nearest

__all__ = ["Addition", "Match", "Nearest", "nearest"]
