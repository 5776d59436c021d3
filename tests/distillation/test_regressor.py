import copy
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import closedform as cf
from closedform.errors import OptionError, UnknownNameError

QUICK = {"generations": 2, "population": 50, "time_limit": 20.0, "random_state": 0}


def quick(**options: object) -> cf.SymbolicRegressor:
    return cf.SymbolicRegressor(**{**QUICK, **options})


def uniform(rows: int, columns: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, (rows, columns))


@pytest.mark.slow
def test_scikit_learn_accepts_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(quick(), on_fail=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


def test_it_finds_the_law_of_its_data() -> None:
    X = uniform(300)
    y = 3 * X[:, 0] * X[:, 1] - 0.5 / X[:, 0]
    model = quick(generations=40, population=1000).fit(X, y)
    fresh = uniform(100, seed=1)
    assert np.allclose(model.predict(fresh), 3 * fresh[:, 0] * fresh[:, 1] - 0.5 / fresh[:, 0], rtol=1e-5)
    expression = model.sympy()
    point = {symbol: fresh[0, int(str(symbol)[1:])] for symbol in expression.free_symbols}
    assert float(expression.subs(point)) == pytest.approx(model.predict(fresh)[0], rel=1e-9)
    assert "x_{0}" in model.latex()
    assert [row["complexity"] for row in model.equations_] == sorted(row["complexity"] for row in model.equations_)


def test_weights_are_copies() -> None:
    X = uniform(60)
    y = np.sin(3 * X[:, 0]) + X[:, 1] + np.random.default_rng(2).normal(0, 0.1, 60)
    weight = np.random.default_rng(3).integers(0, 4, 60)
    weighted = quick().fit(X, y, sample_weight=weight)
    order = np.random.default_rng(4).permutation(int(weight.sum()))
    copied = quick().fit(np.repeat(X, weight, axis=0)[order], np.repeat(y, weight)[order])
    assert weighted.equation_ == copied.equation_


def test_equal_rows_are_held_out_together() -> None:
    X = np.repeat(uniform(50), 3, axis=0)
    model = quick().fit(X, X[:, 0] * X[:, 1])
    held_out, train = (model.hall_.provenance["rows"][part] for part in ("held_out", "train"))
    assert (held_out + train, held_out % 3) == (150, 0)


def test_names_of_a_frame_are_kept_whatever_they_are() -> None:
    pandas = pytest.importorskip("pandas")
    X = uniform(200)
    frame = pandas.DataFrame(X, columns=["mass (kg)", "target"])
    model = quick().fit(frame, 2 * X[:, 0] ** 2)
    assert "mass__kg" in model.equation_
    assert np.allclose(model.predict(frame), 2 * X[:, 0] ** 2, rtol=1e-5)


def test_it_works_in_a_pipeline_and_a_grid() -> None:
    X, y = load_diabetes(return_X_y=True)
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), quick()),
        {"symbolicregressor__max_complexity": [5, 20]},
        cv=2,
        error_score="raise",
    ).fit(X[:200], y[:200])
    assert grid.score(X[200:], y[200:]) > 0.3  # ordinary least squares reaches about 0.5


def test_a_copy_predicts_the_same() -> None:
    X = uniform(100)
    model = quick().fit(X, X[:, 0] / X[:, 1])
    again = copy.deepcopy(model)  # by way of what pickle keeps
    assert np.array_equal(again.predict(X), model.predict(X))


def test_a_constant_target_is_its_own_equation() -> None:
    model = quick().fit(uniform(30), np.full(30, 2.5))
    assert model.equation_ == "2.5"
    assert model.predict(uniform(4)).tolist() == [2.5] * 4


def test_the_same_seed_gives_the_same_equation_on_any_number_of_threads() -> None:
    X = uniform(80)
    y = np.exp(-X[:, 0]) * np.cos(X[:, 1])
    assert quick().fit(X, y).equation_ == quick(n_jobs=2).fit(X, y).equation_


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"operators": ("add", "sine")}, UnknownNameError, "sine"),
        ({"engine": "operan"}, UnknownNameError, "operon"),
        ({"max_r2_loss": 2}, OptionError, "max_r2_loss"),
        ({"max_complexity": 0}, OptionError, "max_complexity"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        quick(**options).fit(uniform(30), uniform(30)[:, 0])


def test_all_weights_zero() -> None:
    with pytest.raises(ValueError, match="non-zero"):
        quick().fit(uniform(30), uniform(30)[:, 0], sample_weight=np.zeros(30))
