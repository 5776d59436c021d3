"""Tables as people have them: names, dates, gaps, lags, sizes and offsets."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from closedform.distillation import DistillConfig, Equation, Table, distill_table, load_table
from closedform.distillation.problem._scaling import Scaling, roundest
from closedform.errors import ClosedFormError, DataError, DistillationError, UnknownNameError

QUICK = {"generations": 5, "population": 100, "rows": 400, "threads": 1}
X = np.linspace(-2, 2, 60)
QUADRATIC = 3 * X**2 - 2 * X + 1
Day = datetime.date


def found(columns: Any, target: Any = "y", **options: Any) -> Equation:
    return distill_table(Table.from_columns(columns, target), "sparse", **{**QUICK, **options}).choose()


@pytest.mark.parametrize("labels", [(0, 1), (0.5, -1.5), (("a", "b"), ("a", "c")), (None, "y"), (True, False)])
def test_names_may_be_anything(labels: tuple[Any, Any]) -> None:
    table = Table.from_columns({labels[0]: X, labels[1]: 2 * X}, labels[1])
    assert all(name.isidentifier() for name in table.names)
    assert f"column {str(labels[0])!r} is called {table.names[0]} here" in table.notes
    assert found({labels[0]: X, labels[1]: 2 * X}, labels[1]).equation == f"2*{table.names[0]}"


def test_frames_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.column_stack([X, X**2, 2 * X - X**2]))
    assert Table.from_columns(frame, 2).names == ("x0", "x1")
    assert Table.from_columns(frame, "2", features=[0]).names == ("x0",)
    assert found(frame, 2).equation == "2*x0 - x1"
    with pytest.raises(UnknownNameError, match="unknown column '3'"):
        Table.from_columns(frame, 3)
    frame.columns = ["a", "a", "y"]
    with pytest.raises(DataError, match="two columns are called 'a'"):
        Table.from_columns(frame, "y")
    kinds = {
        "nullable": pd.array([1, None, *range(58)], dtype="Int64"),
        "truth": pd.array([True, None] * 30, dtype="boolean"),
        "mixed": pd.Series([1.5, "2.5", None, Decimal("3"), pd.NA, "NA", *range(54)], dtype=object),
        "zoned": pd.Series([*pd.date_range("2024-03-01 12:00", periods=59, tz="Europe/Berlin"), pd.NaT]),
        "kind": pd.Categorical([1, 2, 3] * 20),
    }
    table = Table.from_columns(pd.DataFrame({**kinds, "y": X}), "y")
    assert table.missing == {"nullable": 1, "truth": 30, "mixed": 3, "zoned": 1}
    assert table.values[:3, 0].tolist()[::2] == [1.0, 0.0]
    assert table.values[0, 3] == pytest.approx(11 / 24)
    assert "column 'zoned' holds dates: in days since 2024-03-01" in table.notes


@pytest.mark.parametrize("unit", ["D", "s", "ms", "us", "ns"])
def test_dates_are_days_and_their_gaps_are_gaps(unit: str) -> None:
    days = np.datetime64("2021-05-03", "D") + np.arange(60)
    dates = days.astype(f"datetime64[{unit}]")
    dates[1] = np.datetime64("NaT")
    table = Table.from_columns({"when": dates, "y": 2.0 * np.arange(60) + 5}, "y")
    assert "column 'when' holds dates: in days since 2021-05-03" in table.notes
    assert np.nanmax(np.abs(table.values)) == 59
    assert table.missing == {"when": 1}
    hall = distill_table(table, "sparse", **QUICK)
    assert hall.choose().equation == "2*when + 5"
    assert "missing or infinite values: when 1" in hall.provenance["notes"]


def test_further_kinds_of_dates(tmp_path: Path) -> None:
    days: list[Any] = [Day(2020, 1, 1) + datetime.timedelta(k) for k in range(60)]
    days[3] = None
    assert np.nanmax(Table.from_columns({"d": days, "y": X}, "y").values) == 59
    assert Table.from_columns({"d": np.full(60, "NaT", "datetime64[D]"), "y": X}, "y").missing == {}
    spans = np.arange(60) * np.timedelta64(12, "h")
    assert Table.from_columns({"d": spans, "y": X}, "y").values[2, 0] == 1.0
    with pytest.raises(DataError, match="column 'd' holds something else"):
        Table.from_columns({"d": [*days[:-1], 3], "y": X}, "y")
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"d": days, "y": X}), tmp_path / "t.parquet")
    assert load_table(tmp_path / "t.parquet").missing == {"d": 1}
    named = np.zeros(60, dtype=[("d", "M8[s]"), ("y", "f8")])
    named["d"] = np.datetime64("2020-01-01") + np.arange(60)
    named["d"][4], named["y"] = np.datetime64("NaT"), X
    np.save(tmp_path / "t.npy", named)
    assert load_table(tmp_path / "t.npy").missing == {"d": 1}


def test_dates_in_text_are_dates(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"2020-02-{k + 1:02d},{3 * k}" for k in range(25)]
    lines[2] = ",6"
    path.write_text("\n".join(["day,y", *lines]))
    table = load_table(path)
    assert "column 'day' holds dates: in days since 2020-02-01" in table.notes
    assert distill_table(table, "sparse", **QUICK).choose().equation == "3*day"
    path.write_text("day,y\n2020-02-01,1\n7,2\n")
    with pytest.raises(DataError, match="line 3, column 'day': '7' is no date, as those above are"):
        load_table(path)
    path.write_text("day,y\n7,1\n2020-02-01,2\n")
    with pytest.raises(DataError, match="line 3, column 'day': '2020-02-01' is not a number"):
        load_table(path)


def test_masked_values_are_missing() -> None:
    masked = np.ma.MaskedArray(X, mask=[k == 5 for k in range(60)])
    assert Table.from_columns({"x": masked, "y": X}, "y").missing == {"x": 1}


@pytest.mark.parametrize(
    "values", [X + 1j, X.reshape(30, 2), [[1], [2, 3]] * 30, [object()] * 60, ["one"] * 60, "text"]
)
def test_columns_that_hold_no_numbers(values: Any) -> None:
    with pytest.raises(DataError, match="column 'x'"):
        Table.from_columns({"x": values, "y": X}, "y")


@pytest.mark.parametrize("columns", [None, 3, [X, X], np.ones((60, 2)), {}])
def test_what_is_no_table(columns: Any) -> None:
    with pytest.raises(DataError, match="give a dict of columns or a DataFrame"):
        Table.from_columns(columns, "y")


def test_missing_values_say_where_and_how_many() -> None:
    x, z = X.copy(), X[::-1] ** 2
    x[:12] = np.nan
    z[5] = np.inf
    table = Table.from_columns({"x": x, "z": z, "y": QUADRATIC}, "y")
    with pytest.raises(
        DistillationError, match=r"12 of 60 rows lack a value \(x 12, z 1\).*fill them in, leave the col"
    ):
        distill_table(table, "sparse", **QUICK)
    hall = distill_table(table, "sparse", nonfinite_limit=0.3, **QUICK)
    assert {"missing or infinite values: x 12, z 1"} < set(hall.provenance["notes"])
    assert "record" not in "".join(hall.provenance["notes"])


def series(count: int = 300) -> np.ndarray:
    return np.random.default_rng(0).normal(size=count + 3)


def test_duplicates_that_pandas_renamed_are_no_lags(tmp_path: Path) -> None:
    x, twin = series()[3:], series()[:-3] ** 2
    (tmp_path / "t.csv").write_text("x,x.1,y\n" + "\n".join(f"{a},{b},{a - b}" for a, b in zip(x, twin, strict=True)))
    for lags in (None, True, False):
        table = load_table(tmp_path / "t.csv", lags=lags)
        assert "column 'x.1' is called x_1 here" in table.notes
        assert distill_table(table, "sparse", **QUICK).choose().equation == "x - x_1"


def test_lags_are_those_that_the_rows_bear_out() -> None:
    x = series()
    true = {"x": x[3:], "x_1": x[2:-1], "x_3": x[:-3], "y": 2 * x[3:] - x[:-3]}
    table = Table.from_columns(true, "y")
    assert "read as lags, as the rows bear out: x_1 as x 1 rows ago, x_3 as x 3 rows ago" in table.notes
    assert found(true).equation == "2*x - lag(x, 3)"
    false = {**true, "x_3": np.random.default_rng(1).permutation(x[:-3])}
    false["y"] = 2 * x[3:] - false["x_3"]
    assert found(false).equation == "2*x - x_3"
    assert any("do not bear it out: x_3; lags=True" in note for note in Table.from_columns(false, "y").notes)
    asked = Table.from_columns(false, "y", lags=True)
    assert distill_table(asked, "sparse", **QUICK).choose().equation == "2*x - lag(x, 3)"
    assert "read as lags, by their names: x_1 as x 1 rows ago, x_3 as x 3 rows ago" in asked.notes
    never = Table.from_columns(true, "y", lags=False)
    assert distill_table(never, "sparse", **QUICK).choose().equation == "2*x - x_3"
    assert not any("lag" in note for note in never.notes)


def test_columns_of_few_values_bear_out_no_lag_by_chance() -> None:
    rare = (np.random.default_rng(0).random((2, 500)) < 0.02).astype(float)
    assert not Table.from_columns({"x": rare[0], "x_1": rare[1], "y": series(500)[3:]}, "y").lags


@pytest.mark.parametrize("size", [5e-320, 1e-307, 1e-170, 1e-40, 1e-9, 1.0, 1e9, 1e40, 1e154, 1e200, 1e307])
def test_targets_of_any_size_are_exact(size: float) -> None:
    equation = found({"x": X, "y": size * QUADRATIC})
    tolerance = max(1e-13, 5e-324 / size)
    np.testing.assert_allclose(equation.predict({"x": X}) / size, QUADRATIC, rtol=0, atol=20 * tolerance)
    assert equation.complexity == 10
    assert equation.r2 > 1 - 1e-6


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-30, 1e30, 1e150, 1e300])
@pytest.mark.parametrize("both", [False, True])
def test_columns_of_any_size_are_exact(size: float, both: bool) -> None:
    x, y = size * X, (size if both else 1.0) * QUADRATIC
    equation = found({"x": x, "y": y})
    np.testing.assert_allclose(equation.predict({"x": x}) / y, np.ones(60), rtol=1e-12)


FAR = 2460000.5 + 1e-4 * np.arange(60)
STEPS = (FAR - 2460000.5) * 1e4


@pytest.mark.parametrize(
    ("columns", "nodes"),
    [
        ({"x": FAR, "y": 2 * FAR}, 3),
        ({"x": FAR, "y": STEPS}, 5),
        ({"x": FAR, "y": STEPS**2}, 6),
        ({"x": X, "y": 2460000.5 + 1e-4 * X}, 5),
        ({"x": X, "y": 2460000.5 + 1e-4 * QUADRATIC}, 10),
        ({"x": FAR, "y": FAR + 3}, 3),
        ({"x": -FAR, "y": 1e8 - FAR}, 5),
        ({"x": 2.0**100 * FAR, "y": 2.0**-100 * STEPS}, 11),
    ],
)
def test_numbers_on_a_large_offset_are_exact(columns: dict[str, np.ndarray], nodes: int) -> None:
    equation, y = found(columns), columns["y"]
    spacing = 4 * np.spacing(np.abs(y).max())
    np.testing.assert_allclose(equation.predict(columns), y, rtol=0, atol=max(spacing, 1e-14 * np.ptp(y)))
    assert equation.complexity <= nodes


def test_lags_of_a_far_series_share_its_centre() -> None:
    x = 1e7 + 1e-3 * series()
    columns = {"x": x[3:], "x_1": x[2:-1], "y": x[3:] - x[2:-1]}
    equation = found(columns)
    assert (equation.equation, equation.state_cost) == ("x - prev(x)", 1)
    target = {"y_1": x[2:-1], "z": x[3:] - x[2:-1], "y": x[3:]}
    assert found(target).equation in ("prev(y) + z", "z + prev(y)")


def test_rounding_noise_is_no_column_and_no_target() -> None:
    noise = 1e6 * (1 + 2.0**-52 * np.arange(60) % 3)
    with pytest.raises(DistillationError, match="always 1e\\+06"):
        found({"x": X, "y": noise})
    hall = distill_table(Table.from_columns({"x": X, "n": noise, "y": QUADRATIC}, "y"), "sparse", **QUICK)
    assert hall.choose().error < 1e-25
    assert "column n left out: constant" in hall.provenance["notes"]


def test_the_roundest_number() -> None:
    assert roundest(1990, 2020) == 2000
    assert roundest(FAR.min(), FAR.max()) == 2460000.5
    assert Scaling.of(X) == Scaling()
    assert Scaling.of(np.array([1990.0, 2020.0])) == Scaling()


def test_infinite_targets() -> None:
    y = QUADRATIC.copy()
    y[3] = np.inf
    assert found({"x": X, "y": y}).error < 1e-20
    for bad, match in [
        (np.full(60, np.inf), "never finite"),
        (np.where(X > 0, np.inf, X), "30 of 60 rows lack a value"),
    ]:
        with pytest.raises(DistillationError, match=match):
            found({"x": X, "y": bad})


@pytest.mark.parametrize(
    "options",
    [
        *({"seed": seed} for seed in (2**70, 2**32, -1, 1.5, "one", None, True)),
        *({"operators": operators} for operators in ((), (1,), "add", None, ("",))),
        *({name: 10**30} for name in ("population", "rows", "generations", "threads", "max_complexity", "restarts")),
        *({"decays": decays} for decays in (("a",), None, (float("nan"),), "0.9")),
        *(
            {name: bad}
            for name in ("time_limit", "test_fraction", "nonfinite_limit")
            for bad in ("1", None, float("nan"))
        ),
        {"split_seed": 2**70},
        {"max_state_cost": "many"},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_one_clear_line(options: dict[str, Any]) -> None:
    with pytest.raises(ClosedFormError) as caught:
        DistillConfig(**options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_largest_seed_and_no_limit_of_time_work() -> None:
    columns = {"x": X, "z": np.cos(7 * X), "y": np.sin(3 * X) * np.cos(7 * X)}
    hall = distill_table(Table.from_columns(columns, "y"), seed=2**32 - 1, time_limit=float("inf"), **QUICK)
    assert len(hall)
