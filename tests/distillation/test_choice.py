"""Which equation of a front is taken: error weighed against nodes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from closedform.distillation import Entry, Equation, EquationHall, HallOfFame, Table, distill_table
from closedform.errors import DistillationError
from closedform.rules import load_rule

QUICK = {"generations": 10, "population": 200, "rows": 400, "threads": 1}
Law = Callable[[np.ndarray, np.ndarray], np.ndarray]
LAWS: dict[str, tuple[Law, int]] = {
    "3*square(x) - 2*x + 1": (lambda x, z: 3 * x**2 - 2 * x + 1, 10),
    "2*x + 0.05*z": (lambda x, z: 2 * x + 0.05 * z, 7),
    "square(x) + exp(z)": (lambda x, z: x**2 + np.exp(z), 5),
    "5*tanh(x) + z": (lambda x, z: 5 * np.tanh(x) + z, 6),
    "abs(x) - 0.01*z": (lambda x, z: np.abs(x) - 0.01 * z, 6),
}


def table_of(law: Law, seed: int, rows: int, noise: float = 0.0, reach: float = 10.0) -> Table:
    draws = np.random.default_rng(seed)
    x, z = draws.uniform(-reach, reach, (2, rows))
    y = law(x, z)
    return Table.from_columns({"x": x, "z": z, "y": y + noise * y.std() * draws.normal(size=rows)}, "y")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("law", LAWS)
def test_an_exact_equation_is_never_passed_over(law: str, seed: int) -> None:
    function, nodes = LAWS[law]
    hall = distill_table(table_of(function, seed, 60), seed=seed, **QUICK)
    chosen = hall.choose()
    assert chosen.error < 1e-20
    assert chosen.complexity <= nodes + 2


def test_the_quadratic_of_the_wide_range_is_chosen_whole() -> None:
    """Its linear part makes up less than 1 % of the variance: within a tolerance of 0.01 in R^2 it would be lost."""
    table = table_of(LAWS["3*square(x) - 2*x + 1"][0], 0, 60, reach=20)
    hall = distill_table(table, "sparse", **QUICK)
    assert hall.choose(tolerance=0.01).complexity < hall.choose().complexity
    grid = np.linspace(-20, 20, 50)
    np.testing.assert_allclose(hall.choose().predict({"x": grid}), 3 * grid**2 - 2 * grid + 1, rtol=1e-12)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("rows", [60, 400])
def test_noise_is_not_fitted(noise: float, rows: int) -> None:
    sizes, losses = [], []
    for seed in range(6):
        law = LAWS["5*tanh(x) + z"][0] if seed % 2 else LAWS["2*x + 0.05*z"][0]
        chosen = distill_table(table_of(law, seed, rows, noise), "sparse", **QUICK).choose()
        draws = np.random.default_rng(100 + seed)
        x, z = draws.uniform(-10, 10, (2, 2000))
        truth = law(x, z)
        losses.append(np.square(chosen.predict({"x": x, "z": z}) - truth).mean() / truth.var())
        sizes.append(chosen.complexity)
    assert np.median(losses) < 15 * noise**2 / rows + 0.1 * noise**2
    assert max(sizes) <= 12


def equation(error: float, complexity: int, cost: int = 0) -> Equation:
    return Equation(f"x + {complexity}", complexity, cost, error, error, "made")


def hall_of(*entries: Equation, rows: int = 60) -> EquationHall:
    return EquationHall(entries, {"rows": {"train": 3 * rows // 4, "held_out": rows // 4}, "exact": 1e-28})


def test_a_node_must_pay() -> None:
    small, large = equation(0.1, 5), equation(0.08, 6)
    assert hall_of(small, large).choose() is large
    assert hall_of(small, equation(0.095, 6)).choose() is small
    assert hall_of(small, equation(0.095, 6), rows=1000).choose().complexity == 6
    assert hall_of(small, equation(0.0999, 40), rows=10**9).choose() is small
    assert hall_of(small, equation(0.08, 6, cost=9)).choose() is small


@pytest.mark.parametrize("rows", [20, 60, 10**6])
def test_an_exact_one_pays_for_all_its_nodes(rows: int) -> None:
    close, exact, rounding = equation(1e-5, 3), equation(1e-29, 40), equation(1e-33, 60)
    assert hall_of(equation(0.5, 1), close, exact, rounding, rows=rows).choose() is exact


def test_errors_that_are_not_finite_are_not_chosen() -> None:
    good = equation(0.5, 3)
    for bad in (math.nan, math.inf):
        assert hall_of(equation(bad, 1), good).choose() is good
    with pytest.raises(DistillationError, match="raise the limit"):
        hall_of(good).choose(max_complexity=2)


@pytest.mark.parametrize("rows", [None, 7, "many", {"train": "x"}, {"train": -1, "held_out": 3}, {"train": True}])
def test_halls_without_their_numbers_of_rows_choose_too(rows: object) -> None:
    hall = EquationHall((equation(0.1, 5), equation(0.001, 8)), {"rows": rows, "exact": "no"})
    assert hall.choose().complexity == 8


def test_recordings_choose_the_same_way_within_a_hundredth() -> None:
    rule = load_rule("sgd")

    def entry(error: float, complexity: int) -> Entry:
        return Entry(rule, "-g", error, error, complexity, 0, "made")

    hall = HallOfFame((entry(0.008, 3), entry(1e-10, 12), entry(1e-12, 30)))
    assert hall.choose().complexity == 12  # exact, and no further than recordings' precision
    assert hall.choose(tolerance=0.01).complexity == hall.mapping_complexity == 3
    assert HallOfFame((entry(0.05, 8), entry(0.03, 40))).choose().complexity == 40  # never further off than a hundredth
    assert HallOfFame((entry(0.035, 8), entry(0.03, 40))).choose().complexity == 8
