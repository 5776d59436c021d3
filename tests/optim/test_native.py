"""The compiled step against the reference interpreter, and what its batches accept and refuse."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from strategies import expressions, programs
from torch import Tensor

from closedform.codegen import NativeUnavailable, openmp_parallel
from closedform.lang import (
    Apply,
    Kind,
    Memory,
    Program,
    horizon_inputs,
    initial_memory,
    memory_kinds,
    shape_inputs,
    step,
    walk,
)
from closedform.optim._native import CHUNK, Batch, Kernel
from closedform.rules import Rule, library_names, load_rule

SHAPES = [(3, 5), (1,), (), (0, 4), (2, 3, 2), (CHUNK + 1000,)]
MATRICES = [(3, 5), (7, 2), (3, 5), (4, 3, 2, 2), (6,), (), (5, 0), (40, 900), (1, 4)]
"""Two of one shape, tall and wide ones, a convolution, some that are none, and one of several chunks."""
LR, DECAY, TOTAL = 0.01, 0.1, 10
LIBRARY = library_names()
MIXED = Rule.parse(
    "mixed",
    "-m/(n + 0.1) - lag(n, 2)*lag(u, 2) - 0.1*q*lag(g, 3) - lag(m, 3)*rms(g - mean(g)) - lag(k, 2)",
    state={"m": "0.9*m + 0.1*g", "n": "0.5*n + rms(w)", "q": "0.3*q + 1/t", "k": "q + prev(q)"},
    where={"u": "tanh(m)*q"},
)
"""All kinds of states and lags: one number an element, a tensor, a step; reductions of reductions."""
STAGED = Rule.parse(
    "staged",
    "-orthogonalise(o - 0.3*rms(o)*tanh(w))*k - 0.1*(orthogonalise(lag(o, 2) + w) + p*orthogonalise(w)*tanh(q)/T)",
    state={"m": "0.9*m + g", "k": "0.5*k + rms(w)", "q": "0.5*q + orthogonalise(g)"},
    where={"o": "orthogonalise(m + g/fan_in)", "p": "0.5*prev(p) + norm(o)*progress"},
)
"""Matrix operators of each other, of lagged ones, in states, beside reductions before and after."""
ROWS = Rule.parse(
    "rows",
    "-m/(sqrt(r*c/mean(r)) + 0.1) - 0.1*col_mean(tanh(w)*r)*prev(c) - 0.1*rms(c)*orthogonalise(r*g)*p",
    state={
        "m": "0.9*m + g/(1 + r)",
        "r": "0.9*r + row_mean(square(g)) + row_mean(col_mean(w))",
        "c": "max(0.5*c, col_mean(square(g)))",
    },
    where={"p": "0.5*prev(p) + norm(c)*progress"},
    init={"c": "col_mean(square(w))"},
)
"""States of one number a row and a column, of each other, beside whole ones."""
RULES = {"mixed": MIXED, "staged": STAGED, "rows": ROWS, **{name: load_rule(name) for name in LIBRARY}}


def memory_of(program: Program, param: Tensor, state: torch.dtype | None = None) -> Memory:
    memory = initial_memory(program, param.float() if param.dtype is torch.bfloat16 else param)
    kinds = memory_kinds(program)
    return {k: v.to(state or param.dtype) if kinds[k] is Kind.ELEMENTWISE else v for k, v in memory.items()}


class Twin:
    """The same parameters advanced by the compiled step and, in another precision, by the reference."""

    def __init__(self, program: Program, dtype: torch.dtype, exact: torch.dtype, shapes=SHAPES, **options) -> None:
        self.program, self.exact = program.merged, exact
        self.generator = torch.Generator().manual_seed(0)
        self.params = [torch.randn(shape, generator=self.generator).to(dtype) for shape in shapes]
        state = options.get("state")
        self.memories = [memory_of(self.program, param, state) for param in self.params]
        self.batch = Batch(Kernel(self.program, dtype, **options))
        self.expected = [param.to(exact, copy=True).reshape(param.shape or (1,)) for param in self.params]
        self.kept = [initial_memory(self.program, param) for param in self.expected]
        self.t = 0

    def advance(self, maximize: bool = False) -> None:
        self.t += 1
        grads = [torch.randn(p.shape, generator=self.generator).to(p.dtype) for p in self.params]
        options = {"total_steps": TOTAL, "maximize": maximize, "seed": self.t}
        self.batch.step(self.params, grads, self.memories, self.t, LR, DECAY, **options)
        clock = torch.tensor(float(self.t), dtype=torch.float64)
        for i, grad in enumerate(grads):
            w = self.expected[i]
            g = grad.to(self.exact).reshape(w.shape)
            inputs = {"g": -g if maximize else g, "w": w, "t": clock, **horizon_inputs(clock, TOTAL)}
            inputs |= shape_inputs(self.params[i].shape)
            outputs, self.kept[i] = step(self.program, inputs, self.kept[i])
            self.expected[i] = (w + LR * (outputs["update"] - DECAY * w)).to(self.exact)

    def compare(self, rtol: float, atol: float) -> None:
        for param, expected in zip(self.params, self.expected, strict=True):
            torch.testing.assert_close(param.reshape(expected.shape).to(self.exact), expected, rtol=rtol, atol=atol)
        for memory, kept in zip(self.memories, self.kept, strict=True):
            for key, value in memory.items():
                expected = kept[key].to(torch.float64)
                found = value.to(torch.float64).reshape(expected.shape)
                torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=key, equal_nan=True)


def shapes_for(program: Program) -> list[tuple[int, ...]]:
    """Without empty ones where rows are kept: those are left to torch."""
    shapes = MATRICES if program.matrix_operators else SHAPES
    return [shape for shape in shapes if 0 not in shape or not program.merged.factored]


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_lockstep_float64(name: str, maximize: bool) -> None:
    program = RULES[name].program
    twin = Twin(program, torch.float64, torch.float64, shapes=shapes_for(program))
    for _ in range(7):
        twin.advance(maximize)
    twin.compare(rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", RULES)
def test_lockstep_float32(name: str) -> None:
    program = RULES[name].program
    twin = Twin(program, torch.float32, torch.float32, shapes=shapes_for(program))
    for _ in range(7):
        twin.advance()
    twin.compare(rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LIBRARY)
def test_lockstep_bfloat16(name: str) -> None:
    """Parameters and states rounded to bfloat16 (8 bits) after every step; in between, float32."""
    twin = Twin(load_rule(name).program, torch.bfloat16, torch.float32, shapes=[(40,), (3, 2)])
    for _ in range(3):
        twin.advance()
    twin.compare(rtol=0.03, atol=0.03)


def test_one_bfloat16_step_is_the_float32_step_rounded() -> None:
    program = load_rule("adam").program
    twin = Twin(program, torch.bfloat16, torch.float32)
    twin.advance()
    for param, expected in zip(twin.params, twin.expected, strict=True):
        different = (param.reshape(expected.shape) != expected.bfloat16()).double().mean() if param.numel() else 0
        assert different < 1e-3  # ties and last bits


@settings(max_examples=20)
@given(programs)
def test_random_rules(program: Program) -> None:
    twin = Twin(program, torch.float64, torch.float64, shapes=[(4, 3), (), (6,)])
    for _ in range(5):
        twin.advance()
    twin.compare(rtol=1e-10, atol=1e-11)


@settings(max_examples=20)
@given(programs)
def test_random_rules_float32(program: Program) -> None:
    """No farther from the exact result than a few times what torch in float32 is, kinks aside."""
    assume(
        not any(isinstance(node, Apply) and node.op == "sign" for expr in program.expressions() for node in walk(expr))
    )
    twin = Twin(program, torch.float32, torch.float64, shapes=[(4, 3), (6,)])
    for _ in range(3):
        twin.advance()
    twin.compare(rtol=1e-3, atol=1e-4)


@settings(max_examples=40)
@given(expressions())
def test_random_expressions_of_all_operators(expr) -> None:
    """One step from random memory; elements where the reference itself jumps under tiny changes are left out."""
    program = Program({"a": 0.7, "b": -1.3}, {}, {}, {"update": expr})
    generator = torch.Generator().manual_seed(0)
    g, w = (torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(2))
    memory = {key: torch.randn(50, generator=generator, dtype=torch.float64) for key in memory_kinds(program)}
    t = torch.tensor(3.0, dtype=torch.float64)

    def reference(change: float) -> Tensor:
        moved = {key: value * (1 - change) for key, value in memory.items()}
        inputs = {"g": g * (1 + change), "w": w * (1 - 2 * change), "t": t}
        return w + step(program, inputs, moved)[0]["update"]

    expected = reference(0.0)
    shifts = torch.stack([(reference(change) - expected).abs() for change in (1e-13, -1e-13, 3e-13, -5e-13)])
    found = w.clone()
    Batch(Kernel(program, torch.float64)).step([found], [g], [memory], 3, 1.0)
    allowed = 1e-9 * expected.abs() + 1e3 * shifts.amax(0) + 1e-12
    finite = expected.isfinite() & shifts.isfinite().all(0)
    assert ((found - expected).abs() <= allowed)[finite].all()
    steady = ~expected.isfinite() & ~shifts.isfinite().any(0)
    torch.testing.assert_close(found[steady], expected[steady], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("update", "state", "expected"),
    [
        ("lag(g, 2)", {}, [0, 0, 1, 2, 3]),
        ("lag(m, 3)", {"m": "g"}, [0, 0, 0, 1, 2]),
        ("a", {"a": "b", "b": "g"}, [0, 1, 2, 3, 4]),
        ("1 + lag(w, 1)", {}, [1, 1, 2, 3, 5]),
    ],
)
def test_lags(update: str, state: dict[str, str], expected: list[float]) -> None:
    program = Rule.parse("past", update, state=state).program
    w = torch.zeros(2)
    memory = memory_of(program, w)
    buffers = {value.data_ptr() for value in memory.values()}
    batch = Batch(Kernel(program))
    moved = []
    for t in range(1, 6):
        before = w.clone()
        batch.step([w], [torch.full((2,), float(t))], [memory], t, 1.0)
        moved.append(float((w - before)[0]))
    assert moved == expected
    assert {value.data_ptr() for value in memory.values()} == buffers  # renamed, not copied
    if update == "lag(g, 2)":
        assert (memory["g@1"][0], memory["g@2"][0]) == (5, 4)


class One:
    """One parameter of ones, and its memory."""

    def __init__(self, program: Program, shape: Sequence[int] = (6,), **options) -> None:
        self.param = torch.ones(shape)
        self.memory = memory_of(program, self.param, options.get("state"))
        self.batch = Batch(Kernel(program, **options))

    def step(self, grad: Tensor, *args: float, **options) -> None:
        self.batch.step([self.param], [grad], [self.memory], *args, **options)


def test_nan_and_infinity_pass_through() -> None:
    one = One(load_rule("adam").program)
    one.step(torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 0.0, 1e-42]), 1, 0.1, DECAY)
    assert one.param.isnan().tolist() == [False, True, True, True, False, False]
    assert one.memory["m"].isfinite().tolist() == [True, False, False, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_condition_on_the_step_chooses_whole_values(dtype: torch.dtype) -> None:
    """What is not chosen leaves no trace, be it NaN or infinite; -0 stays -0."""
    program = Rule.parse("choose", "where(greater(t, 1), g, m)", state={"m": "where(t - 2, g, w)"}).program
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-42, 2.0], dtype=dtype)
    w, memory = torch.zeros(6, dtype=dtype), {"m": torch.zeros(6, dtype=dtype)}
    batch = Batch(Kernel(program, dtype))
    batch.step([w], [odd], [memory], 1, 1.0)
    assert torch.equal(memory["m"].nan_to_num(7.0), odd.nan_to_num(7.0))
    assert memory["m"][3].signbit()
    w.fill_(3.0)
    batch.step([w], [torch.ones(6, dtype=dtype)], [memory], 2, 1.0)
    assert (memory["m"] == 3).all()
    assert (w == 4).all()


def test_without_weight_decay_an_infinite_parameter_stays() -> None:
    one = One(load_rule("sgd").program)
    one.param[0] = -torch.inf
    one.step(torch.zeros(6), 1, 0.1)
    assert one.param[0] == -torch.inf


def test_stochastic_rounding_keeps_small_changes_on_average() -> None:
    program = Rule.parse("count", "0*(m + v)", state={"m": "m + 0.001*g", "v": "v - 0.001*g"}).program
    one = One(program, (20_000,), state=torch.bfloat16, stochastic=True)
    one.memory["m"].fill_(1.0)  # next to 1, bfloat16 numbers are 1/128 apart: nearest would never move
    one.memory["v"].fill_(1.0)
    for t in range(1, 101):
        one.step(torch.ones(20_000), t, 1.0, seed=t)
    up, down = one.memory["m"].float(), one.memory["v"].float()
    assert abs(up.mean() - 1.1) < 0.002
    assert abs(down.mean() - 0.9) < 0.002
    assert 0.01 < up.std() < 0.05
    assert abs(torch.corrcoef(torch.stack([up, down]))[0, 1]) < 0.05  # states draw separately
    one.memory["m"].fill_(torch.nan)
    one.memory["v"].fill_(torch.inf)
    one.step(torch.ones(20_000), 101, 1.0, seed=101)
    assert one.memory["m"].isnan().all()
    assert (one.memory["v"] == torch.inf).all()


def test_stochastic_rounding_repeats_with_its_seed() -> None:
    results = []
    for seed in (1, 1, 2):
        one = One(load_rule("adam").program, (1000,), state=torch.bfloat16, stochastic=True)
        one.step(torch.linspace(-1, 1, 1000), 1, 0.1, seed=seed)
        results.append(one.memory["m"].clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_nearest_rounding_is_torchs() -> None:
    program = Rule.parse("keep", "0*m", state={"m": "g"}).program
    values = torch.arange(0, 2**32, 65521, dtype=torch.int64).to(torch.int32).view(torch.float32)
    one = One(program, (len(values),), state=torch.bfloat16)
    one.step(values, 1, 1.0)
    torch.testing.assert_close(one.memory["m"], values.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_the_number_of_threads_changes_nothing(name: str) -> None:
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            twin = Twin(load_rule(name).program, torch.float32, torch.float32, shapes=[(5 * CHUNK + 7,), (300,)])
            twin.advance()
            results.append(twin.params[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_torchs_own_threads_are_used() -> None:
    if not torch.backends.openmp.is_available():
        pytest.skip("torch was built without OpenMP")
    assert openmp_parallel() is not None


def test_layouts() -> None:
    """Dense in any order of dimensions; gradients laid out otherwise are copied."""
    program = load_rule("adam").program
    plain = torch.randn(2, 3, 4, 5)
    grad = torch.randn(2, 3, 4, 5)
    results = []
    for last in (False, True):
        for other in (False, True):
            form = torch.channels_last if last else torch.contiguous_format
            param = plain.clone().contiguous(memory_format=form)
            memory = {key: torch.zeros_like(param) for key in ("m", "v")}
            turned = grad.contiguous(memory_format=torch.channels_last if last != other else torch.contiguous_format)
            Batch(Kernel(program)).step([param], [turned], [memory], 1, 0.1)
            results.append(param)
    for result in results[1:]:
        assert torch.equal(result, results[0])
    one = One(program)
    one.step(torch.ones(1).expand(6), 1, 0.1)
    assert one.param.unique().numel() == 1


def test_swapped_storage_is_noticed() -> None:
    one = One(load_rule("momentum").program)
    one.step(torch.ones(6), 1, 1.0)
    one.param.data = torch.zeros(6)
    one.memory["m"] = torch.full((6,), 10.0)
    one.step(torch.ones(6), 2, 1.0)
    assert (one.param == -10).all()
    assert (one.memory["m"] == 10).all()


def test_refusals_say_why_and_change_nothing() -> None:
    program = load_rule("adam").program
    with pytest.raises(NativeUnavailable, match="not float16"):
        Kernel(program, torch.float16)
    kernel = Kernel(program)
    good = torch.ones(4)
    memory = memory_of(program, good)
    cases = [
        (good.double(), memory, "a parameter is torch.float64, expected torch.float32"),
        (torch.ones(8)[::2], memory, "overlap or have gaps"),
        (torch.ones(1).expand(4), memory, "overlap or have gaps"),
        (torch.ones(4, device="meta"), memory, "a parameter is on meta"),
        (good, memory | {"v": torch.ones(5)}, "state 'v' of shape"),
        (good, memory | {"v": torch.ones(4, dtype=torch.bfloat16)}, "state 'v' is torch.bfloat16"),
    ]
    for param, found, message in cases:
        with pytest.raises(NativeUnavailable, match=message):
            Batch(kernel).step([param], [torch.ones(4)], [found], 1, 1.0)
    assert (good == 1).all()
    assert (memory["m"] == 0).all()
