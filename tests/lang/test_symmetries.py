"""What is proved of programs holds when they run: known rules, and random programs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import late_programs, programs

from closedform.analysis._probe import run
from closedform.lang import Apply, Degree, Parity, Program, degrees, parities, parse
from closedform.rules import Rule, load_rule

ODD, EVEN, ZERO = Parity.ODD, Parity.EVEN, Parity.ZERO
SHAPE, STEPS = (5, 4), 8


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn((1, STEPS, *SHAPE), generator=generator, dtype=torch.float64)
    return gradients, torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def of(update: str, **sections) -> Program:
    return Rule.parse("r", update, **sections).program


def test_values_of_adam() -> None:
    found = parities(load_rule("adam").program)
    assert (found["m"], found["v"], found["m_hat"], found["v_hat"], found["update"]) == (ODD, EVEN, ODD, EVEN, ODD)
    powers = degrees(load_rule("adam").program, {"g": 1})
    assert (powers["m"], powers["v"]) == (Degree(1), Degree(2))
    assert powers["update"] == Degree(0, frozenset({"up to eps = 1e-08"}))


@pytest.mark.parametrize(
    ("update", "parity"),
    [
        ("-g", ODD),
        ("g*abs(g)", ODD),
        ("g**3/(1 + g**2)", ODD),
        ("square(g)*t", EVEN),
        ("tanh(g) + 1", None),
        ("exp(g) - exp(-g)", None),  # it is odd, but not by its parts
        ("clip(g, -1, 1)", ODD),
        ("clip(g, -2, 1)", None),
        ("clip(g, 1, -1)", None),  # min(max(g, 1), -1) is -1 for ever
        ("max(min(g, 0.5), -0.5)", ODD),
        ("min(max(-abs(w), g), abs(w))", ODD),
        ("min(max(-w, g), w)", None),  # w may be negative
        ("g*0", ZERO),
        ("where(greater(abs(g), 1), sign(g), g)", ODD),
        ("orthogonalise(g)*rms(g)", ODD),
        ("g/g", EVEN),
        ("lag(g, 3)", ODD),
        ("sign(g)*(log(2) + slog(g))", ODD),
    ],
)
def test_parities(update: str, parity: Parity | None) -> None:
    assert parities(of(update))["update"] is parity


@pytest.mark.parametrize(
    ("update", "power"),
    [
        ("-g", 1.0),
        ("3*g**2/rms(g)", 1.0),
        ("g/(abs(g) + 1e-8)", 0.0),
        ("g/(abs(g) + 0.1)", None),
        ("g + sign(g)", None),
        ("tanh(g)", None),
        ("tanh(g/norm(g))", 0.0),
        ("spow(g, 0.25)*ssqrt(g)", 0.75),
        ("max(g, lag(g, 2))", 1.0),
        ("where(greater(g, prev(g)), g, -g)", 1.0),
        ("g + (g - 1e-8)", None),  # nothing says that it is never negative
        ("0*g", None),
    ],
)
def test_degrees(update: str, power: float | None) -> None:
    found = degrees(of(update), {"g": 1})["update"]
    if update == "0*g":
        assert found == Degree(None)
    else:
        assert (found.power if found else None) == power


def test_parities_and_degrees_of_w_alone() -> None:
    program = of("-g*rms(w)")
    assert degrees(program, {"w": 1})["update"] == Degree(1)
    assert parities(program, odd=("w",))["update"] is EVEN
    assert parities(of("-g - 0.1*w"), odd=("g", "w"))["update"] is ODD
    assert parities(of("-m - 0.1*w", state={"m": "0.9*m + g"}), (), ("g",))["update"] is EVEN
    assert parities(of("-m", state={"m": "0.9*m + g"}), (), ("g",))["update"] is ZERO


def test_a_state_that_starts_elsewhere() -> None:
    begun = of("m", state={"m": "0.9*m + 0.1*g"}, init={"m": "square(g)"})
    assert parities(begun)["update"] is None
    assert degrees(begun, {"g": 1})["update"] is None


@settings(max_examples=150)
@given(st.one_of(programs, late_programs), st.integers(0, 100))
def test_what_is_proved_odd_or_even_is_so(program: Program, seed: int) -> None:
    gradients, w = drawn(seed)
    found = parities(program)["update"]
    if found is not None:
        turned = run(program, -gradients, w)
        sign = -1 if found is ODD else 1
        assert torch.equal(turned, sign * run(program, gradients, w))
    if parities(program, (), ("g",))["update"] is ZERO:
        assert not run(program, 0 * gradients, w).any()


@settings(max_examples=150)
@given(st.one_of(programs, late_programs), st.integers(0, 100), st.sampled_from(("g", "w")))
def test_proved_degrees_hold(program: Program, seed: int, name: str) -> None:
    inner = program.outputs["update"]
    assert isinstance(inner, Apply)
    program = Program(program.constants, program.state, program.where, {"update": inner.args[0]}, program.init)
    gradients, w = drawn(seed)
    found = degrees(program, {name: 1})["update"]
    if found is not None and not found.but_for:
        scaled = run(program, 4 * gradients if name == "g" else gradients, 4 * w if name == "w" else w)
        torch.testing.assert_close(scaled, 4 ** (found.power or 0) * run(program, gradients, w), rtol=1e-9, atol=1e-12)


def test_the_sum_of_a_proof_is_not_a_guess() -> None:
    """No row is left out in silence: what an analysis has no row for, nothing is known of."""
    assert parities(of("sinh(g)"))["update"] is ODD
    assert degrees(Program({}, {}, {}, {"update": parse("log(g)")}), {"g": 1})["update"] is None
