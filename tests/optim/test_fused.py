"""The compiled step for other devices, on CPU tensors: equal to the native one."""

import pytest
import torch

from closedform.codegen._build import NativeUnavailable
from closedform.optim._backends import new_memory
from closedform.optim._fused import JOIN, FusedBatch, FusedKernel
from closedform.optim._native import Batch, Kernel
from closedform.rules import Rule, library_names, load_rule

SHAPES = [(3, 5), (1,), (), (0, 4), (JOIN + 10,), (JOIN - 10,), (2, 3, 4)]
MIXED = Rule.parse(
    "mixed",
    "-m/(n + 0.1) - lag(n, 2)*lag(u, 2) - 0.1*q*lag(g, 3) - lag(m, 3)*rms(g - mean(g)) - lag(k, 2)",
    state={"m": "0.9*m + 0.1*g", "n": "0.5*n + rms(w)", "q": "0.3*q + 1/t", "k": "q + prev(q)"},
    where={"u": "tanh(m)*q"},
)
MATRICES = [name for name in library_names() if load_rule(name).program.matrix_operators]
"""The native step takes them: see test_matrix_stages.py."""


def compare(rule: Rule, backend: str, dtype: torch.dtype = torch.float32) -> None:
    program = rule.program.merged
    generator = torch.Generator().manual_seed(0)
    mine = [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]
    other = [param.clone() for param in mine]
    memories = [[new_memory(program, param) for param in params] for params in (mine, other)]
    fused, native = FusedBatch(FusedKernel(program, backend=backend)), Batch(Kernel(program, dtype))
    for t in range(1, 6):
        grads = [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]
        lr = torch.tensor(0.01) if t % 2 else 0.02
        fused.step(mine, grads, memories[0], t, lr, 0.1, maximize=t == 2)
        native.step(other, grads, memories[1], t, lr, 0.1, maximize=t == 2)
    for found, expected in zip(mine, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for found_memory, expected_memory in zip(*memories, strict=True):
        for key, value in expected_memory.items():
            torch.testing.assert_close(found_memory[key], value, rtol=1e-5, atol=1e-6, msg=key, equal_nan=True)


@pytest.mark.parametrize("rule", [load_rule("adam"), MIXED], ids=["adam", "mixed"])
def test_equal_to_the_native_step(rule: Rule) -> None:
    compare(rule, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in library_names() if name not in MATRICES])
def test_library_rules(name: str) -> None:
    compare(load_rule(name), "aot_eager")


@pytest.mark.parametrize("name", MATRICES)
def test_rules_over_matrices_are_refused(name: str) -> None:
    with pytest.raises(NativeUnavailable, match="the rule looks at rows, columns or whole matrices"):
        FusedKernel(load_rule(name).program.merged)


def test_stochastic_rounding() -> None:
    program = Rule.parse("count", "0*(m + v)", state={"m": "m + 0.001*g", "v": "v - 0.001*g"}).program
    param = torch.ones(20_000)
    memory = {"m": torch.ones(20_000, dtype=torch.bfloat16), "v": torch.ones(20_000, dtype=torch.bfloat16)}
    batch = FusedBatch(FusedKernel(program, stochastic=True, backend="eager"))
    for t in range(1, 101):
        batch.step([param], [torch.ones(20_000)], [memory], t, 1.0, seed=t)
    up, down = memory["m"].float(), memory["v"].float()
    assert abs(up.mean() - 1.1) < 0.002
    assert abs(down.mean() - 0.9) < 0.002
    assert abs(torch.corrcoef(torch.stack([up, down]))[0, 1]) < 0.05


def test_a_failing_compiler_is_named_and_not_called_again() -> None:
    calls = []

    def broken(*_: object) -> None:
        calls.append(1)
        raise RuntimeError("no Triton here")

    batch = FusedBatch(FusedKernel(load_rule("sgd").program, backend=broken))
    for _ in range(3):
        with pytest.raises(NativeUnavailable, match="torch.compile failed"):
            batch.step([torch.ones(4)], [torch.ones(4)], [{}], 1, 0.1)
    assert len(calls) == 1
