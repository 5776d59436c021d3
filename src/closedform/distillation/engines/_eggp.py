"""Genetic programming with equality saturation by eggp (de Franca and Kronberger 2025), in a process of its own.

eggp keeps all that it has seen in an e-graph, so that one equation is not visited twice in two spellings. It is an
extra under the GPL, imported nowhere but in ``_eggp_worker.py``. A search of its own cannot be looked into: it is run
round after round, each with twice the generations, and its front is kept between rounds. It takes no seed, so that a
search cannot be repeated exactly; ours only chooses the order of rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from closedform.distillation._config import DEFAULT_OPERATORS, DistillConfig
from closedform.distillation.engines._base import Found
from closedform.distillation.engines._outside import check_operators, is_installed, missing, search_outside

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
class EggpBackend:
    """Genetic programming over an e-graph.

    Attributes:
        worker: The script that runs it.
    """

    name: str = field(default="eggp", init=False)
    worker: Path = _WORKER

    def check(self, config: DistillConfig) -> None:
        """Raise OptionError if eggp is not installed, DistillationError if it lacks one of the operators."""
        if not is_installed("eggp"):
            raise missing("eggp", "the package eggp", "eggp")
        check_operators("eggp", _operators(config), tuple(NONTERMINALS))

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        """Search, yielding the least error now and then, and at the end the front.

        Args:
            columns: Name -> values, [N], finite.
            y: The update, [N], finite and not constant.
            config: Operators, sizes, seed and threads. Operators that were left at their default are those of them
                that eggp has.
            deadline: ``time.monotonic()`` at which to stop.

        Raises:
            DistillationError: eggp fails; with the last line that it said.
        """
        settings = {
            "nonterminals": ",".join(NONTERMINALS[name] for name in _operators(config)),
            "generations": config.generations,
            "population": max(10, config.population // 10),  # it fits constants from several starts
            "size": min(LARGEST, config.max_complexity),
            "seed": config.seed,
        }
        return search_outside(
            "eggp",
            self.worker,
            settings,
            columns,
            y,
            config.generations,
            deadline,
            spellings=EGGP_SPELLINGS,
            environment={"GHCRTS": f"-N{config.threads}"},
        )


def _operators(config: DistillConfig) -> tuple[str, ...]:
    if config.operators == DEFAULT_OPERATORS:
        return tuple(name for name in DEFAULT_OPERATORS if name in NONTERMINALS)
    return config.operators
