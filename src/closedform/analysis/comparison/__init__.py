"""Optimizers side by side, and a map of them."""

from closedform.analysis.comparison._comparison import Comparison, ComparisonRow, compare
from closedform.analysis.comparison._map import Map, classical_scaling, distances

__all__ = ["Comparison", "ComparisonRow", "Map", "classical_scaling", "compare", "distances"]
