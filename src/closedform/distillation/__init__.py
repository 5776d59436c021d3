"""Distillation: from a recording of an optimizer at work to rules that do the same.

``BACKENDS`` is the table of symbolic regression engines. A new one is a class with ``search`` in a file of its own, and
a line there.
"""

from closedform.distillation._config import DistillConfig, OnProgress, Progress
from closedform.distillation._distill import BACKENDS, Backend, distill
from closedform.distillation._equations import Equation, EquationHall, distill_table
from closedform.distillation._hall import Entry, HallOfFame
from closedform.distillation._pysr import PAPER_OPERATORS
from closedform.distillation._symmetries import CHOICES as SYMMETRIES
from closedform.distillation._table import Table
from closedform.distillation._table_files import READERS, load_table

__all__ = [
    "BACKENDS",
    "PAPER_OPERATORS",
    "READERS",
    "SYMMETRIES",
    "Backend",
    "DistillConfig",
    "Entry",
    "Equation",
    "EquationHall",
    "HallOfFame",
    "OnProgress",
    "Progress",
    "Table",
    "distill",
    "distill_table",
    "load_table",
]
