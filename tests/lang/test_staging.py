"""Cutting a loop into stages: every value is computed once, before its use, and handed on where it is needed."""

import pytest
from hypothesis import given
from strategies import programs

from closedform.codegen._plan import Plan, lower
from closedform.codegen._stages import MOST_CARRIED, Stage, stages
from closedform.lang import Kind, Program
from closedform.rules import Rule, library_names, load_rule


def stages_of(program: Program) -> tuple[Plan, list[Stage], list[int]]:
    plan = lower(program)
    elementwise = [index for index, kind in enumerate(plan.kinds) if kind is Kind.ELEMENTWISE]
    return plan, stages(plan, elementwise, plan.stores.values(), plan.outputs["update"]), elementwise


def check(program: Program) -> None:
    plan, found, elementwise = stages_of(program)
    computed: set[int] = set()
    left: set[int] = set()
    for stage in found:
        assert set(stage.incoming) <= left
        here = set(stage.incoming)
        for index in stage.nodes:
            assert all(arg in here for arg in plan.nodes[index].args if plan.kinds[arg] is Kind.ELEMENTWISE)
            assert index not in computed or plan.nodes[index].op == "input"
            here.add(index)
        assert set(stage.outgoing) <= set(stage.nodes)
        computed |= set(stage.nodes)
        left |= set(stage.outgoing)
    assert computed == set(elementwise)
    last = plan.outputs["update"]
    assert last in (*found[-1].nodes, *found[-1].incoming) or plan.kinds[last] is not Kind.ELEMENTWISE
    assert len(found) == 1 or len(left) <= MOST_CARRIED


@given(programs)
def test_random_programs(program: Program) -> None:
    check(program)


@pytest.mark.parametrize("name", library_names())
def test_rules_without_slow_functions_are_one_loop(name: str) -> None:
    check(load_rule(name).program)
    assert len(stages_of(load_rule(name).program)[1]) == 1


def test_a_function_of_a_quotient_waits_for_the_next_stage() -> None:
    rule = Rule.parse("two", "-tanh(m/(sqrt(v) + 1e-8)) - w", state={"m": "0.9*m + g", "v": "0.9*v + square(g)"})
    plan, found, _ = stages_of(rule.program)
    assert len(found) == 2
    assert [plan.nodes[index].op for index in found[0].outgoing] == ["div"]
    assert "sqrt" in [plan.nodes[index].op for index in found[0].nodes]
    assert "tanh" in [plan.nodes[index].op for index in found[1].nodes]


def test_functions_of_what_is_at_hand_stay_in_one_loop() -> None:
    sum_of_many = " - ".join(f"tanh(0.{k}*lag(g, {k}))" for k in range(1, 10))
    assert len(stages_of(Rule.parse("sum", sum_of_many).program)[1]) == 1
