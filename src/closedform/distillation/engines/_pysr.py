"""Genetic programming by PySR (Cranmer 2023), the paper's engine, in a process of its own. It is experimental.

PySR needs Julia, so it is an extra, imported nowhere but in ``_pysr_worker.py``. The front comes back as the table of
equations that PySR keeps on disk. One seed gives one search: it runs on one thread, and only its last front is used.
One that is cut short by the time limit is not reproducible.

The tests put a stand-in in PySR's place that keeps to its documented settings and table; with PySR itself this has not
been run yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from closedform.distillation._config import DistillConfig
from closedform.distillation.engines._base import Found
from closedform.distillation.engines._outside import check_operators, is_installed, missing, search_outside

PAPER_OPERATORS = (
    *("add", "mul", "div", "spow", "greater", "relu", "exp", "tanh", "sinh", "asinh", "erfc"),
    *("square", "cube", "abs", "sign", "slog", "ssqrt"),
)
"""The operators of the paper's symbolic regression; its pow, logm and sqrtm are spow, slog and ssqrt here."""
BINARY = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "^",
    "min": "min",
    "max": "max",
    "greater": "greater",
    "spow": "spow(x, y) = sign(x) * abs(x)^y",
}
UNARY = {name: name for name in "abs sign sqrt square cube exp log tanh sinh asinh erf erfc relu neg".split()}
UNARY |= {"ssqrt": "ssqrt(x) = sqrt(abs(x))", "slog": "slog(x) = log(abs(x) + 1e-8)"}
"""The language's operators as PySR takes them: names of its own, or definitions in Julia."""
JULIA_SPELLINGS = {"neg": "-"}
"""PySR's functions that the language writes otherwise."""
POPULATION = 33
"""Individuals of one of PySR's populations; it evolves several side by side."""
_WORKER = Path(__file__).with_name("_pysr_worker.py")


@dataclass
class PySRBackend:
    """The paper's engine; experimental: it has not been run against PySR itself.

    Attributes:
        worker: The script that runs it.
    """

    name: str = field(default="pysr", init=False)
    worker: Path = _WORKER

    def check(self, config: DistillConfig) -> None:
        """Raise OptionError if PySR is not installed, DistillationError if it lacks one of the operators."""
        if not is_installed("pysr"):
            raise missing("pysr", "PySR", "pysr", ", which fetches Julia when first used")
        check_operators("pysr", config.operators, (*BINARY, *UNARY))

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        """Search, yielding the least error now and then, and at the end the front.

        Args:
            columns: Name -> values, [N], finite.
            y: The update, [N], finite and not constant.
            config: Operators, sizes and seed; ``generations`` are PySR's iterations.
            deadline: ``time.monotonic()`` at which to stop.

        Raises:
            DistillationError: PySR fails; with the last line that it said.
        """
        settings = _settings(config, deadline - time.monotonic())
        return search_outside(
            "PySR", self.worker, settings, columns, y, config.generations, deadline, spellings=JULIA_SPELLINGS
        )


def _settings(config: DistillConfig, seconds: float) -> dict[str, Any]:
    return {
        "binary_operators": [BINARY[name] for name in config.operators if name in BINARY],
        "unary_operators": [UNARY[name] for name in config.operators if name in UNARY],
        "niterations": config.generations,
        "population_size": POPULATION,
        "populations": max(1, round(config.population / POPULATION)),
        "maxsize": max(7, config.max_complexity),  # PySR refuses less
        "timeout_in_seconds": max(seconds, 1.0),
        "random_state": config.seed,
        "deterministic": True,
        "parallelism": "serial",
        "precision": 64,
        "progress": False,
        "verbosity": 0,
        "delete_tempfiles": False,
    }
