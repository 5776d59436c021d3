"""Rules that know the horizon and the tensor, on every back end, through checkpoints and past their end."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from strategies import late_programs

from closedform.errors import OptionError
from closedform.lang import Program
from closedform.optim import RuleOptimizer
from closedform.rules import Rule

SHAPES = ((4, 3), (5,), (2, 3, 2), (), (1, 6), (6, 1), (0, 2))
BACKENDS = ("eager", None)
ANNEALED = Rule.parse("annealed", "-(1 - progress)*g", lr=0.1)
SCALED = Rule.parse("scaled", "-g*(1/fan_in + ndim*numel/T)/fan_out**0.5", lr=0.1)


def trained(rule: Rule, backend: str | None, steps: int = 6, dtype=torch.float64, **options) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]
    optimizer = RuleOptimizer(params, rule, backend=backend, total_steps=steps, **options)
    for _ in range(steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
        optimizer.step()
    states = [value for p in params for key, value in sorted(optimizer.state[p].items()) if key != "step"]
    return [param.detach() for param in params] + states


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25)
@given(late_programs)
def test_all_back_ends_agree(backend: str | None, program: Program) -> None:
    rule = Rule("random", program, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(
            trained(rule, backend), trained(rule, "reference"), rtol=1e-9, atol=1e-11, equal_nan=True
        )


@pytest.mark.parametrize("backend", ["compiled", "eager", "reference"])
@pytest.mark.parametrize("rule", [ANNEALED, SCALED], ids=lambda rule: rule.name)
def test_elementwise_rules_are_compiled(rule: Rule, backend: str) -> None:
    for ours, expected in zip(trained(rule, backend), trained(rule, "reference"), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", ["compiled", "eager", "reference"])
def test_progress_and_fans_by_hand(backend: str) -> None:
    rule = Rule.parse("x", "-g*progress*fan_in/fan_out", lr=1.0)
    weight = torch.nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    optimizer = RuleOptimizer([weight], rule, total_steps=2, backend=backend)
    for expected in (-0.75, -2.25):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert weight.detach().unique().tolist() == [expected]


def one(rule: Rule = ANNEALED, **options) -> tuple[torch.nn.Parameter, RuleOptimizer]:
    weight = torch.nn.Parameter(torch.zeros(3))
    return weight, RuleOptimizer([weight], rule, **options)


def advance(weight: torch.nn.Parameter, optimizer: RuleOptimizer, steps: int = 1) -> None:
    for _ in range(steps):
        weight.grad = torch.ones_like(weight)
        optimizer.step()


def test_a_horizon_that_is_needed_must_be_given() -> None:
    with pytest.raises(OptionError, match=r'rule "annealed" reads the horizon .* give total_steps'):
        one()
    one(Rule.parse("plain", "-g"))


@pytest.mark.parametrize("total", [0, -1, 2.5, True, "10"])
def test_a_horizon_is_a_number_of_steps(total) -> None:
    with pytest.raises(OptionError, match="total_steps must be a whole number of steps, 1 or more"):
        one(total_steps=total)


def test_past_the_horizon_it_warns_once_and_goes_on() -> None:
    weight, optimizer = one(Rule.parse("x", "-progress*t*g", lr=1.0), total_steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advance(weight, optimizer, 2)
    with pytest.warns(UserWarning, match=r"step 3 is past total_steps=2.*progress = 1") as caught:
        advance(weight, optimizer, 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert weight[0].item() == -(0.5 + 2 + 3 + 4)


def test_the_horizon_survives_checkpoints_and_copies() -> None:
    weight, optimizer = one(total_steps=10)
    advance(weight, optimizer, 3)
    other_weight, other = one(total_steps=99)
    other_weight.data.copy_(weight.data)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.param_groups[0]["total_steps"] == 10
    again_weight, again = copy.deepcopy((weight, optimizer))
    for pair in ((weight, optimizer), (other_weight, other), (again_weight, again)):
        advance(*pair, 3)
    assert torch.equal(weight, other_weight)
    assert torch.equal(weight, again_weight)


def test_groups_have_horizons_of_their_own() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
    optimizer = RuleOptimizer(
        [{"params": weights[:1]}, {"params": weights[1:2], "total_steps": 5}], ANNEALED, total_steps=10
    )
    optimizer.add_param_group({"params": weights[2:], "total_steps": 2})
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert [weight[0].item() for weight in weights] == pytest.approx([-0.09, -0.08, -0.05])
    with pytest.raises(OptionError, match="total_steps must be"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "total_steps": 0})
    assert len(optimizer.param_groups) == 3


def test_initial_states_begin_with_a_parameters_own_first_step() -> None:
    rule = Rule.parse("follow", "z - w", state={"z": "z - g"}, init={"z": "w"}, lr=1.0)
    early, late = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.full((2,), 5.0))
    optimizer = RuleOptimizer([early, late], rule)
    early.grad = torch.ones(2)
    optimizer.step()
    late.grad = torch.ones(2)
    optimizer.step()
    assert early.tolist() == [-1.0, -1.0]
    assert late.tolist() == [4.0, 4.0]


def test_rows_and_columns_are_kept_as_such_and_saved() -> None:
    rule = Rule.parse("f", "-g/sqrt(r*c)", state={"r": "r + row_mean(square(g))", "c": "c + col_mean(square(g))"})
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = RuleOptimizer([weight], rule, backend="reference")
    advance(weight, optimizer)
    assert optimizer.state[weight]["r"].shape == (4, 1)
    assert optimizer.state[weight]["c"].shape == (1, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    advance(weight, optimizer)
    other = torch.nn.Parameter(torch.ones(4, 3))
    resumed = RuleOptimizer([other], rule, backend="reference")
    advance(other, resumed)
    resumed.load_state_dict(saved)
    advance(other, resumed)
    assert torch.equal(other, weight)
