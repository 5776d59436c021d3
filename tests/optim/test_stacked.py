"""Rules that look at whole tensors: those of one shape take their step together, and it is the reference's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from closedform.optim import RuleOptimizer
from closedform.optim import _backends as backends
from closedform.rules import Rule, library_names, load_rule

SHAPES = [(6, 3, 3, 3), (6, 3, 3, 3), (6,), (6,), (6,), (5, 6), (5, 6), (6, 5), (), (), (0, 4), (0, 4)]
CF1 = load_rule(Path(__file__).parents[2] / "benchmarks" / "recipes" / "cf1_start.json")
MIXED = Rule.parse(
    "mixed",
    "-m*rms(w)/(row_mean(v) + 0.1) - lag(n, 2)*col_mean(m)/fan_in - lag(m, 2)*norm(g - lag(g, 1))/numel - q*g",
    state={"m": "0.9*m + 0.1*g", "v": "0.5*v + row_mean(square(g))", "n": "0.5*n + rms(w)", "q": "0.3*q + 1/t"},
)
WHOLE = {name: rule for name in library_names() if (rule := load_rule(name)).program.merged.reduces}


def trained(rule: Rule, backend: str, dtype: torch.dtype, order: torch.memory_format) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        return tensor.to(memory_format=order) if tensor.dim() == 4 else tensor

    params = [torch.nn.Parameter(drawn(shape)) for shape in SHAPES]
    optimizer = RuleOptimizer(params, rule, lr=0.1, weight_decay=0.1, total_steps=9, backend=backend)
    for step in range(5):
        for place, param in enumerate(params):
            grad = drawn(tuple(param.shape))
            param.grad = None if place == step else grad  # so that one falls behind, step by step
        optimizer.step()
    states = [value for param in params for value in optimizer.state[param].values() if isinstance(value, Tensor)]
    return [param.detach() for param in params] + states


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rule", [CF1, MIXED, *WHOLE.values()], ids=["cf1", "mixed", *WHOLE])
def test_equal_to_the_reference(rule: Rule, order: torch.memory_format) -> None:
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-4)):
        found, wanted = (trained(rule, backend, dtype, order) for backend in ("eager", "reference"))
        for mine, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance, equal_nan=True)
            assert mine.stride() == other.stride()


def test_one_step_for_all_of_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    advance = backends._advance

    def counted(program, grad, *others, **named):
        runs.append(tuple(grad.shape))
        return advance(program, grad, *others, **named)

    monkeypatch.setattr(backends, "_advance", counted)
    shapes = [(4, 3)] * 5 + [(3,)] * 5 + [(2, 2)]
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    for param in params:
        param.grad = torch.ones_like(param)
    RuleOptimizer(params, CF1, total_steps=10, backend="eager").step()
    assert sorted(runs) == [(2, 2), (3,), (4, 3)]


def test_bfloat16_states_are_rounded_stochastically() -> None:
    rule = Rule.parse("slow", "-m*rms(w)", state={"m": "m + 0.001*g"})
    params = [torch.nn.Parameter(torch.ones(5000)) for _ in range(2)]
    optimizer = RuleOptimizer(params, rule, lr=0.0, backend="eager", state_dtype=torch.bfloat16)
    for _ in range(100):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
    sums = torch.stack([optimizer.state[param]["m"].float() for param in params])
    assert (sums.mean(1) - 0.1).abs().max() < 0.002
    assert abs(torch.corrcoef(sums)[0, 1]) < 0.05
