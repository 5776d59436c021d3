"""Genetic programming by PySR (Cranmer 2023), the paper's engine, in a process of its own. It is experimental.

PySR needs Julia, so it is an extra, imported nowhere but in ``_pysr_worker.py``. The front comes back as the table of
equations that PySR keeps on disk. One seed gives one search: it runs on one thread, and only its last front is used.
One that is cut short by the time limit is not reproducible.

The tests put a stand-in in PySR's place that keeps to its documented settings and table; with PySR itself this has not
been run yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closedform.distillation._config import DistillConfig
from closedform.distillation.engines._outside import OutsideBackend

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
class PySRBackend(OutsideBackend):
    """The paper's engine; experimental: it has not been run against PySR itself."""

    name = "pysr"
    title = "PySR"
    needs = "PySR, which fetches Julia when first used"
    known = (*BINARY, *UNARY)
    spellings = JULIA_SPELLINGS
    worker: Path = _WORKER

    def settings(self, config: DistillConfig, seconds: float) -> dict[str, Any]:
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
