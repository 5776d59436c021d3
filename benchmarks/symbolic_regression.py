"""Symbolic regression over tables: ours beside gplearn and pyoperon's own estimator.

    python benchmarks/symbolic_regression.py [--seeds 3] [--only NAME,...]

Ten laws in the manner of the Feynman problems, made here, each without noise and with 1 % noise on the training
targets, and two tables that scikit-learn ships. 400 training and 1,000 fresh rows of a law; a table is split in halves.
Every estimator has its defaults but for the same seed, one thread, and the same functions to build from where it lets
one choose; pyoperon is given the population and generations of ours. *Exact*: 1 - R^2 below 1e-9 on fresh rows without
noise in them (for training with noise: below 1e-4). Numbers are medians over seeds. gplearn comes from ``pip install
gplearn``; without it its rows are left out. Writes benchmarks/results/symbolic_regression.md and .json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_wine

from closedform._files import write_text
from closedform.distillation import SymbolicRegressor
from closedform.reproduce._base import markdown_table, measured_on

RESULTS = Path(__file__).resolve().parent / "results"
TRAIN, FRESH = 400, 1000
LAWS: dict[str, tuple[int, Callable[..., np.ndarray]]] = {
    "gravitation: m1 m2 / r^2": (3, lambda a, b, r: a * b / r**2),
    "kinetic energy: m (u^2 + v^2 + w^2) / 2": (4, lambda m, u, v, w: m * (u**2 + v**2 + w**2) / 2),
    "relativistic mass: m / sqrt(1 - (v/4)^2)": (2, lambda m, v: m / np.sqrt(1 - (v / 4) ** 2)),
    "normal density: exp(-x^2/2) / sqrt(2 pi)": (1, lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)),
    "ideal gas: 8.314 n T / V": (3, lambda n, t, v: 8.314 * n * t / v),
    "lens: 1 / (1/d1 + n/d2)": (3, lambda d, e, n: 1 / (1 / d + n / e)),
    "damped: a exp(-b t)": (3, lambda a, b, t: a * np.exp(-b * t)),
    "distance: sqrt((x-u)^2 + (y-v)^2)": (4, lambda x, u, y, v: np.sqrt((x - u) ** 2 + (y - v) ** 2)),
    "saturation: a tanh(b x)": (3, lambda a, b, x: a * np.tanh(b * x)),
    "drag: 3 x - 0.5 x v^2 + 1": (2, lambda x, v: 3 * x - 0.5 * x * v**2 + 1),
}
"""Name -> how many variables it has, drawn uniformly from [0.5, 3], and what it says of them."""
TABLES = {"diabetes": load_diabetes, "wine: alcohol by the other columns": load_wine}


@dataclass(frozen=True)
class Row:
    """One estimator on one problem: medians over seeds."""

    problem: str
    noise: float
    estimator: str
    exact: int
    runs: int
    r2: float
    nodes: float
    seconds: float


def ours(seed: int) -> Any:
    return SymbolicRegressor(random_state=seed)


def gplearn(seed: int) -> Any:
    from gplearn.genetic import SymbolicRegressor as Genetic

    return Genetic(function_set=("add", "sub", "mul", "div", "sqrt", "abs", "max", "min"), random_state=seed)


def operon(seed: int) -> Any:
    from pyoperon.sklearn import SymbolicRegressor as Operon

    symbols = "add,sub,mul,div,tanh,exp,square,sqrtabs,abs,constant,variable"
    return Operon(
        allowed_symbols=symbols,
        population_size=1000,
        pool_size=1000,
        generations=40,
        max_length=30,
        optimizer_iterations=10,
        n_threads=1,
        random_state=seed,
    )


ESTIMATORS: dict[str, tuple[Callable[[int], Any], Callable[[Any], float]]] = {
    "closedform": (ours, lambda model: model.hall_.choose().complexity),
    "pyoperon": (operon, lambda model: model.model_.Length),
    "gplearn": (gplearn, lambda model: model._program.length_),
}


def problem(name: str, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and fresh rows."""
    generator = np.random.default_rng(seed)
    if name in TABLES:
        X, y = TABLES[name](return_X_y=True)
        X, y = (X[:, 1:], X[:, 0]) if name.startswith("wine") else (X, y)
        order = generator.permutation(len(y))
        half = len(y) // 2
        return X[order[:half]], y[order[:half]], X[order[half:]], y[order[half:]]
    count, law = LAWS[name]
    X = generator.uniform(0.5, 3, (TRAIN + FRESH, count))
    y = law(*X.T)
    blurred = y + noise * y.std() * generator.standard_normal(len(y))
    return X[:TRAIN], blurred[:TRAIN], X[TRAIN:], y[TRAIN:]


def measured(name: str, noise: float, estimator: str, seeds: int) -> Row:
    make, nodes = ESTIMATORS[estimator]
    found = []
    for seed in range(seeds):
        X, y, fresh, truth = problem(name, noise, seed)
        begin = time.perf_counter()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            model = make(seed).fit(X, y)
            left = np.square(model.predict(fresh) - truth).sum() / np.square(truth - truth.mean()).sum()
        found.append((1 - float(left), float(nodes(model)), time.perf_counter() - begin))
    r2, sizes, seconds = zip(*found, strict=True)
    limit = 1e-4 if noise else 1e-9
    exact = sum(1 - value < limit for value in r2)
    return Row(name, noise, estimator, exact, seeds, median(r2), median(sizes), median(seconds))


def document(rows: list[Row], seeds: int) -> str:
    cells = []
    for r in rows:
        exact, noise = (f"{r.exact}/{r.runs}", f"{r.noise:.0%}") if r.problem in LAWS else ("", "")
        cells.append([r.problem, noise, r.estimator, exact, f"{r.r2:.6f}", f"{r.nodes:g}", f"{r.seconds:.2f}"])
    totals = []
    for estimator in dict.fromkeys(row.estimator for row in rows):
        for noise in (0.0, 0.01):
            here = [r for r in rows if r.estimator == estimator and r.noise == noise and r.problem in LAWS]
            if here:
                exact, runs = sum(r.exact for r in here), sum(r.runs for r in here)
                size, seconds = median(r.nodes for r in here), median(r.seconds for r in here)
                totals.append([estimator, f"{noise:.0%}", f"{exact}/{runs}", f"{size:g}", f"{seconds:.2f}"])
    about = (__doc__ or "").split("\n\n", 2)[2].strip()
    return f"""# Symbolic regression over tables

`python benchmarks/symbolic_regression.py --seeds {seeds}`; {measured_on()}.

{about}

{markdown_table(("estimator", "noise", "exact", "median nodes", "median seconds"), totals)}

{markdown_table(("problem", "noise", "estimator", "exact", "R^2", "nodes", "seconds"), cells)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="problems whose names hold one of these words, comma-separated; writes nothing")
    arguments = parser.parse_args()
    words = (arguments.only or "").split(",")
    chosen = [name for name in (*LAWS, *TABLES) if any(word in name for word in words)]
    known = [name for name in ESTIMATORS if name == "closedform" or importlib.util.find_spec(name)]
    rows = []
    for name in chosen:
        for noise in (0.0, 0.01) if name in LAWS else (0.0,):
            for estimator in known:
                rows.append(measured(name, noise, estimator, arguments.seeds))
                print(rows[-1], flush=True)
    if not arguments.only:
        write_text(RESULTS / "symbolic_regression.md", document(rows, arguments.seeds))
        write_text(RESULTS / "symbolic_regression.json", json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
