"""Symbolic regression engines: each searches equations over columns, front by front.

``BACKENDS`` is their table. A new one is a class with ``check`` and ``search`` in a file of its own, and a line there.
"""

from closedform.distillation.engines._base import Backend, Found, NoSearch
from closedform.distillation.engines._eggp import EggpBackend
from closedform.distillation.engines._operon import OperonBackend
from closedform.distillation.engines._pysr import PAPER_OPERATORS, PySRBackend

BACKENDS: dict[str, Backend] = {
    "operon": OperonBackend(),
    "eggp": EggpBackend(),
    "pysr": PySRBackend(),
    "sparse": NoSearch(),
}
"""Name -> engine; ``"sparse"`` searches no further than the quick stages."""

__all__ = ["BACKENDS", "PAPER_OPERATORS", "Backend", "Found"]
