"""What is searched over: rows of a recording or a table, the states that may be added, and candidate equations.

Recordings, tables and screens each build one `Problem`; a `Candidate` is an equation over it with the averages and
recurrences that it needs, and `compose_rule` writes it down as a whole rule.
"""

from closedform.distillation.problem._candidate import (
    DIGITS,
    WHOLE,
    Average,
    Candidate,
    constant_name,
    equation,
    floors,
    lift_constants,
    nodes,
    put_constants,
    with_decays,
)
from closedform.distillation.problem._compose import compose, compose_rule, state_names
from closedform.distillation.problem._episodes import Episodes
from closedform.distillation.problem._problem import BIG, UNCOUNTED, Part, Problem, at_rows, prepare, subset
from closedform.distillation.problem._samples import Samples, Sequences
from closedform.distillation.problem._scaling import Scaled
from closedform.distillation.problem._sequences import Tape, run_recurrences
from closedform.distillation.problem._table_files import READERS, load_table
from closedform.distillation.problem._tables import Table, checked
from closedform.distillation.problem._windows import KNOWN, SIGNAL, Window

__all__ = [
    "BIG",
    "DIGITS",
    "KNOWN",
    "READERS",
    "SIGNAL",
    "UNCOUNTED",
    "WHOLE",
    "Average",
    "Candidate",
    "Episodes",
    "Part",
    "Problem",
    "Samples",
    "Scaled",
    "Sequences",
    "Table",
    "Tape",
    "Window",
    "at_rows",
    "checked",
    "compose",
    "compose_rule",
    "constant_name",
    "equation",
    "floors",
    "lift_constants",
    "load_table",
    "nodes",
    "prepare",
    "put_constants",
    "run_recurrences",
    "state_names",
    "subset",
    "with_decays",
]
