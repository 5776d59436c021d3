"""Lowering: what a plan shares, folds and drops, and that it means the same as the program."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from strategies import programs

from closedform.codegen._plan import Plan, lower, memory_rings
from closedform.lang import (
    OPERATORS,
    Kind,
    Program,
    evaluate,
    horizon_inputs,
    initial_memory,
    parse,
    shape_inputs,
    step,
)
from closedform.rules import Rule, library_names, load_rule


def plan_of(update: str, **parts) -> Plan:
    return lower(Rule.parse("test", update, **parts).program)


def operations(plan: Plan) -> Counter[str]:
    return Counter(node.op for node in plan.nodes if node.op not in ("number", "input", "past"))


def run_plan(plan: Plan, inputs: dict[str, torch.Tensor], memory: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute a plan node by node in torch; returns the outputs and moves the memory on."""
    keys = {ring.name: ring.keys for ring in plan.rings}
    extra = {"reciprocal": lambda x: 1 / x, "pow_half": lambda x: torch.pow(x, 0.5)}
    values: list[torch.Tensor] = []
    for node in plan.nodes:
        args = [values[arg] for arg in node.args]
        if node.number is not None:
            values.append(torch.tensor(node.number, dtype=torch.float64))
        elif node.op == "input":
            values.append(inputs[node.name])
        elif node.op == "past":
            values.append(memory[keys[node.name][node.lag - 1]])
        else:
            values.append(extra[node.op](*args) if node.op in extra else OPERATORS[node.op].torch(*args))
    for ring in plan.rings:
        old = [memory[key] for key in ring.keys]
        newest = values[plan.stores[ring.name]].expand_as(old[0])
        memory.update(zip(ring.keys, [newest, *old[:-1]], strict=True))
    return {name: values[index] for name, index in plan.outputs.items()}


def assert_same(program: Program, steps: int = 6, rtol: float = 1e-11) -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(7, generator=generator, dtype=torch.float64)
    kept = initial_memory(program, w)
    plan = lower(program)
    mine = {key: kept[key].clone() for ring in plan.rings for key in ring.keys}
    for t in range(1, steps + 1):
        g = torch.randn(7, generator=generator, dtype=torch.float64)
        clock = torch.tensor(float(t), dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": clock, **horizon_inputs(clock, 10), **shape_inputs(w.shape)}
        outputs, kept = step(program, inputs, kept)
        found = run_plan(plan, inputs, mine)
        torch.testing.assert_close(
            found["update"] + 0 * w, outputs["update"] + 0 * w, rtol=rtol, atol=1e-12, equal_nan=True
        )
        for key, value in mine.items():
            torch.testing.assert_close(value, kept[key], rtol=rtol, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", library_names())
def test_library_rules_keep_their_meaning(name: str) -> None:
    assert_same(load_rule(name).program)


@given(programs)
def test_random_programs_keep_their_meaning(program: Program) -> None:
    assert_same(program)


@pytest.mark.parametrize("exponent", [-4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 5, 2.5])
@pytest.mark.parametrize("form", ["g**({})", "spow(g, {})"])
def test_powers(form: str, exponent: float) -> None:
    plan = plan_of(form.format(exponent))
    x = torch.tensor([0.0, 0.5, -0.5, 3.0, -3.0, math.inf, math.nan], dtype=torch.float64)
    expected = evaluate(parse(form.format(exponent)), {"g": x})
    found = run_plan(plan, {"g": x}, {})["update"].expand(7)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0, equal_nan=True)
    assert ("pow" in operations(plan)) == (exponent in (5, 2.5) and "spow" not in form)


def test_adam_is_small() -> None:
    plan = lower(load_rule("adam").program)
    elementwise = [
        plan.nodes[i].op
        for i in range(len(plan.nodes))
        if plan.kinds[i] is Kind.ELEMENTWISE and plan.nodes[i].op not in ("input", "past")
    ]
    assert Counter(elementwise) == {"mul": 7, "add": 3, "neg": 1, "sqrt": 1, "div": 1}
    assert operations(plan)["reciprocal"] == 2
    assert max(plan.levels) == 0


def test_constants_are_folded_and_equal_parts_shared() -> None:
    constants = {"a": 2.0, "b": 3.0}
    plan = plan_of("exp(a*b - 1)*g + tanh(g*w) + tanh(w*g)", constants=constants)
    assert operations(plan) == {"mul": 2, "tanh": 1, "add": 2}
    assert math.exp(5.0) in [node.number for node in plan.nodes]


def test_division_by_what_is_the_same_for_a_tensor_becomes_a_product() -> None:
    assert operations(plan_of("g/t + w/norm(g) + g/4")) == {"reciprocal": 2, "mul": 3, "norm": 1, "add": 2}
    assert operations(plan_of("g/w + 1/t")) == {"div": 2, "add": 1}
    assert "div" in operations(plan_of("g/1e-60"))  # its reciprocal is not a float32


def test_what_must_not_be_simplified() -> None:
    """NaN and infinity times 0 is NaN, and -0 + 0 is 0."""
    assert operations(plan_of("0*g")) == {"mul": 1}
    assert operations(plan_of("g + 0")) == {"add": 1}
    assert operations(plan_of("g - g")) == {"sub": 1}
    assert operations(plan_of("g*1 - 0")) == {}
    assert operations(plan_of("1/(-(1 - 1))*g")) == {"mul": 1}
    assert -math.inf in [node.number for node in plan_of("1/(-(1 - 1))*g").nodes]


def test_levels_count_reductions_in_a_row() -> None:
    plan = plan_of("g/rms(g - mean(g)) + norm(w)")
    level = {node.op: plan.levels[i] for i, node in enumerate(plan.nodes)}
    assert (level["mean"], level["norm"], level["rms"]) == (1, 1, 2)


def test_rings() -> None:
    rule = Rule.parse("past", "lag(g, 3) + lag(m, 3) + prev(v)", state={"m": "g", "v": "0.5*v + lag(w, 1)"})
    rings = {ring.name: ring.keys for ring in memory_rings(rule.program)}
    assert rings == {"m": ("m", "m@2", "m@3"), "v": ("v",), "g": ("g@1", "g@2", "g@3"), "w": ("w@1",)}
    plan = lower(rule.program)
    assert plan.nodes[plan.stores["w"]].name == "w"


def test_equal_states_are_kept_once_and_unused_ones_not_at_all() -> None:
    state = {"a": "0.9*a + g", "b": "0.9*b + g", "unused": "g"}
    plan = plan_of("-a - b", state=state)
    assert [ring.name for ring in plan.rings] == ["a"]


def test_a_divisor_of_several_values_is_inverted_once() -> None:
    where = {"d": "sqrt(v) + eps"}
    parts = {"state": {"v": "0.9*v + square(g)"}, "constants": {"eps": 1e-8}, "where": where}
    assert operations(plan_of("g/d + w/d", **parts))["reciprocal"] == 1
    assert operations(plan_of("g/d + w/d", **parts))["div"] == 0
    assert operations(plan_of("g/d", **parts))["div"] == 1
    assert operations(plan_of("g/w + 1/w"))["div"] == 2  # w may be too small to have a reciprocal
