"""Compiled steps of rules with matrix operators, against the reference, however the matrices lie in memory."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from strategies import staged_programs
from torch import Tensor, nn

from closedform.errors import OptionError
from closedform.lang import Program
from closedform.optim import RuleOptimizer
from closedform.rules import Rule

NAMES = ("cf1", "muon", "adafactor")
BACKENDS = ("compiled", "reference")
TOTAL = 8
Start = Callable[[], list[nn.Parameter]]


def convolutions() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 3, 3, 3), (8,), (8, 8, 3, 3), (8,), (10, 72), (10,), (), (8, 8, 3, 3)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def channels_last() -> list[nn.Parameter]:
    found = convolutions()
    for param in found:
        if param.dim() == 4:
            param.data = param.data.contiguous(memory_format=torch.channels_last)
    return found


def transposed() -> list[nn.Parameter]:
    return [
        nn.Parameter(param.detach().t().contiguous().t()) if param.dim() == 2 else param for param in convolutions()
    ]


def trained(start: Start, rule: Rule | str, backend: str | None, **options) -> list[Tensor]:
    params = start()
    generator = torch.Generator().manual_seed(0)
    optimizer = RuleOptimizer(params, rule, lr=0.05, weight_decay=0.1, total_steps=TOTAL, backend=backend, **options)
    for step in range(TOTAL):
        for param in params:
            grad = torch.randn(param.shape, generator=generator).to(param.dtype)
            # laid out like the parameter at some steps, and not at others
            param.grad = torch.empty_like(param).copy_(grad) if step % 2 else grad
        optimizer.step()
    states = [value for param in params for key, value in sorted(optimizer.state[param].items()) if key != "step"]
    return [param.detach() for param in params] + states


def as_type(start: Start, dtype: torch.dtype) -> Start:
    return lambda: [nn.Parameter(param.detach().to(dtype)) for param in start()]


@pytest.mark.parametrize("start", [convolutions, channels_last, transposed])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float32, 1e-4, 1e-5), (torch.float64, 1e-11, 1e-12)])
def test_any_layout(start: Start, name: str, dtype: torch.dtype, rtol: float, atol: float) -> None:
    found = trained(as_type(start, dtype), name, "compiled")
    expected = trained(as_type(convolutions, dtype), name, "reference")
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_parameters_move_as_the_reference_moves_them(name: str) -> None:
    """Rounded to 8 bits at every step: two neighbours at most after eight of them, but for a few."""
    start = as_type(convolutions, torch.bfloat16)
    count = len(start())
    found, expected = (torch.cat([x.reshape(-1) for x in trained(start, name, kind)[:count]]) for kind in BACKENDS)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.float(), expected.float(), rtol=0.03, atol=0.02)
    assert (found == expected).double().mean() > 0.8


@pytest.mark.parametrize("name", ["cf1", "muon"])
def test_states_in_bfloat16(name: str) -> None:
    """Rounded at random, they follow those in float32 on average."""
    count = len(convolutions())
    found = trained(convolutions, name, "compiled", state_dtype=torch.bfloat16)
    expected = trained(convolutions, name, "reference")
    assert {state.dtype for state in found[count:]} == {torch.bfloat16}
    for ours, theirs, start in zip(found[:count], expected[:count], convolutions(), strict=True):
        assert (ours - theirs).norm() < 0.03 * (theirs - start.detach()).norm()


@settings(max_examples=20)
@given(staged_programs)
def test_random_rules(program: Program) -> None:
    rule = Rule("random", program, 0.1)
    found, expected = (trained(as_type(convolutions, torch.float64), rule, kind) for kind in BACKENDS)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8, equal_nan=True)


def test_a_nan_stays_in_its_matrix() -> None:
    """Matrices of one shape are orthogonalised together, each for itself."""
    params = [nn.Parameter(torch.ones(6, 4)) for _ in range(3)]
    for number, param in enumerate(params):
        param.grad = torch.full((6, 4), float(number + 1)).tril()
    params[1].grad[0, 0] = torch.nan
    RuleOptimizer(params, "muon", backend="compiled").step()
    assert [bool(param.isfinite().all()) for param in params] == [True, False, True]
    assert params[1].isnan().all()


def test_a_zero_gradient_moves_nothing_at_first() -> None:
    params = [nn.Parameter(torch.ones(shape)) for shape in ((3, 2), (4,), (2, 3, 2, 2))]
    for param in params:
        param.grad = torch.zeros_like(param)
    for name in NAMES:
        RuleOptimizer(params, name, total_steps=5, backend="compiled").step()
        assert all((param == 1).all() for param in params)


def test_buffers_follow_parameters_that_come_and_go() -> None:
    """Gradients that are missing at some steps change which matrices lie together."""

    def run(backend: str) -> list[Tensor]:
        params = convolutions()
        generator = torch.Generator().manual_seed(0)
        optimizer = RuleOptimizer(params, "cf1", total_steps=TOTAL, backend=backend)
        for step in range(TOTAL):
            for number, param in enumerate(params):
                grad = torch.randn(param.shape, generator=generator)
                param.grad = None if (step + number) % 3 == 0 else grad
            optimizer.step()
        return [param.detach() for param in params]

    torch.testing.assert_close(run("compiled"), run("reference"), rtol=1e-4, atol=1e-5)


FACTORED = {"r": "0.9*r + row_mean(square(g))", "c": "0.9*c + col_mean(square(g))"}
PAST = Rule.parse("past", "-g/sqrt(r*c + lag(r, 2))", state=FACTORED)
BESIDE = Rule.parse("beside", "-m/sqrt(r*c + 1)", state={"m": "0.9*m + g", **FACTORED})
PLAIN = Rule.parse("plain", "-g/sqrt(r*c + 1)", state=FACTORED)


def empty() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(0, 3)), nn.Parameter(torch.ones(2, 3))]


@pytest.mark.filterwarnings("ignore:rules run as torch operations")
@pytest.mark.parametrize(
    ("rule", "start", "options", "reason"),
    [
        (PAST, convolutions, {}, "the rule looks back at rows and columns"),
        (BESIDE, convolutions, {"state_dtype": torch.bfloat16}, "keeps rows and columns beside states in bfloat16"),
        (PLAIN, empty, {}, "keeps rows and columns, and a parameter has no elements"),
    ],
    ids=["past", "half", "empty"],
)
def test_what_is_left_to_torch(rule: Rule, start: Start, options: dict, reason: str) -> None:
    with pytest.raises(OptionError, match=f"{reason}.*; take backend=None"):
        trained(start, rule, "compiled", **options)
    found, expected = (trained(start, rule, backend, **options) for backend in (None, "eager"))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_rows_and_columns_stay_what_they_are() -> None:
    """Between steps a state of one number a row is no larger, and no tensor is exchanged for another."""
    params = convolutions()
    optimizer = RuleOptimizer(params, PLAIN, backend="compiled")
    kept: list[list[Tensor]] = []
    for _ in range(3):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        kept.append([optimizer.state[param][key] for param in params for key in "rc"])
    assert [tuple(value.shape) for value in kept[0][:2]] == [(8, 1, 1, 1), (1, 3, 3, 3)]
    assert all(one is other for one, other in zip(kept[0], kept[2], strict=True))
    assert kept[2][0].unique().tolist() == pytest.approx([2.71])
