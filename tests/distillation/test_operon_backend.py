from __future__ import annotations

import time

import numpy as np
import pyoperon
import pytest
import torch
from pyoperon.sklearn import SymbolicRegressor

from closedform.distillation._config import DistillConfig
from closedform.distillation.engines._operon import OperonBackend
from closedform.distillation.engines._operon_trees import SYMBOLS, read_tree
from closedform.distillation.problem._problem import at_rows
from closedform.errors import DistillationError
from closedform.lang import Expr, Symbol, names

LEAVES = ["constant", "variable"]
FUNCTIONS = sorted({symbol for symbols in SYMBOLS.values() for symbol in symbols} | {"powabs"})


def columns(rows: int = 200) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=rows) for name in ("x", "y", "z")}


def value_of(expr: Expr, values: dict[str, np.ndarray]) -> np.ndarray:
    count = len(next(iter(values.values())))
    return at_rows(expr, {name: torch.from_numpy(value) for name, value in values.items()}, count).numpy()


@pytest.mark.parametrize("symbols", [FUNCTIONS, *([symbol] for symbol in FUNCTIONS)], ids=lambda symbols: symbols[-1])
def test_trees_are_read_as_the_engine_means_them(symbols: list[str]) -> None:
    values = columns()
    design = np.column_stack(list(values.values()))
    regressor = SymbolicRegressor(
        allowed_symbols=",".join([*symbols, *LEAVES]),
        objectives=["r2", "length"],
        optimizer_iterations=3,
        population_size=200,
        generations=2,
        random_state=1,
    )
    regressor.fit(design, np.tanh(values["x"]) + values["y"] * values["z"])
    variables: dict[int, Expr] = dict(zip(regressor.variables_, map(Symbol, values), strict=True))
    trees = [member["tree"] for member in regressor.pareto_front_]
    checked = 0
    for tree in trees + [individual.Genotype for individual in regressor.individuals_]:
        expected = regressor.evaluate_model(tree, design)
        if np.isfinite(expected).all() and np.abs(expected).max() < 1e6:
            found = value_of(read_tree(tree, variables), values)
            finite = np.isfinite(found)  # the engine's maximum of NaN and 1 is 1, the language's is NaN
            off = np.abs(found - expected)[finite] / (1 + np.abs(expected[finite]))
            assert (off < 2e-3).mean() > 0.97  # the engine is in single precision, and some trees have poles
            assert finite.all() or "fmin" in symbols or "fmax" in symbols
            checked += 1
    assert checked >= 20


def test_the_scaling_is_folded_back() -> None:
    values = {name: 1e-4 * column for name, column in columns(500).items()}
    values["y"] = 1e3 * values["y"] + 7
    y = 1e-9 * (3 * values["x"] / 1e-4 - values["y"]) + 5e-8
    config = DistillConfig(generations=5, population=200, threads=1)
    (found,) = OperonBackend().search(values, y, config, time.monotonic() + 60)
    residual = min(float(np.square(value_of(expr, values) - y).mean()) for expr in found.front if names(expr))
    assert residual / y.var() == pytest.approx(found.error, rel=0.05, abs=1e-5)
    assert found.error < 0.01


def test_no_time_left_means_no_search() -> None:
    assert list(OperonBackend().search(columns(), columns()["x"], DistillConfig(), time.monotonic() - 1)) == []


def test_operators_that_the_engine_lacks_are_named() -> None:
    config = DistillConfig(operators=("add", "erfc"))
    with pytest.raises(DistillationError, match="operon cannot search with erfc"):
        next(OperonBackend().search(columns(), columns()["x"], config, time.monotonic() + 9))


def test_a_node_without_counterpart_is_refused() -> None:
    node = pyoperon.Node(pyoperon.NodeType.Ceil)
    with pytest.raises(DistillationError, match="Ceil has no counterpart"):
        read_tree(type("Tree", (), {"Nodes": [node]}), {})
