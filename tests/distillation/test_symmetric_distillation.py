"""Symmetries: measured as they are, kept by every rule that comes out, and let go of where they are not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closedform.distillation import SYMMETRIES, DistillConfig, HallOfFame, Table, distill, distill_table
from closedform.distillation.problem._candidate import Candidate
from closedform.distillation.problem._odd import OddForms, part
from closedform.errors import DistillationError, OptionError
from closedform.lang import Expr, Parity, degrees, evaluate, parities, parity, parse, to_text
from closedform.rules import Rule
from closedform.trajectories import Trajectories, column_source, record

MakeRecording = Callable[..., Trajectories]
QUICK = {"generations": 4, "population": 100, "rows": 300, "threads": 1, "max_complexity": 25}
KNOWN = {"m": Parity.ODD, "g": Parity.ODD, "v": Parity.EVEN, "t": Parity.EVEN}


def found(hall: HallOfFame) -> tuple[bool, bool]:
    return hall.provenance["symmetries"]["odd"], hall.provenance["symmetries"]["scale_free"]


def all_odd(hall: HallOfFame) -> bool:
    return all(parities(entry.rule.program, odd=("g", "w"))["update"] is Parity.ODD for entry in hall.entries)


def all_free(hall: HallOfFame) -> bool:
    powers = [degrees(entry.rule.program, {"g": 1.0})["update"] for entry in hall.entries]
    return all(power is not None and not power.power for power in powers)


def test_an_odd_teacher_gives_odd_rules_only(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: torch.tanh(g(0) + 0.5 * g(1)) - 0.1 * g(2), window=2)
    hall = distill(recording, **QUICK)
    assert found(hall) == (True, False)
    assert hall.provenance["symmetries"]["even_share"] < 1e-3
    assert hall.entries
    assert all_odd(hall)
    assert hall.best.r2 > 0.99


def test_a_small_drift_is_let_go_of(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: -torch.tanh(g(0)) + 0.02 * g(0) ** 2 + 0.01)
    free, odd = (distill(recording, symmetries=choice, **QUICK) for choice in ("none", "auto"))
    assert found(odd) == (True, False)
    assert all_odd(odd)
    assert not all_odd(free)
    assert odd.best.r2 > 0.98
    assert odd.best.complexity < free.best.complexity
    assert free.provenance["symmetries"]["even_share"] is None


def test_an_even_part_that_matters_stays(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: -g(0) + 0.5 * g(0) ** 2)
    hall = distill(recording, **QUICK)
    assert found(hall) == (False, False)
    assert hall.provenance["symmetries"]["even_share"] == pytest.approx(0.75 / 1.75, abs=0.1)  # of mean squares
    assert hall.best.r2 > 0.9999
    asked = distill(recording, symmetries="odd", **QUICK)
    assert all_odd(asked)
    assert asked.best.r2 < 0.9


def test_even_columns_may_stand_beside_odd_ones(make_recording: MakeRecording) -> None:
    """The step that an annealed teacher reads is even, and its update odd all the same."""
    signal = torch.arange(1, 61, dtype=torch.float64)[None, :, None]
    recording = make_recording(lambda g: -torch.tanh(g(0)) / (1 + 0.1 * signal), features=("g", "steps"))
    hall = distill(recording, **QUICK)
    assert found(hall)[0]
    assert all_odd(hall)
    assert hall.best.r2 > 0.9


@pytest.mark.parametrize(
    ("features", "rule", "free"),
    [
        (("m_tilde", "g_tilde"), "-tanh(m_tilde) - 0.2*g_tilde", True),
        (("g", "m_tilde", "g_tilde"), "-tanh(m_tilde) - 0.2*g_tilde", True),
        (("g", "m_tilde"), "-g", False),
        (("g",), "-g", False),
    ],
)
def test_scale(features: tuple[str, ...], rule: str, free: bool) -> None:
    program = column_source(("m_tilde", "g_tilde"))
    teacher = Rule.parse(
        "teacher",
        rule,
        state={name: to_text(expr) for name, expr in program.state.items()},
        where={name: to_text(expr) for name, expr in program.where.items()},
        constants=dict(program.constants),
        lr=0.01,
    )
    recording = record(teacher, "mlp-digits", features=features, steps=60, episodes=4, samples=2000)
    hall = distill(recording, **QUICK)
    assert found(hall) == (True, free)
    assert hall.best.r2 > 0.99
    assert all_odd(hall)
    assert all_free(hall) or not free


def test_what_is_asked_for_is_kept(make_recording: MakeRecording) -> None:
    recording = make_recording(lambda g: -g(0), features=("g", "g_tilde"))
    hall = distill(recording, symmetries="both", **QUICK)
    assert found(hall) == (True, True)
    assert all_odd(hall)
    assert all_free(hall)
    assert found(distill(recording, symmetries="scale-free", **QUICK)) == (False, True)


def test_choices(make_recording: MakeRecording) -> None:
    assert SYMMETRIES == ("auto", "none", "odd", "scale-free", "both")
    with pytest.raises(OptionError, match="symmetries must be one of auto, none, odd, scale-free, both, not 'even'"):
        distill(make_recording(lambda g: -g(0)), symmetries="even")
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)
    table = Table.from_columns({"x": x.numpy(), "y": (x + 1).numpy()}, "y")
    with pytest.raises(DistillationError, match="a table of data has none"):
        distill_table(table, symmetries="odd")
    assert distill_table(table, **QUICK).best.r2 > 0.9999
    assert DistillConfig().symmetries == "auto"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("0.1 + tanh(m + 0.2)", "tanh(m)"),
        ("m + v", "m"),
        ("m*(v + g)", "m*v"),
        ("(m + 1)/(g + v)", "m/v"),
        ("exp(g)", "sinh(g)"),
        ("min(m, 0.3)", "max(min(m, 0.3), -0.3)"),
        ("v - 1 - m", "-m"),
        ("square(m)", None),
        ("v*t", None),
    ],
)
def test_what_is_left_as_an_odd_form(text: str, left: str | None) -> None:
    kept = part(parse(text), Parity.ODD, KNOWN)
    assert kept == (None if left is None else parse(left))


LEAVES = st.sampled_from(["m", "g", "v", "t", "0.3", "-0.7"]).map(parse)


def _larger(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    text = inner.map(to_text)
    one = st.tuples(st.sampled_from(["tanh", "exp", "square", "abs", "relu", "cube", "asinh"]), text)
    two = st.tuples(text, st.sampled_from("+-*/"), text)
    either = st.tuples(st.sampled_from(["min", "max"]), text, text)
    return st.one_of(
        one.map(lambda x: parse(f"{x[0]}({x[1]})")),
        two.map(lambda x: parse(f"({x[0]}){x[1]}({x[2]})")),
        either.map(lambda x: parse(f"{x[0]}({x[1]}, {x[2]})")),
    )


@settings(max_examples=200)
@given(st.recursive(LEAVES, _larger, max_leaves=8))
def test_odd_forms_are_odd(expr: Expr) -> None:
    kept = part(expr, Parity.ODD, KNOWN)
    if kept is None:
        return
    assert parity(kept, KNOWN) is Parity.ODD
    drawn = torch.randn((4, 20), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = dict(zip(("m", "g", "v", "t"), (drawn[0], drawn[1], drawn[2].square(), drawn[3].abs()), strict=True))
    turned = values | {"m": -values["m"], "g": -values["g"]}
    torch.testing.assert_close(evaluate(kept, turned), -evaluate(kept, values), equal_nan=True)


def test_recurrences_are_projected_too() -> None:
    forms = OddForms.over(column_source(("g_tilde", "steps")))
    states = {"s": parse("0.9*prev(s) + 0.1*tanh(g_tilde + 0.3)")}
    kept = forms.project(Candidate(parse("0.2 - s"), {}, states))
    assert kept is not None
    assert kept.expr == parse("-s")
    assert kept.recurrences == {"s": parse("0.9*prev(s) + 0.1*tanh(g_tilde)")}
    assert forms.project(Candidate(parse("square(g_tilde)"))) is None
