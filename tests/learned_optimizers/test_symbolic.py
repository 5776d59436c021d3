"""A rule as a learned optimizer: exact, differentiable in its constants, and a rule again afterwards."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from strategies import late_programs

from closedform.errors import OptionError, UnknownNameError
from closedform.lang import Program, horizon_inputs, initial_memory, parse, shape_inputs, step, to_text
from closedform.learned_optimizers import Role, SymbolicOptimizer, constant_roles, lift_literals
from closedform.learned_optimizers._torch_program import TorchProgram, segment_reduce, segment_shapes
from closedform.rules import Rule, library_names, load_rule


def test_adam_in_lockstep_with_torch(generator: torch.Generator) -> None:
    start = torch.randn(8, generator=generator, dtype=torch.float64)
    theirs = torch.nn.Parameter(start.clone())
    reference = torch.optim.Adam([theirs], lr=0.01)
    ours = SymbolicOptimizer(dataclasses.replace(load_rule("adam"), lr=0.01))
    w, state = start, ours.init_state(start)
    for _ in range(100):
        g = w.square() * w.sign() + 0.1 * torch.randn(8, generator=generator, dtype=torch.float64)
        theirs.grad = g.detach().clone()
        reference.step()
        update, state = ours.update(g, w, state)
        w = (w + update).detach()
    torch.testing.assert_close(w, theirs.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", library_names())
def test_untouched_constants_come_back(name: str) -> None:
    rule = load_rule(name)
    l2o = SymbolicOptimizer(rule, [*rule.constants, "lr"])
    assert l2o.rule() == rule
    for constant, value in l2o.values().items():
        expected = rule.lr if constant == "lr" else rule.constants[constant]
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_roles() -> None:
    adam = constant_roles(load_rule("adam").program)
    assert adam == {"beta1": Role.DECAY, "beta2": Role.DECAY, "eps": Role.FLOOR}
    assert constant_roles(load_rule("momentum").program) == {"beta": Role.DECAY}
    rule = Rule.parse("x", "-a*tanh(g/s) + b*g + z*p**2", constants={"a": 0.4, "s": 0.5, "b": -0.1, "z": 0.0, "p": 3.0})
    assert constant_roles(rule.program) == {
        "a": Role.WEIGHT,
        "s": Role.POSITIVE,
        "b": Role.WEIGHT,
        "z": Role.WEIGHT,
        "p": Role.POSITIVE,
    }


def test_coordinates_keep_domains_and_let_weights_change_sign() -> None:
    rule = Rule.parse(
        "x",
        "-a*g/s + b*m + z",
        state={"m": "beta*m + g"},
        constants={"a": 0.4, "s": 0.5, "b": -0.1, "beta": 0.9, "z": 0.0},
    )
    l2o = SymbolicOptimizer(rule)
    for move in (-3.0, 3.0):
        with torch.no_grad():
            l2o.coordinates.fill_(move)
        moved = l2o.rule()
        assert 0 < moved.constants["beta"] < 1
        assert moved.constants["s"] > 0
        assert moved.lr > 0
    assert moved.constants["b"] < -0.1
    with torch.no_grad():
        l2o.coordinates.fill_(-2.0)
    assert l2o.rule().constants["a"] < 0


def test_trainable_names() -> None:
    rule = load_rule("adam")
    assert SymbolicOptimizer(rule).trainable == ("lr", "beta1", "beta2")
    assert SymbolicOptimizer(rule, ["eps"]).trainable == ("eps",)
    with pytest.raises(UnknownNameError, match="did you mean 'beta2'"):
        SymbolicOptimizer(rule, ["beta_2"])
    unused = Rule.parse("x", "-a*g", constants={"a": 1.0, "unused": 2.0})
    assert SymbolicOptimizer(unused).trainable == ("lr", "a")


def test_derivatives_in_the_constants(generator: torch.Generator) -> None:
    rule = Rule.parse(
        "x",
        "-a*tanh(m/s) - decay*w + c*norm(w)*g",
        state={"m": "beta*m + (1 - beta)*g"},
        constants={"a": 0.4, "s": 0.5, "beta": 0.9, "decay": 0.01, "c": 0.0},
        lr=0.3,
    )
    l2o = SymbolicOptimizer(rule)
    gradients = torch.randn(5, 6, generator=generator, dtype=torch.float64)

    def last_point(coordinates: torch.Tensor) -> torch.Tensor:
        w = torch.ones(6, dtype=torch.float64)
        state = l2o.init_state(w, [2, 4])
        for g in gradients:
            update, state = torch.func.functional_call(l2o, {"coordinates": coordinates}, (g, w, state))
            w = w + update
        return w

    l2o.forward = l2o.update
    start = 0.3 * torch.randn(6, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(last_point, start.requires_grad_())


def test_lamb_reduces_each_tensor_by_itself(generator: torch.Generator) -> None:
    l2o = SymbolicOptimizer(load_rule("lamb"))
    w, g = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    together, state = l2o.update(g, w, l2o.init_state(w, (2, 3)))
    parts = [l2o.update(g[part], w[part], l2o.init_state(w[part]))[0] for part in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(together, torch.cat(parts))
    assert state["sizes"].tolist() == [2, 3]


def test_lift_literals() -> None:
    rule = Rule.parse(
        "x",
        "-0.01*tanh(3.5*m + 2*g**0.5) + c1*g/0.5 - spow(0.7*g, 1/3)",
        state={"m": "0.9*m + g"},
        constants={"c1": 4.0},
    )
    lifted = lift_literals(rule)
    assert to_text(lifted.update) == "c2*tanh(c3*m + 2*g**0.5) + c1*g/c4 - spow(c5*g, 1/3)"
    assert lifted.constants == {"c1": 4.0, "c2": -0.01, "c3": 3.5, "c4": 0.5, "c5": 0.7}
    assert lifted.state == rule.state
    assert lift_literals(lifted) == lifted


def test_features_are_the_columns_that_the_update_reads() -> None:
    assert SymbolicOptimizer(load_rule("adam")).features == ("g",)
    rule = Rule.parse("x", "-m_tilde", where={"m_tilde": "tanh(g)"})
    assert SymbolicOptimizer(rule).features == ("m_tilde",)


def _tensors(w: torch.Tensor, shapes: tuple) -> list[torch.Tensor]:
    return [part.reshape(shape) for part, shape in zip(w.split([math.prod(s) for s in shapes]), shapes, strict=True)]


@settings(max_examples=25)
@given(late_programs)
def test_rules_that_look_at_shapes_equal_the_interpreter_on_each_tensor(program: Program) -> None:
    shapes, total = ((4, 3), (5,), (2, 3, 2), (), (3, 4)), 4
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(42, generator=generator, dtype=torch.float64)
    l2o = SymbolicOptimizer(Rule("random", program, 0.1))
    state = l2o.init_state(w, shapes, total_steps=total)
    memories = [initial_memory(program, part) for part in _tensors(w, shapes)]
    for t in range(1, 6):
        g = torch.randn(42, generator=generator, dtype=torch.float64)
        update, state = l2o.update(g, w, state)
        now = torch.tensor(float(t), dtype=torch.float64)
        expected = []
        for index, (part, own) in enumerate(zip(_tensors(g, shapes), _tensors(w, shapes), strict=True)):
            inputs = {"g": part, "w": own, "t": now, **horizon_inputs(now, total), **shape_inputs(part.shape)}
            outputs, memories[index] = step(program, inputs, memories[index])
            expected.append(0.1 * outputs["update"].expand_as(part).reshape(-1))
        torch.testing.assert_close(update, torch.cat(expected), rtol=1e-9, atol=1e-11, equal_nan=True)
        w = w + update


def test_populations_have_constants_and_values_in_rows(generator: torch.Generator) -> None:
    shapes = ((4, 3), (5,))
    program = Program(
        {"a": 0.5},
        {"m": parse("a*m + g"), "r": parse("a*r + row_mean(square(g))")},
        {},
        {"update": parse("orthogonalise(m)*fan_in**a/sqrt(r) + col_mean(w)*norm(g)")},
        {"m": parse("w")},
    )
    g, w = torch.randn(2, 3, 17, generator=generator, dtype=torch.float64)
    a = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    shape = segment_shapes(shapes, torch.float64, torch.device("cpu"))

    def two_steps(constant: torch.Tensor, g: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        bound, memory = (
            TorchProgram(program).bind({"a": constant}),
            {"m": torch.zeros_like(w), "r": torch.zeros_like(w)},
        )
        for t in (1.0, 2.0):
            inputs = {"g": g, "w": w, "t": torch.tensor(t, dtype=torch.float64), **shape}
            outputs, memory = bound(inputs, memory, segment_reduce(shapes))
        return outputs["update"]

    alone = torch.stack([two_steps(a[k, 0], g[k], w[k]) for k in range(3)])
    torch.testing.assert_close(two_steps(a, g, w), alone)


def test_side_by_side_with_a_horizon_and_shapes(generator: torch.Generator) -> None:
    rule = Rule.parse("x", "-(1 - progress)*orthogonalise(m)/fan_in", state={"m": "0.9*m + g"}, init={"m": "w"})
    l2o, shapes = SymbolicOptimizer(rule), ((4, 3), (5,))
    g, w = torch.randn(2, 3, 17, generator=generator)
    states = [l2o.init_state(w[k], shapes, total_steps=10) for k in range(3)]
    stacked = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    own = {name: value.expand(3, *value.shape) for name, value in l2o.named_parameters()}
    together, after = l2o.bind_stacked(own)(g, w, stacked)
    for k in range(3):
        torch.testing.assert_close(together[k], l2o.update(g[k], w[k], states[k])[0])
    assert after["T"].tolist() == [10.0] * 3


def test_a_horizon_that_is_needed_must_be_given() -> None:
    l2o = SymbolicOptimizer(Rule.parse("annealed", "-(1 - progress)*g"))
    for total in (None, 0):
        with pytest.raises(OptionError, match=r'rule "annealed" reads the horizon'):
            l2o.init_state(torch.ones(2), total_steps=total)
    assert "T" not in SymbolicOptimizer(load_rule("adam")).init_state(torch.ones(2), total_steps=5)


def test_derivatives_through_matrix_operators(generator: torch.Generator) -> None:
    rule = Rule.parse(
        "x",
        "-a*orthogonalise(m)/sqrt(r + 0.1) - progress**b*col_mean(m)",
        state={"m": "beta*m + g", "r": "beta*r + row_mean(square(g))"},
        constants={"a": 0.4, "b": 0.5, "beta": 0.9},
    )
    l2o = SymbolicOptimizer(rule)
    gradients = torch.randn(3, 8, generator=generator, dtype=torch.float64)

    def last_point(coordinates: torch.Tensor) -> torch.Tensor:
        w = torch.ones(8, dtype=torch.float64)
        state = l2o.init_state(w, [(2, 3), 2], total_steps=3)
        for g in gradients:
            update, state = torch.func.functional_call(l2o, {"coordinates": coordinates}, (g, w, state))
            w = w + update
        return w

    start = 0.3 * torch.randn(len(l2o.trainable), generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(last_point, start.requires_grad_())
    zeros = l2o.update(torch.zeros(8), torch.ones(8), l2o.init_state(torch.ones(8), [(2, 3), 2], total_steps=3))[0]
    assert torch.isfinite(torch.autograd.grad(zeros.sum(), l2o.coordinates)[0]).all()
