"""Symbolic regression with the interface of scikit-learn: equations over a table's columns, in pipelines and grids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from closedform.distillation._config import DEFAULT_OPERATORS, MOST_SEED, DistillConfig
from closedform.distillation._equations import Equation, EquationHall, distill_table
from closedform.distillation.problem import Table
from closedform.errors import OptionError
from closedform.lang import Expr, to_sympy

LEAST_ROWS = 40
"""Fewer different rows are copied until there are so many, and none is held out."""
MOST_COPIES, FRACTIONS = 50_000, 20
"""Rows with their copies; and parts of the largest weight that weights which are no whole numbers are rounded to."""
TARGET = "target"


class SymbolicRegressor(RegressorMixin, BaseEstimator):
    """Finds an equation for y in the columns of X.

    The search is `distill_table`: sparse sums, ratios and powers first, then genetic programming; all meet on one front
    of error and size. Of it the equation is chosen by description length.

        model = SymbolicRegressor(random_state=0).fit(X, y)
        print(model.equation_)

    Args:
        max_complexity: Nodes of an equation, at most.
        time_limit: Seconds; a guard, as the search is bounded by ``generations``.
        generations, population: Of genetic programming.
        operators: Names of the language's operators.
        engine: A name in ``BACKENDS``.
        max_r2_loss: The smallest equation within this R^2 of the best is chosen; None: by description length.
        n_jobs: Threads of the search; the result does not depend on them.
        random_state: Drives the search.

    Attributes:
        equation_: The chosen equation, text over the columns.
        equations_: The front as dicts, by complexity: ``equation``, ``complexity``, ``r2``, ``r2_train``.
        hall_: The same as an `EquationHall`.
        n_features_in_, feature_names_in_: As everywhere in scikit-learn.

    ``sample_weight`` counts copies of a row: whole numbers exactly, others rounded to a twentieth of the largest.
    """

    def __init__(
        self,
        *,
        max_complexity: int = 30,
        time_limit: float = 60.0,
        generations: int = 40,
        population: int = 1000,
        operators: tuple[str, ...] = DEFAULT_OPERATORS,
        engine: str = "operon",
        max_r2_loss: float | None = None,
        n_jobs: int = 1,
        random_state: Any = None,
    ) -> None:
        self.max_complexity = max_complexity
        self.time_limit = time_limit
        self.generations = generations
        self.population = population
        self.operators = operators
        self.engine = engine
        self.max_r2_loss = max_r2_loss
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SymbolicRegressor:
        """Search.

        Args:
            X: [N, F].
            y: [N].
            sample_weight: [N], at least 0; None: all the same.

        Raises:
            ValueError: fewer than two rows, values that are missing, infinite or no numbers, or weights that are all 0.
            OptionError, UnknownNameError: an option makes no sense.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        y = np.asarray(y, np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight needs non-zero values")
        config = self._config()
        rows, group = _copied(X, y, weight)
        labels = [str(name) for name in getattr(self, "feature_names_in_", [f"x{k}" for k in range(X.shape[1])])]
        table = _table(labels, X[rows], y[rows], group)
        self._names = table.names
        constant = float(np.ptp(y[rows])) <= 1e-12 * float(np.abs(y).max())
        self.hall_ = _constant(float(y[rows].mean())) if constant else distill_table(table, self.engine, config)
        self._chosen = self.hall_.choose(tolerance=self.max_r2_loss)
        self.equation_ = self._chosen.equation
        self.equations_ = [
            {"equation": e.equation, "complexity": e.complexity, "r2": e.r2, "r2_train": 1 - e.train_error}
            for e in self.hall_.entries
        ]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The equation's values, [N], at the rows of X, [N, F]."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        values = self._chosen.predict(dict(zip(self._names, np.array(X).T, strict=True)))
        return np.broadcast_to(values, len(X)).copy()

    def latex(self) -> str:
        """The equation in LaTeX."""
        check_is_fitted(self)
        return self._chosen.latex()

    def sympy(self) -> Any:
        """The equation as a SymPy expression."""
        check_is_fitted(self)
        expr: Expr = self._chosen.expr
        return to_sympy(expr)

    def _config(self) -> DistillConfig:
        if self.max_r2_loss is not None and not 0 <= self.max_r2_loss < 1:
            raise OptionError(f"max_r2_loss must be None or a number from 0 to 1, not {self.max_r2_loss!r}")
        seed = int(check_random_state(self.random_state).randint(min(MOST_SEED, 2**31 - 1)))
        return DistillConfig(
            time_limit=self.time_limit,
            seed=seed,
            split_seed=0,
            max_complexity=self.max_complexity,
            generations=self.generations,
            population=self.population,
            operators=tuple(self.operators),
            threads=self.n_jobs,
        )


def _copied(X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices of rows, each as often as it counts, and what is held out together; copies and weights are the same.

    The order is the values' own, so that it does not depend on which of equal rows came first.
    """
    _, first, same = np.unique(np.column_stack([X, y]), axis=0, return_index=True, return_inverse=True)
    total = np.bincount(same.reshape(-1), weights=weight)
    first, total = first[total > 0], total[total > 0]
    if np.any(total != np.round(total)):
        total = np.ceil(total / total.max() * FRACTIONS)
    total = np.ceil(total * min(1.0, MOST_COPIES / total.sum()))
    few = len(first) < LEAST_ROWS
    times = total.astype(np.int64) * (int(np.ceil(LEAST_ROWS / len(first))) if few else 1)
    return np.repeat(first, times), None if few else np.repeat(np.arange(len(first)), times)


def _table(labels: list[str], X: np.ndarray, y: np.ndarray, group: np.ndarray | None) -> Table:
    target = next(name for name in (TARGET, *(f"{TARGET}{k}" for k in range(len(labels) + 1))) if name not in labels)
    made = Table.from_columns({**dict(zip(labels, X.T, strict=True)), target: y}, target, lags=False)
    return replace(made, group=group)


def _constant(value: float) -> EquationHall:
    """The hall of a target that never changes."""
    return EquationHall((Equation(repr(value), 1, 0, 0.0, 0.0, "constant"),), {})
