"""Distillation: from a recording of an optimizer at work to rules that do the same.

``BACKENDS`` is the table of symbolic regression engines. A new one is a class with ``search`` in a file of its own, and
a line there.
"""

from closedform.distillation._config import SYMMETRIES, DistillConfig
from closedform.distillation._distill import distill
from closedform.distillation._equations import Equation, EquationHall, distill_table
from closedform.distillation._hall import Entry, HallOfFame
from closedform.distillation._regressor import SymbolicRegressor
from closedform.distillation._select import Selection, Trial, select, select_closed_loop
from closedform.distillation.engines import BACKENDS, PAPER_OPERATORS, Backend
from closedform.distillation.problem import READERS, Table, load_table

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
    "Selection",
    "SymbolicRegressor",
    "Table",
    "Trial",
    "distill",
    "distill_table",
    "load_table",
    "select",
    "select_closed_loop",
]
