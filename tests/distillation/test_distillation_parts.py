from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from closedform.distillation import DistillConfig, HallOfFame, Table, distill, distill_table
from closedform.distillation._proposals import Pool
from closedform.distillation._tidy import tidy
from closedform.distillation.fit._prune import prune, round_constants
from closedform.distillation.fit._refine import refine
from closedform.distillation.problem._candidate import Average, Candidate, lift_constants, nodes, put_constants
from closedform.distillation.problem._compose import compose_rule
from closedform.distillation.problem._problem import Problem, at_rows, prepare
from closedform.distillation.problem._samples import Samples
from closedform.distillation.problem._sequences import run_recurrences
from closedform.distillation.stages._dictionary import choose
from closedform.distillation.stages._gated import gated, units
from closedform.errors import CheckpointError
from closedform.lang import Expr, Lag, Number, Symbol, apply, complexity, initial_memory, parse, step, to_text, walk
from closedform.rules import Rule
from closedform.trajectories import Trajectories, column_source, record

MakeRecording = Callable[..., Trajectories]
FAR = float("inf")

leaves = st.sampled_from([Symbol("x"), Symbol("y"), Lag("x", 2)]) | st.sampled_from(
    [Number(value) for value in (0, 1, -1, 2, 0.5, -3, 1.25)]
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda op, a, b: apply(op, a, b), st.sampled_from(["add", "sub", "mul", "div", "max"]), inner, inner),
        st.builds(
            lambda op, a: apply(op, a),
            st.sampled_from(["neg", "tanh", "square", "cube", "abs", "sqrt", "ssqrt"]),
            inner,
        ),
    ),
    max_leaves=14,
)


def values_at(expr: Expr) -> torch.Tensor:
    grid = torch.linspace(-2.3, 2.1, 40, dtype=torch.float64)
    return at_rows(expr, {"x": grid, "y": grid.flip(0).exp(), "x_2": torch.cos(3 * grid)}, 40)


@given(trees)
def test_tidying_keeps_the_meaning_and_never_grows(expr: Expr) -> None:
    tidied = tidy(expr)
    assert complexity(tidied) <= complexity(expr)
    before, after = values_at(expr), values_at(tidied)
    sane = torch.isfinite(before) & (before.abs() < 1e6)
    torch.testing.assert_close(after[sane], before[sane], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5*(2*(x + 0) + -1*y)", "x - 0.5*y"),
        ("x*2*3", "6*x"),
        ("x/4 + x/4", "0.5*x"),
        ("2*square(3*x)", "18*square(x)"),
        ("-1*tanh(x)", "-tanh(x)"),
        ("y + -0.25*x + 1 + 2", "y - 0.25*x + 3"),
        ("0.5*(x - y)", "0.5*(x - y)"),
    ],
)
def test_tidied_forms(text: str, expected: str) -> None:
    assert to_text(tidy(parse(text))) == expected


@given(trees)
def test_lifting_constants_and_putting_them_back(expr: Expr) -> None:
    lifted, constants = lift_constants(expr, 5)
    assert put_constants(lifted, {f"cf_{5 + k}": value for k, value in enumerate(constants)}) == expr
    assert not any(value.is_integer() and abs(value) <= 3 for value in constants)


def test_the_best_terms_are_chosen_in_spite_of_correlation(generator: torch.Generator) -> None:
    values = torch.randn(400, 12, generator=generator, dtype=torch.float64)
    values[:, 3] = values[:, 1] + values[:, 2] + 0.1 * values[:, 3]  # the best single column is not in the answer
    target = 2 * values[:, 1] + 2 * values[:, 2] - 0.5 * values[:, 7] + 3
    third = choose(values, target, torch.ones(400, dtype=torch.float64), 5)[2]
    assert set(third.terms) == {1, 2, 7}
    assert third.intercept == pytest.approx(3)


def data_of(recording: Trajectories) -> Problem:
    return prepare(Samples.of(recording), DistillConfig())


def test_constants_and_decays_are_fitted_to_the_truth(make_recording: MakeRecording) -> None:
    rule = Rule.parse("r", "-0.3*tanh(2*m)", state={"m": "0.7*m + 0.3*g"})
    data = data_of(recorded(rule, make_recording))
    start = Candidate(parse("-0.1*tanh(1.1*a)"), {"a": Average("g", 0.9)})
    fitted = round_constants(refine(start, data, 30), data)
    assert to_text(fitted.expr) == "-0.3*tanh(2*a)"
    assert fitted.averages["a"].decay == pytest.approx(0.7, abs=1e-4)


def recorded(rule: Rule, make_recording: MakeRecording) -> Trajectories:
    """Random gradients with the updates that a rule gives for them."""

    def formula(past: Callable[[int], torch.Tensor]) -> torch.Tensor:
        g = past(0)
        memory, updates = initial_memory(rule.program, g[:, 0]), []
        for index in range(g.shape[1]):
            inputs = {"g": g[:, index], "w": torch.zeros_like(g[:, 0]), "t": torch.tensor(index + 1.0)}
            outputs, memory = step(rule.program, inputs, memory)
            updates.append(outputs["update"])
        return torch.stack(updates, dim=1)

    return make_recording(formula)


