"""Tables whose rows are windows: recurrences begun at the oldest lag, beside optimizers of torch on whole sequences."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from open_loop import updates_of

from closedform.distillation import DistillConfig, EquationHall, Table, distill_table
from closedform.distillation._equations import _Judged
from closedform.distillation._outcome import Scored
from closedform.distillation.problem._candidate import Candidate
from closedform.distillation.problem._problem import prepare
from closedform.distillation.problem._scaling import Scaled
from closedform.distillation.problem._windows import Window
from closedform.errors import CheckpointError, UnknownNameError
from closedform.lang import names, parse
from closedform.trajectories import Column

QUICK = {"backend": "sparse", "threads": 1, "time_limit": 0}
LAGS, STEPS, PARAMETERS = 19, 80, 30
Columns = dict[str, np.ndarray]


def gradients(seed: int = 7) -> torch.Tensor:
    """[T, C], of sizes that differ by parameter, in runs, so that averages are not all near 0."""
    draws = torch.Generator().manual_seed(seed)
    noise = torch.randn(STEPS, PARAMETERS, generator=draws, dtype=torch.float64)
    scale = torch.exp(torch.randn(PARAMETERS, generator=draws, dtype=torch.float64))
    return scale * (noise + noise.cumsum(dim=0) / 10)


def torch_updates(make: Callable[..., torch.optim.Optimizer], g: torch.Tensor) -> torch.Tensor:
    """What an optimizer of torch does with gradients, [T, C]."""
    w, updates = torch.zeros_like(g[0], requires_grad=True), []
    optimizer = make([w])
    for now in g:
        before, w.grad = w.detach().clone(), now.clone()
        optimizer.step()
        updates.append(w.detach() - before)
    return torch.stack(updates)


def windows(g: torch.Tensor, y: torch.Tensor, first: int = LAGS) -> Columns:
    """Rows in no order, from some step on; zeros before the first step of all."""
    before = np.concatenate([np.zeros((LAGS, g.shape[1])), g.numpy()])
    t, c = (part.ravel() for part in np.meshgrid(np.arange(first, len(g)), np.arange(g.shape[1]), indexing="ij"))
    order = np.random.default_rng(0).permutation(len(t))
    t, c = t[order], c[order]
    lags = {f"x_{lag}" if lag else "x": before[t + LAGS - lag, c] for lag in range(LAGS + 1)}
    return {**lags, "t_": t + 1.0, "layer": 1.0 + c % 3, "y": y.numpy()[t, c]}


def chosen(columns: Columns, features: list[str] | None = None) -> tuple[EquationHall, str]:
    """The hall, and the chosen equation, which survives a file."""
    hall = distill_table(Table.from_columns(columns, "y", features=features), **QUICK)
    again = EquationHall.from_json(hall.to_json())
    assert again == hall
    return again, again.choose().equation


def lag_names() -> list[str]:
    return ["x", *(f"x_{lag}" for lag in range(1, LAGS + 1))]


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    return 1 - float(np.square(y - predicted).sum() / np.square(y - y.mean()).sum())


def test_momentum_is_seen_through_a_window() -> None:
    def make(w: list[torch.Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(w, lr=0.1, momentum=0.6)

    g = gradients()
    columns = windows(g, torch_updates(make, g))
    hall, _ = chosen(columns, lag_names())
    entry = hall.choose()
    assert (entry.complexity, entry.state_cost) == (3, 1)
    assert entry.r2 > 0.99999
    assert r2(columns["y"], entry.predict(columns)) > 0.99999
    assert entry.rule is not None
    assert entry.rule.constants["d_m"] == pytest.approx(0.6, abs=1e-4)
    other = gradients(8)
    expected = torch_updates(make, other)
    torch.testing.assert_close(updates_of(entry.rule, other), expected, rtol=0, atol=1e-3 * float(expected.std()))


@pytest.mark.parametrize("beta2", [0.9, 0.95])
def test_adam_is_seen_through_a_window(beta2: float) -> None:
    g = gradients()
    columns = windows(g, torch_updates(lambda w: torch.optim.Adam(w, lr=0.01, betas=(0.9, beta2)), g))
    hall, _ = chosen(columns, lag_names())
    entry = hall.choose()
    assert entry.r2 > 0.99
    assert entry.rule is not None
    assert entry.state_cost == 2
    assert "v_hat" in entry.equation


def test_a_factor_of_another_column_is_found() -> None:
    g = gradients()
    columns = windows(g, torch_updates(lambda w: torch.optim.Adam(w, lr=0.01, betas=(0.9, 0.9)), g))
    columns["y"] = columns["y"] * columns["layer"]
    entry = chosen(columns, [*lag_names(), "layer"])[0].choose()
    assert entry.r2 > 0.99
    assert {"m_hat", "v_hat", "layer"} <= names(entry.expr)
    assert entry.rule is None
    assert r2(columns["y"], entry.predict(columns)) > 0.99


def test_rows_of_the_first_steps_tell_how_averages_begin() -> None:
    g = gradients()[: LAGS + 1].reshape(-1, PARAMETERS)
    g = torch.cat([g, gradients(8)[: LAGS + 1]], dim=1)
    columns = windows(g, torch_updates(lambda w: torch.optim.Adam(w, lr=0.01, betas=(0.9, 0.999)), g), first=0)
    entry = distill_table(Table.from_columns(columns, "y", features=[*lag_names(), "t_"]), **QUICK).choose()
    assert entry.window == Window("x", LAGS, "t_")
    assert entry.r2 > 1 - 1e-6
    assert entry.rule is not None
    found = {name: value for name, value in entry.rule.constants.items() if name.startswith("d_")}
    assert found == pytest.approx({"d_m": 0.9, "d_v": 0.999}, abs=1e-3)
    assert r2(columns["y"], entry.predict(columns)) > 1 - 1e-6
    without = distill_table(Table.from_columns(columns, "y", features=lag_names()), **QUICK).choose()
    assert without.window == Window("x", LAGS, None, padded=True)
    assert without.equation == entry.equation


def test_a_short_memory_is_no_sum_of_lags() -> None:
    g = gradients()
    columns = windows(g, torch_updates(lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.3), g))
    entry = distill_table(Table.from_columns(columns, "y", features=lag_names()), max_complexity=100, **QUICK).choose()
    assert (entry.complexity, entry.state_cost, entry.stage) == (3, 1, "recurrences")


def test_plain_lags_stay_in_the_search() -> None:
    g = gradients()
    columns = windows(g, g)
    columns["y"] = columns["x_3"] - 2 * columns["x_7"]
    hall, equation = chosen(columns)
    assert equation == "lag(x, 3) - 2*lag(x, 7)"
    rule = hall.choose().rule
    assert rule is not None
    assert rule.state_cost == hall.choose().state_cost == 7
    expected = torch.zeros_like(g)
    expected[3:] += g[:-3]
    expected[7:] -= 2 * g[:-7]
    torch.testing.assert_close(updates_of(rule, g), expected)


def test_an_equation_that_also_reads_other_columns_is_no_rule() -> None:
    g = gradients()
    columns = windows(g, torch_updates(lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.5), g))
    columns["m"] = columns.pop("layer") / 10
    columns["y"] = columns["y"] - 3 * columns["m"]
    hall, equation = chosen(columns)
    entry = hall.choose()
    assert entry.r2 > 0.9999
    assert "3*m" in equation  # the column; the state has another name
    assert entry.written is not None
    assert entry.rule is None
    np.testing.assert_allclose(entry.predict(columns), columns["y"], atol=1e-2)
    del columns["x_11"]
    with pytest.raises(UnknownNameError, match="also needs the columns x_11"):
        entry.predict(columns)


def test_states_with_gates_are_written_too() -> None:
    g = gradients()
    columns = windows(g, torch_updates(lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.5), g))
    table = Table.from_columns(columns, "y", features=lag_names())
    scaled = Scaled.of(table)
    problem = prepare(scaled.table.samples(scaled.window), DistillConfig())
    recurrences = {"f1": parse("0.5 + 0*g"), "s1": parse("f1*prev(s1) + (1 - f1)*g")}
    candidate = Candidate(parse("-0.2*s1"), {}, recurrences, "gated")
    entry = _Judged(table, scaled, problem).equation(Scored(candidate, "-0.2*s1", 0, 0, 3, 1, "gated"))
    assert entry is not None
    assert entry.r2 > 0.99999
    assert r2(columns["y"], entry.predict(columns)) > 0.99999
    assert entry.rule is not None
    assert entry.rule.state_cost == entry.state_cost == 1


def test_a_window_of_another_unit_or_on_an_offset() -> None:
    g = gradients()
    columns = windows(1e-9 * g, 1e12 * torch_updates(lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.5), g))
    entry = chosen(columns, lag_names())[0].choose()
    assert entry.r2 > 0.99999
    assert entry.rule is not None
    np.testing.assert_allclose(entry.predict(columns), columns["y"], atol=1e-3 * columns["y"].std())

    far = {name: 1e6 + 1e9 * values if name.startswith("x") else values for name, values in columns.items()}
    assert distill_table(Table.from_columns(far, "y", features=lag_names()), **QUICK).choose().window is None


def test_which_columns_are_a_window() -> None:
    columns = windows(gradients(), gradients())
    table = Table.from_columns(columns, "y")
    assert table.lags == {f"x_{lag}": Column("x", lag) for lag in range(1, LAGS + 1)}
    assert table.notes[0].startswith("read as a window of x, a row each, by their names: x_1, x_2")
    assert not Table.from_columns(columns, "y", lags=False).lags
    few = Table.from_columns(columns, "y", features=["x", "x_1", "x_2", "x_3", "x_5"])
    assert not few.lags
    assert any("do not bear it out: x_1, x_2, x_3, x_5" in note for note in few.notes)
    values = {name: columns[name] for name in (*lag_names(), "t_", "layer")}
    assert Window.of(values, table.lags) == Window("x", LAGS, "t_")
    values["t_"] = values["t_"] - LAGS  # rows of step 1 whose windows hold something
    assert Window.of(values, table.lags) == Window("x", LAGS)


def test_series_below_each_other_are_windows_where_the_rows_bear_out_the_first_lags_alone() -> None:
    each = [windows(g[:, None], g[:, None]) for g in gradients().T]
    series = [{name: values[np.argsort(one["t_"])] for name, values in one.items()} for one in each]
    table = Table.from_columns({name: np.concatenate([one[name] for one in series]) for name in series[0]}, "y")
    assert table.lags == {f"x_{lag}": Column("x", lag) for lag in range(1, LAGS + 1)}
    assert table.notes[0].startswith("read as lags, as the rows bear out: x_1 as x 1 rows ago, x_2")
    assert table.notes[1].startswith("read as a window of x, a row each, by their names: x_4, x_5")


def test_episodes_begin_at_a_row_s_first_step() -> None:
    window = Window("x", 2, "t_")
    values = {"x_2": [0.0, 0.0, 1.0], "x_1": [0.0, 2.0, 2.0], "x": [5.0, 3.0, 3.0], "t_": [1.0, 2.0, 40.0]}
    episodes, steps = window.episodes(values)
    assert episodes.tolist() == [[5, 0, 0], [2, 3, 0], [1, 2, 3]]
    assert steps.tolist() == [1, 2, 3]
    padded = Window("x", 2, padded=True).episodes(values)
    assert [part.tolist() for part in padded] == [part.tolist() for part in (episodes, steps)]


def test_names_of_columns_and_of_states_do_not_meet() -> None:
    g = gradients()
    columns = windows(g, g)
    others = {name: columns["x"] ** power for power, name in enumerate(("g", "m_9", "progress", "w"), start=2)}
    table = Table.from_columns({**columns, **others}, "y")
    window = Window.of(dict(zip(table.names, table.values.T, strict=True)), table.lags)
    assert window is not None
    problem = prepare(table.samples(window), DistillConfig())
    named = [column.name for column in problem.columns if not column.lag]
    assert named == ["g", "t", "layer", "column_g", "column_m_9", "progress", "w"]
    assert [column.name for column in problem.averaged] == ["g"]


def test_damaged_files_of_windows_are_refused() -> None:
    g = gradients()
    columns = windows(g, torch_updates(lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.5), g))
    text = chosen(columns, lag_names())[0].to_json()
    for name, value in {"window": None, "written": {"format": "closedform.rule/1"}}.items():
        document = json.loads(text)
        document["entries"][0][name] = value
        with pytest.raises(CheckpointError, match=r"entries\[0\]"):
            EquationHall.from_json(json.dumps(document))
