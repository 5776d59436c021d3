"""Plain tables: anyone's columns, from memory or files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from closedform.distillation import EquationHall, Table, distill_table, load_table
from closedform.errors import CheckpointError, ClosedFormError, DataError, DistillationError, OptionError
from closedform.errors import UnknownNameError as Unknown

QUICK = {"generations": 10, "population": 200, "rows": 400, "threads": 1}
RNG = np.random.default_rng(0)


def random_table(rows: int = 400) -> dict[str, np.ndarray]:
    return {"a": RNG.uniform(1, 4, rows), "b": RNG.uniform(1, 4, rows), "c": RNG.normal(size=rows)}


def test_kepler_like_law_is_found() -> None:
    columns = random_table()
    columns["y"] = 3 * np.sqrt(columns["a"]) / columns["b"]
    operators = ("mul", "div", "sqrt", "add")
    hall = distill_table(Table.from_columns(columns, "y"), operators=operators, max_complexity=12, **QUICK)
    assert hall.best.r2 > 0.9999
    np.testing.assert_allclose(hall.best.predict(columns), columns["y"], rtol=0.02)
    assert EquationHall.from_json(hall.to_json()) == hall
    assert hall.provenance["held_out"] == "rows drawn at random"
    assert "sqrt" in hall.best.latex()


def test_a_logarithm_needs_no_value_at_zero() -> None:
    columns = random_table()
    columns["y"] = np.log(columns["a"]) + 0.5 * columns["c"]
    hall = distill_table(Table.from_columns(columns, "y"), operators=("add", "mul", "log"), **QUICK)
    assert hall.best.r2 > 0.9999
    assert "log(" in hall.choose(tolerance=1e-4).equation


def test_lags_of_columns_are_lags() -> None:
    series = RNG.normal(size=600)
    columns = {"x": series[4:], "x_1": series[3:-1], "x_3": series[1:-3], "y": 2 * series[4:] - series[1:-3]}
    hall = distill_table(Table.from_columns(columns, "y"), "sparse", **QUICK)
    best = hall.choose(tolerance=1e-4)
    assert (best.equation, best.state_cost) == ("2*x - lag(x, 3)", 3)
    assert hall.provenance["held_out"] == "runs of neighbouring rows"
    np.testing.assert_allclose(best.predict(columns), columns["y"], rtol=1e-6)
    with pytest.raises(Unknown, match="x_3"):
        best.predict({"x": series})


def test_numbered_variables_are_no_lags() -> None:
    columns = {f"x_{k}": RNG.normal(size=100) for k in range(1, 4)}
    columns["y"] = columns["x_1"] - 2 * columns["x_3"]
    assert distill_table(Table.from_columns(columns, "y"), "sparse", **QUICK).choose().equation == "x_1 - 2*x_3"


def test_names_that_the_language_cannot_read_are_changed_and_noted() -> None:
    columns = {name: RNG.normal(size=100) for name in ("t", "tanh", "my column", "3d", "lambda", "cf_1", "g", "", "_")}
    columns["y"] = sum(columns.values())
    table = Table.from_columns(columns, "y")
    assert table.names == ("t_", "tanh_", "my_column", "x3d", "lambda_", "xcf_1", "g", "column", "_")
    assert "column 'my column' is called my_column here" in table.notes
    hall = distill_table(table, "sparse", max_complexity=60, **QUICK)
    assert hall.best.r2 > 0.999
    assert hall.provenance["notes"][: len(table.notes)] == list(table.notes)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rows = [f"{k},{k * k % 7},{'NA' if k == 3 else 2 * k}" for k in range(40)]
    path.write_text("\n".join(["a,b,y", *rows, "", ""]))
    table = load_table(path)
    assert (table.names, table.target_name, len(table.target)) == (("a", "b"), "y", 40)
    hall = distill_table(table, "sparse", **QUICK)
    assert hall.best.equation == "2*a"
    assert "1 rows with NaN or infinity left out" in hall.provenance["notes"]
    path.write_text(path.read_text().replace(",", ";"))
    assert load_table(path, "y", features=["a"]).names == ("a",)


def test_a_column_of_strings_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("name,a,y\n" + "\n".join(f"n{k},{k},{k}" for k in range(30)))
    with pytest.raises(DataError, match=r"data.csv, line 2, column 'name': 'n0' is not a number; .*features"):
        load_table(path, "y")
    assert load_table(path, "y", features=["a"]).names == ("a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,y\n1,2\n3\n", "line 3: 1 cells; the first line names 2 columns"),
        ("1,2\n3,4\n", "the first line must name the columns"),
        ("a,a,y\n1,2,3\n", "two columns are called 'a'"),
        ("", "the first line must name the columns"),
        ("y\n1\n", "besides the target 'y'"),
        ("a,y\n1,\x00\n", "is not a number|not a text table"),
    ],
)
def test_csv_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_table(path, "y" if "y" in text else None)


def test_npy(tmp_path: Path) -> None:
    values = RNG.normal(size=(50, 3))
    np.save(tmp_path / "plain.npy", values)
    table = load_table(tmp_path / "plain.npy", "y", columns=("a", "b", "y"))
    np.testing.assert_array_equal(table.target, values[:, 2])
    with pytest.raises(OptionError, match="3 columns without names"):
        load_table(tmp_path / "plain.npy")
    named = np.zeros(50, dtype=[("a", "f4"), ("y", "i8")])
    np.save(tmp_path / "named.npy", named)
    assert load_table(tmp_path / "named.npy").names == ("a",)
    np.save(tmp_path / "pickle.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes((tmp_path / "plain.npy").read_bytes()[:200])
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "text.npy", np.array([("a", 1.0)] * 30, dtype=[("a", "U1"), ("y", "f8")]))
    for bad in ("pickle", "short", "cube", "text", "missing"):
        with pytest.raises(DataError):
            load_table(tmp_path / f"{bad}.npy", columns=("a", "b", "y"))


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        with pytest.raises(OptionError, match="pip install pyarrow"):
            load_table(path)
        return
    with pytest.raises(DataError, match="not a parquet file"):
        load_table(path)
    parquet.write_table(pa.table({"a": [1.0, None, 2.0], "name": ["u", "v", "w"], "y": [1, 2, 3]}), path)
    np.testing.assert_array_equal(load_table(path, "y", features=["a"]).values[:, 0], [1, np.nan, 2])
    with pytest.raises(DataError, match="'name' holds something else"):
        load_table(path)
    with pytest.raises(Unknown, match="did you mean 'a'"):
        load_table(path, "y", features=["aa"])
    monkeypatch.setattr("closedform.distillation.problem._table_files.MAX_VALUES", 5)
    with pytest.raises(DataError, match="6 values; the limit is 5"):
        load_table(path, "y", features=["a"])


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="csv"):
        load_table(tmp_path / "data.xlsx")


def test_a_million_rows_are_sampled_and_said_so() -> None:
    values = np.arange(1e6)
    table = Table.from_columns({"a": values, "y": values}, "y")
    assert len(table.target) == 100_000
    assert table.notes == ("1,000,000 rows: 100,000 of them are used, drawn at random",)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"a": [1.0], "y": [2.0]}, DistillationError, "1 rows; distillation needs at least 20"),
        ({"a": np.arange(30), "y": np.full(30, 5.0)}, DistillationError, "y is always 5"),
        ({"a": np.arange(30), "y": np.full(30, np.nan)}, DistillationError, "y is never finite"),
        ({"a": np.full(30, np.nan), "y": np.arange(30)}, DistillationError, "no column holds a finite value"),
        ({"a": ["u"] * 30, "y": np.arange(30)}, DataError, "column 'a' holds something else than numbers"),
        ({"a": np.arange(29), "y": np.arange(30)}, DataError, "different lengths"),
        ({"a": np.arange(30)}, Unknown, "unknown column 'y'"),
        ({"y": np.arange(30)}, DataError, "besides the target"),
    ],
)
def test_tables_that_cannot_be_used(columns: dict[str, object], error: type[ClosedFormError], message: str) -> None:
    with pytest.raises(error, match=message):
        distill_table(Table.from_columns(columns, "y"), "sparse", **QUICK)


def test_a_column_without_numbers_is_left_out() -> None:
    columns = {"a": np.arange(100.0), "b": np.full(100, np.nan), "y": np.arange(100.0)}
    hall = distill_table(Table.from_columns(columns, "y"), "sparse", **QUICK)
    assert hall.best.equation == "a"
    assert "column b left out: never finite" in hall.provenance["notes"]


def test_damaged_halls_are_refused() -> None:
    for text in ("{}", "[]", '{"format": "closedform.hall/1"}', "not json"):
        with pytest.raises(CheckpointError, match="not a hall of equations"):
            EquationHall.from_json(text)


def test_parquet_with_a_column_name_that_is_no_text(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table({"qqqq": [1.0, 2.0], "y": [1.0, 2.0]}), path)
    path.write_bytes(path.read_bytes().replace(b"qqqq", b"\xe2qqq"))
    with pytest.raises(DataError, match="is not a parquet file") as caught:
        load_table(path, "y")
    assert str(caught.value).isprintable()