def test_pruning_takes_out_what_does_not_pay(make_recording: MakeRecording) -> None:
    data = data_of(make_recording(lambda g: torch.tanh(g(0)) + 0.5 * g(1), window=2))
    start = Candidate(parse("tanh(1.1*g) + 0.6*prev(g) + 0.001*lag(g, 2) + 0.01"))
    smallest = prune(refine(start, data), data, 1e-3)[-1]
    assert complexity(smallest.expr) <= 8
    assert data.error(smallest, data.test) < 1e-3


def test_a_gated_state_is_recovered(make_recording: MakeRecording) -> None:
    where = {"f": "1/(1 + exp(2*abs(g) - 3))", "s": "f*prev(s) + (1 - f)*tanh(1.5*g)"}
    data = data_of(recorded(Rule.parse("gated", "-0.5*tanh(3*s)", where=where), make_recording))
    best = max(gated(data, 1, 0.5, 0, FAR), key=lambda candidate: -data.error(candidate, data.test))
    assert data.error(best, data.test) < 1e-3


def test_units_fit_a_sum_of_two_saturations(make_recording: MakeRecording) -> None:
    data = data_of(make_recording(lambda g: torch.tanh(2 * g(0) - 1) - 0.5 * torch.tanh(g(1) + 1), window=1))
    lagged = Candidate(parse("0.9*tanh(1.5*g - 0.5) - 0.3*tanh(1.4*prev(g) + 0.7)"))
    assert data.error(refine(lagged, data), data.test) < 1e-6
    data = data_of(make_recording(lambda g: torch.tanh(2 * g(0) - 1) - 0.5 * torch.tanh(g(0) + 1)))
    found = list(units(data, 2, False, 0, FAR))
    assert data.error(found[0], data.test) < 1e-4
    assert nodes(found[-1]) < nodes(found[0])


CANDIDATES = {
    "average": Candidate(parse("-0.2*a + 0.1*m_tilde"), {"a": Average("m_tilde", 0.8, "cube")}),
    "two averages of one signal": Candidate(
        parse("-0.2*a + 0.3*b"), {"a": Average("g", 0.8), "b": Average("g", 0.95), "unused": Average("g", 0.5)}
    ),
    "bias-corrected": Candidate(
        parse("-0.1*(m/(sqrt(v) + 0.01)) + 0.2*a"),
        {
            "m": Average("g", 0.9, corrected=True),
            "v": Average("g", 0.99, "square", corrected=True),
            "a": Average("m_tilde", 0.5, corrected=True),
        },
    ),
    "about a mean": Candidate(
        parse("-0.1*(m/(sqrt(s) + 0.01))"),
        {
            "s": Average("g", 0.99, "square", corrected=True, about=Average("g", 0.9)),
            "m": Average("g", 0.9, corrected=True),
        },
    ),
    "about a mean that is not read": Candidate(
        parse("g/(sqrt(s) + 0.01)"),
        {"s": Average("g", 0.99, "square", about=Average("g", 0.9)), "m": Average("g", 0.9)},
    ),
    "a peak and a sum": Candidate(
        parse("0.1*g/(u + 0.01) + m_tilde/(sqrt(total) + 0.1) + lag(g, 7)"),
        {"u": Average("g", 0.9, "abs", kind="peak"), "total": Average("g", 0.5, "square", kind="sum")},
    ),
    "the largest average so far": Candidate(
        parse("g/(sqrt(top) + 0.1)"), {"top": Average("g", 0.9, "square", corrected=True, kind="top")}
    ),
    "gates": Candidate(
        parse("0.01*tanh(4*s1 - 0.7*s2 + g_tilde)"),
        {},
        {
            "f1": parse("1/(1 + exp(2.5*abs(m_tilde) - 1.5))"),
            "s1": parse("f1*prev(s1) + (1 - f1)*tanh(0.7*m_tilde + 0.5*prev(s2))"),
            "s2": parse("0.9*prev(s2) + 0.1*g_tilde"),
        },
    ),
}


