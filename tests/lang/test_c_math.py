"""The C functions of generated steps: their errors in float32 against float64, and special values.

The largest errors allowed are those that docs/performance.md states.
"""

import ctypes
import math
import re
from pathlib import Path

import pytest
import torch

from closedform.codegen._build import load
from closedform.codegen._c_source import math_header
from closedform.lang import OPERATORS

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
ONE = ["exp", "log", "tanh", "sinh", "asinh", "erf", "erfc", "slog", "sqrt", "ssqrt"]
TWO = ["pow", "spow"]
PLAIN = ["abs", "sign", "relu", "min", "max", "clip", "greater", "where", "neg", "square", "cube"]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, 1e-45, -1e-45, 1e-38, 1e38, -1e38, 88.7, -104.0, 16777215.0]
SPECIAL += [math.inf, -math.inf, math.nan]


def stated_errors() -> dict[str, float]:
    """Function -> largest error in units in the last place, from the table in the documentation."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return {name: float(error) for name, error in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    loops = []
    for name in [*ONE, *TWO, *PLAIN]:
        row = OPERATORS[name]
        for real in ("float", "double"):
            call = row.c.format("x[i]", "y[i]", "z[i]")
            loops.append(
                f"void {name}_{real}(const {real} *restrict x, const {real} *restrict y, const {real} *restrict z, "
                f"{real} *restrict out, int64_t n) {{\n"
                f'    (void)y, (void)z;\n    _Pragma("omp simd")\n'
                f"    for (int64_t i = 0; i < n; i++) out[i] = {call};\n}}\n"
            )
    return load(math_header() + "".join(loops))


def call(library: ctypes.CDLL, name: str, *args: torch.Tensor) -> torch.Tensor:
    real = "float" if args[0].dtype is torch.float32 else "double"
    result = torch.empty_like(args[0])
    three = [*args, *[args[0]] * (3 - len(args))]
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*three, result)]
    library[f"{name}_{real}"](*pointers, ctypes.c_int64(result.numel()))
    return result


def ulps(found: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Distance of float32 values from float64 ones, in units in the last place; infinite where one is NaN."""
    _, exponent = torch.frexp(exact.abs())
    unit = torch.ldexp(torch.ones_like(exact), (exponent - 24).clamp(min=-149, max=104))
    limit = 2.0**128  # where float32 goes over to infinity, it counts as the next number
    distance = (found.double().clamp(-limit, limit) - exact.clamp(-limit, limit)).abs() / unit
    return torch.where(
        found.isnan() | exact.isnan(), torch.where(found.isnan() & exact.isnan(), 0.0, math.inf), distance
    )


def every_float(stride: int) -> torch.Tensor:
    """Float32 numbers with bit patterns ``stride`` apart: all exponents, denormals, infinities, NaN."""
    patterns = torch.arange(0, 2**32, stride, dtype=torch.int64)
    return torch.cat([patterns.to(torch.int32).view(torch.float32), torch.tensor(SPECIAL)])


def exactly(name: str, *args: torch.Tensor) -> torch.Tensor:
    if name == "slog":  # the sum rounds to float32 first, as in torch
        return torch.log((args[0].abs() + 1e-8).double())
    return OPERATORS[name].torch(*(arg.double() for arg in args))


@pytest.mark.parametrize("name", ONE)
def test_error_of_one_argument(library: ctypes.CDLL, name: str) -> None:
    usual = torch.linspace(-12, 12, 400_001)
    for x in (every_float(2003), usual, usual / 12):
        error = ulps(call(library, name, x), exactly(name, x))
        worst = error.argmax()
        assert error.max() <= stated_errors()[name], f"{name}({x[worst].item().hex()}): {error.max()} ulp"


@pytest.mark.parametrize("name", TWO)
def test_error_of_two_arguments(library: ctypes.CDLL, name: str, generator: torch.Generator) -> None:
    x = every_float(8009)
    x = x[torch.randperm(len(x), generator=generator)]
    y = (torch.rand(len(x), generator=generator) * 2 - 1) * 100 / x.double().abs().log().abs().clamp(min=0.1).float()
    y = torch.where(torch.rand(len(x), generator=generator) < 0.5, y.round(), y)
    special = torch.tensor(SPECIAL)
    pairs = torch.cartesian_prod(special, special)
    for one, other in ((x, y), (pairs[:, 0].contiguous(), pairs[:, 1].contiguous())):
        error = ulps(call(library, name, one, other), exactly(name, one, other))
        worst = error.argmax()
        assert error.max() <= stated_errors()[name], f"{name}({one[worst]}, {other[worst]}): {error.max()} ulp"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_functions_are_exact(library: ctypes.CDLL, name: str, dtype: torch.dtype) -> None:
    special = torch.tensor(SPECIAL, dtype=dtype)
    args = [column.contiguous() for column in torch.cartesian_prod(special, special, special).T]
    args = args[: OPERATORS[name].arity]
    found, expected = call(library, name, *args), OPERATORS[name].torch(*args)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_double_functions(library: ctypes.CDLL, name: str, generator: torch.Generator) -> None:
    args = [torch.randn(10_000, generator=generator, dtype=torch.float64) * 3 for _ in range(OPERATORS[name].arity)]
    found, expected = call(library, name, *args), OPERATORS[name].torch(*args)
    torch.testing.assert_close(found, expected, rtol=4e-15, atol=0, equal_nan=True)


def test_tanh_and_erf_stay_within_one(library: ctypes.CDLL) -> None:
    for name in ("tanh", "erf"):
        y = call(library, name, torch.linspace(-20, 20, 1_000_001))
        assert y.abs().max() == 1
        assert (y.diff() >= -1e-6).all()


def test_signed_zero_and_small_arguments_are_kept(library: ctypes.CDLL) -> None:
    x = torch.tensor([-0.0, 0.0, 1e-45, -1e-45, 1e-30, -1e-30])
    for name in ("tanh", "sinh", "asinh"):
        y = call(library, name, x)
        assert torch.equal(y, x)
        assert torch.equal(y.signbit(), x.signbit())
