"""Rules as source for people and other systems: a torch optimizer, LaTeX, optax, numpy.

Each target is one row of `EXPORTERS`. What is exported needs no closedform.
"""

from __future__ import annotations

from pathlib import Path

from closedform._names import lookup
from closedform.export._latex import LATEX
from closedform.export._numpy import NUMPY
from closedform.export._optax import OPTAX
from closedform.export._python import PYTHON
from closedform.export._target import Exporter
from closedform.rules import Rule, load_rule

EXPORTERS: dict[str, Exporter] = {row.name: row for row in (PYTHON, LATEX, OPTAX, NUMPY)}


def export(rule: Rule | str | Path, to: str = "python") -> str:
    """A rule as the text of a file.

    Args:
        rule: A library name, a path to a rule file, or a `Rule`.
        to: Name of a target, see `EXPORTERS`.

    Raises:
        UnknownNameError: no such target or library rule; suggests the nearest.
        RuleError: the rule file is malformed.

    Example:
        >>> "class Adam(torch.optim.Optimizer):" in export("adam", "python")
        True
    """
    return lookup("export target", to, EXPORTERS).write(load_rule(rule))


__all__ = ["EXPORTERS", "Exporter", "export"]
