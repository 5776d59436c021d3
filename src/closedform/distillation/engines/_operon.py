"""Genetic programming by pyoperon: NSGA-II on fit and length, constants by Levenberg-Marquardt.

The engine works in single precision and aborts the process on wrong shapes, so it is given its own float64 copies,
scaled to unit spread, and is never asked to predict. It runs in chunks of a few generations, each with a seed of its
own: between chunks there is progress, the time limit, and the keyboard. Bounded by generations, a run depends on its
seed alone, whatever the number of threads.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from closedform.distillation._config import DistillConfig
from closedform.distillation.engines._base import Found, unscaled
from closedform.distillation.engines._operon_trees import SYMBOLS, read_tree
from closedform.errors import DistillationError, OptionError
from closedform.lang import Number, Symbol, apply

CHUNK = 5
"""Generations between two looks at the clock."""
MOST_SECONDS = 10**6
"""What the engine is told at most."""
PATIENCE = 3
"""Chunks without an improvement of 1 % of the error after which a new population is begun."""
ENOUGH = 1e-6
"""1 - R^2 at which the search ends: the engine computes in single precision."""
_LEAST_LENGTH = 20
"""Nodes that individuals may always have: a search that cannot grow does not find. What is too large is pruned."""


@dataclass
class OperonBackend:
    """The default back end."""

    name: str = field(default="operon", init=False)

    def check(self, config: DistillConfig) -> None:
        """Raise OptionError if pyoperon is not installed, DistillationError if it lacks one of the operators."""
        _engine()
        _symbols(config.operators, {})

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        """Search, yielding the front after every chunk of generations.

        Args:
            columns: Name -> values, [N], finite; names as they shall appear in the equations.
            y: The update, [N], finite and not constant.
            config: Operators, sizes, seed, threads.
            deadline: ``time.monotonic()`` past which no chunk is begun.

        Raises:
            OptionError: pyoperon is not installed.
            DistillationError: it lacks one of the operators.
        """
        symbols = _symbols(config.operators, columns)
        regressor = _engine()(**_settings(config, symbols))
        spreads = {name: float(values.std()) or 1.0 for name, values in columns.items()}
        design = np.array(np.column_stack([columns[name] / spreads[name] for name in columns]), np.float64, order="C")
        centre, spread = float(y.mean()), float(y.std())
        target = np.array((y - centre) / spread, np.float64, order="C")
        raw = {name: apply("mul", Number(1 / spreads[name]), Symbol(name)) for name in columns}
        best, waited = np.inf, 0  # of the present population
        for chunk in range(-(-config.generations // CHUNK)):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            regressor.set_params(random_state=config.seed * 1009 + chunk, max_time=int(min(left, MOST_SECONDS)) + 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                regressor.fit(design, target)
            variables = dict(zip(regressor.variables_, raw.values(), strict=True))
            front = [member["tree"] for member in regressor.pareto_front_]
            fits = [1 + member["objective_values"][0] for member in regressor.pareto_front_]
            yield Found(
                (chunk + 1) * CHUNK,
                min(fits),
                tuple(unscaled(read_tree(tree, variables), centre, spread) for tree in front),
            )
            if min(fits) < ENOUGH:
                return
            waited = 0 if min(fits) < 0.99 * best else waited + 1
            best = min(best, *fits)
            if waited >= PATIENCE:
                regressor, best, waited = _engine()(**_settings(config, symbols)), np.inf, 0


def _engine() -> Any:
    try:
        from pyoperon.sklearn import SymbolicRegressor
    except ImportError:
        raise OptionError("the operon back end needs pyoperon; install it with: pip install pyoperon") from None
    return SymbolicRegressor


def _symbols(operators: tuple[str, ...], columns: Mapping[str, np.ndarray]) -> str:
    lacking = [name for name in operators if name not in SYMBOLS]
    if lacking:
        raise DistillationError(
            f"operon cannot search with {', '.join(lacking)}; it has {', '.join(SYMBOLS)}: name some of these"
        )
    chosen = {symbol for name in operators for symbol in SYMBOLS[name]} | {"constant", "variable"}
    if not any(values.min() >= 0 for values in columns.values()):
        chosen.discard("div")  # the analytic quotient has no poles; a plain one is for dividing by second moments
    return ",".join(sorted(chosen))


def _settings(config: DistillConfig, symbols: str) -> dict[str, Any]:
    length = max(
        _LEAST_LENGTH, round(0.7 * config.max_complexity)
    )  # weights of variables are not counted by the engine
    return {
        "allowed_symbols": symbols,
        "objectives": ["r2", "length"],
        "optimizer_iterations": 4,
        "population_size": config.population,
        "pool_size": config.population,
        "generations": CHUNK,
        "max_evaluations": 2**40,
        "max_length": length,
        "max_depth": 10,
        "n_threads": config.threads,
        "warm_start": True,
        "epsilon": 1e-5,
    }
