"""Genetic programming with equality saturation by eggp (de Franca and Kronberger 2025), in a process of its own.

eggp keeps all that it has seen in an e-graph, so that one equation is not visited twice in two spellings. It is an
extra under the GPL, imported nowhere but in ``_eggp_worker.py``. A search of its own cannot be looked into: it is run
round after round, each with twice the generations, and its front is kept between rounds. It takes no seed, so that a
search cannot be repeated exactly; ours only chooses the order of rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closedform.distillation._config import DEFAULT_OPERATORS, DistillConfig
from closedform.distillation.engines._outside import OutsideBackend

NONTERMINALS = {
    **{name: name for name in "add sub mul div abs sqrt square cube exp log tanh sinh asinh".split()},
    "pow": "power",
    "ssqrt": "sqrtabs",
    "slog": "logabs",
}
"""The language's operators -> eggp's."""
EGGP_SPELLINGS = {
    "ASinh": "asinh",
    **{name.capitalize(): name for name in "abs sqrt square cube exp log tanh sinh".split()},
    "Recip": "1/",
}
"""The functions in eggp's texts -> the language's."""
LARGEST = 100
"""Nodes past which eggp itself refuses to search."""
_WORKER = Path(__file__).with_name("_eggp_worker.py")


@dataclass
class EggpBackend(OutsideBackend):
    """Genetic programming over an e-graph. Operators left at their default are those of them that eggp has."""

    name = "eggp"
    title = "eggp"
    needs = "the package eggp"
    known = tuple(NONTERMINALS)
    spellings = EGGP_SPELLINGS
    worker: Path = _WORKER

    def settings(self, config: DistillConfig, seconds: float) -> dict[str, Any]:
        return {
            "nonterminals": ",".join(NONTERMINALS[name] for name in self.operators(config)),
            "generations": config.generations,
            "population": max(10, config.population // 10),  # it fits constants from several starts
            "size": min(LARGEST, config.max_complexity),
            "seed": config.seed,
        }

    def operators(self, config: DistillConfig) -> tuple[str, ...]:
        if config.operators == DEFAULT_OPERATORS:
            return tuple(name for name in DEFAULT_OPERATORS if name in NONTERMINALS)
        return config.operators

    def environment(self, config: DistillConfig) -> dict[str, str]:
        return {"GHCRTS": f"-N{config.threads}"}
