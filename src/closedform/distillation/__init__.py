"""Distillation: from a recording of an optimizer at work to rules that do the same.

``BACKENDS`` is the table of symbolic regression engines. A new one is a class with ``search`` in a file of its own, and
a line there.
"""

from closedform.distillation._config import DistillConfig, OnProgress, Progress
from closedform.distillation._distill import BACKENDS, Backend, distill
from closedform.distillation._hall import Entry, HallOfFame

__all__ = ["BACKENDS", "Backend", "DistillConfig", "Entry", "HallOfFame", "OnProgress", "Progress", "distill"]