STATE_COSTS = {
    "average": 3,
    "two averages of one signal": 2,
    "bias-corrected": 5,
    "about a mean": 2,
    "gates": 4,
    "about a mean that is not read": 2,
    "a peak and a sum": 11,
    "the largest average so far": 2,
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_composed_rule_does_what_its_equation_says(name: str, make_recording: MakeRecording) -> None:
    candidate = CANDIDATES[name]
    recording = make_recording(lambda g: -g(0), features=("g", "m_tilde", "g_tilde"), steps=40)
    data = data_of(recording)
    rule = compose_rule("composed", candidate, recording.source, {}, {})
    ran = recorded(rule, make_recording).updates.new_tensor(0)
    g = recording.select_episodes([1, 2, 3]).gradients
    memory, updates = initial_memory(rule.program, g[:, 0]), []
    for index in range(40):
        inputs = {"g": g[:, index], "w": torch.zeros_like(g[:, 0]), "t": torch.tensor(index + 1.0, dtype=torch.float64)}
        outputs, memory = step(rule.program, inputs, memory)
        updates.append(outputs["update"])
    ran = torch.stack(updates, dim=1)
    part = data.train
    episode, coordinate, now = part.cells
    torch.testing.assert_close(data.predict(candidate, part), ran[episode, now, coordinate], rtol=1e-5, atol=1e-6)
    assert Rule.from_json(rule.to_json()) == rule
    assert rule.state_cost == STATE_COSTS[name]


def test_fitted_decays_stay_tied_and_floors_positive(make_recording: MakeRecording) -> None:
    rule = Rule.parse(
        "about",
        "-0.1*m/sqrt(s + 0.01)",
        state={"m": "0.8*m + 0.2*g"},
        where={"s": "0.95*prev(s) + 0.05*square(g - m)"},
    )
    data = data_of(recorded(rule, make_recording))
    spread = Average("g", 0.9, "square", about=Average("g", 0.7))
    fitted = refine(Candidate(parse("-0.2*(m/sqrt(s + 0.1))"), {"m": Average("g", 0.7), "s": spread}), data, 40)
    found = fitted.averages["s"]
    assert found.about == fitted.averages["m"]
    assert (found.about.decay, found.decay) == (pytest.approx(0.8, abs=1e-6), pytest.approx(0.95, abs=1e-6))
    unidentified = data_of(make_recording(lambda g: g(0) / g(1).abs(), window=1))
    (floor,) = {
        node.value
        for node in walk(refine(Candidate(parse("g/(abs(prev(g)) + 0.3)")), unidentified, 60).expr)
        if isinstance(node, Number)
    }
    assert 0 < floor < 1e-3


def test_recurrences_run_side_by_side_for_several_constants(generator: torch.Generator) -> None:
    signals = {"g": torch.randn(70, 3, generator=generator, dtype=torch.float64)}
    recurrences = {"s": parse("cf_0*prev(s) + (1 - cf_0)*g")}
    both = run_recurrences(recurrences, signals, {"cf_0": torch.tensor([[0.5], [0.9]], dtype=torch.float64)}, 2)["s"]
    for index, decay in enumerate((0.5, 0.9)):
        s = torch.zeros(3, dtype=torch.float64)
        for now in range(70):
            s = decay * s + (1 - decay) * signals["g"][now]
            torch.testing.assert_close(both[now, index], s)


def test_the_pool_keeps_denominators_off_zero_and_refuses_poles(make_recording: MakeRecording) -> None:
    data = data_of(make_recording(lambda g: g(0) / g(1).abs(), window=1))
    pool = Pool(data, DistillConfig())
    pool.add([Candidate(parse("g/abs(prev(g))")), Candidate(parse("1/g")), Candidate(Number(4))])
    (kept,) = pool.scores
    assert to_text(kept.expr).startswith("g/(abs(prev(g)) + ")


def test_damaged_halls_are_refused(make_recording: MakeRecording) -> None:
    hall = HallOfFame((), {"note": 1})
    good = json.loads(hall.to_json())
    for change in ({"format": "closedform.hall/7"}, {"entries": [{}]}, {"entries": [[]]}, {"provenance": 3}):
        with pytest.raises(CheckpointError, match="not a hall of fame"):
            HallOfFame.from_json(json.dumps({**good, **change}))
    for text in ("", "[]", '{"entries": []}', hall.to_json()[:-9]):
        with pytest.raises(CheckpointError, match="not a hall of fame"):
            HallOfFame.from_json(text)


def test_rules_keep_clear_of_the_recordings_names() -> None:
    source = column_source(("c1",), Rule.parse("r", "-c1", state={"c1": "0.5*c1 + g"}).program)
    rule = compose_rule("clash", Candidate(parse("0.25*c1 + 0.125")), source, {}, {})
    assert rule.constants == {"c2": 0.25, "c3": 0.125}


def test_a_rule_bears_the_name_that_was_asked_for() -> None:
    """Also where averages, which have names of their own, come along."""
    hall = distill(record("momentum", ["quadratic"], steps=40, episodes=8), "sparse", generations=0, name="mine")
    assert {entry.rule.name for entry in hall.entries} == {"mine"}
    assert hall.choose().state_cost == 1


def test_buffers_are_counted_as_the_whole_rule_keeps_them() -> None:
    source = record("adam", ["quadratic"], steps=40, episodes=8)
    hall = distill(source, "sparse", generations=0)
    assert len(hall) > 2
    assert all(entry.state_cost == entry.rule.state_cost for entry in hall.entries)


def test_over_a_table_past_values_are_counted() -> None:
    x = np.random.default_rng(0).normal(size=400)
    columns = {"x": x[5:], "x_2": x[3:-2], "x_5": x[:-5], "y": x[5:] - 2 * x[3:-2] + x[:-5]}
    found = distill_table(Table.from_columns(columns, "y"), "sparse", generations=0).choose()
    assert found.state_cost == 5
    assert found.equation == "x - 2*lag(x, 2) + lag(x, 5)"
