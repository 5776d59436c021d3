"""What training may hand to a rule besides plain dense gradients: right, or refused by name in one line."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from closedform import RuleOptimizer, load_rule
from closedform.errors import ClosedFormError, OptionError, RuleError
from closedform.optim import _optimizer

BACKENDS = ["compiled", "eager", "reference", "capturable"]


@pytest.fixture(params=BACKENDS)
def options(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"capturable": True} if request.param == "capturable" else {"backend": request.param}


def parameter(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype))


def gradient(like: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like.dtype)


def assert_one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert isinstance(error.value, ClosedFormError)
    assert "\n" not in str(error.value)


def moved(params: list[nn.Parameter], grads: list[Tensor], rule: str = "adam", **options: object) -> list[Tensor]:
    optimizer = RuleOptimizer(params, rule, lr=0.1, weight_decay=0.1, **options)
    for _ in range(3):
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
    return [param.detach() for param in params]


def expected(params: list[nn.Parameter], grads: list[Tensor]) -> list[Tensor]:
    """Each parameter alone, contiguous, by the reference."""
    copies = [nn.Parameter(param.detach().clone(memory_format=torch.contiguous_format)) for param in params]
    return [
        moved([param], [grad.to(param.dtype, copy=True).contiguous()], backend="reference")[0]
        for param, grad in zip(copies, grads, strict=True)
    ]


def assert_right(params: list[nn.Parameter], grads: list[Tensor], options: dict[str, object]) -> None:
    wanted = expected(params, grads)
    for found, other in zip(moved(params, grads, **options), wanted, strict=True):
        tolerance = {"rtol": 0.05, "atol": 0.01} if found.dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(found, other, **tolerance)


def test_mixed_types(options: dict[str, object]) -> None:
    params = [parameter(4, 3, dtype=dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32)]
    assert_right(params, [gradient(param) for param in params], options)
    for param in params:
        assert param.dtype == param.grad.dtype


def test_float16_parameters() -> None:
    params = [parameter(4, 3, dtype=torch.float16)]
    for name in ("eager", "reference"):
        wanted = expected(params, [gradient(params[0])])
        found = moved(copy.deepcopy(params), [gradient(params[0])], backend=name)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_gradients_of_another_type(options: dict[str, object]) -> None:
    param = parameter(4, 3, dtype=torch.bfloat16)
    if not hasattr(param, "grad_dtype"):
        pytest.skip("this version of torch keeps gradients in their parameters' type")
    param.grad_dtype = torch.float32
    assert_right([param], [gradient(param).float()], options)


def layouts() -> dict[str, tuple[nn.Parameter, Tensor]]:
    square, image, plain = parameter(4, 3), parameter(2, 3, 4, 4), parameter(4, 3)
    turned = nn.Parameter(square.detach().t().contiguous().t())
    last = nn.Parameter(image.detach().contiguous(memory_format=torch.channels_last))
    gaps = nn.Parameter(torch.arange(24.0).reshape(4, 6)[:, ::2])
    return {
        "transposed": (turned, gradient(turned)),
        "transposed gradient": (plain, gradient(plain).t().contiguous().t()),
        "expanded gradient": (plain, torch.ones(()).expand(4, 3)),
        "channels last": (last, gradient(last)),
        "channels last gradient": (image, gradient(image).contiguous(memory_format=torch.channels_last)),
        "gaps": (gaps, gradient(gaps)),
        "negative bit": (plain, torch.complex(gradient(plain), gradient(plain)).conj().imag),
        "part of a buffer": (nn.Parameter(torch.arange(20.0)[3:15].view(4, 3)), gradient(plain)),
        "scalar": (parameter(), gradient(parameter())),
        "one element": (parameter(1, 1), gradient(parameter(1, 1))),
        "empty": (parameter(0, 3), gradient(parameter(0, 3))),
    }


@pytest.mark.parametrize("name", layouts())
def test_layouts(name: str, options: dict[str, object]) -> None:
    param, grad = layouts()[name]
    chosen = {} if name == "gaps" and options.get("backend") == "compiled" else options
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "rules run as torch operations")
        assert_right([param, parameter(5)], [grad, gradient(parameter(5))], chosen)


def test_gaps_are_refused_by_the_compiled_step_alone() -> None:
    param = nn.Parameter(torch.arange(24.0).reshape(4, 6)[:, ::2])
    param.grad = gradient(param)
    before = param.detach().clone()
    with pytest.raises(OptionError, match='backend="compiled" cannot be used: .* gaps') as error:
        RuleOptimizer([param], "adam", backend="compiled").step()
    assert_one_line(error)
    assert torch.equal(param, before)


def test_empty_tensors_of_rules_that_reduce(options: dict[str, object]) -> None:
    params = [parameter(0, 3), parameter(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = moved(params, [gradient(param) for param in params], rule="lamb", **options)
    assert found[0].shape == (0, 3)
    assert found[1].isfinite().all()


def test_nothing_to_do(options: dict[str, object]) -> None:
    param = parameter(3)
    optimizer = RuleOptimizer([param], "adam", **options)
    optimizer.step()
    assert not optimizer.state


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_stay_where_they_are(bad: float, options: dict[str, object]) -> None:
    param = parameter(5)
    grad = gradient(param)
    grad[2] = bad
    found = moved([param], [grad], rule="momentum", **options)[0]
    assert found.isfinite().tolist() == [True, True, False, True, True]


def test_complex(options: dict[str, object]) -> None:
    first = parameter(2)
    other = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    first.grad, other.grad = gradient(first), torch.ones_like(other)
    before = first.detach().clone()
    optimizer = RuleOptimizer([("fine", first), ("spectrum", other)], "adam", **options)
    for _ in range(2):
        with pytest.raises(OptionError, match='^parameter "spectrum": it is complex.*view_as_real') as error:
            optimizer.step()
        assert_one_line(error)
        assert torch.equal(first, before)
    assert int(optimizer.state[first]["step"]) == 0


def test_meta(options: dict[str, object]) -> None:
    param = nn.Parameter(torch.empty(2, device="meta"))
    param.grad = torch.empty(2, device="meta")
    with pytest.raises(OptionError, match="^parameter 0: it is on the meta device.*to_empty") as error:
        RuleOptimizer([param], "adam", **options).step()
    assert_one_line(error)


def test_sparse_gradients_in_the_second_group(options: dict[str, object]) -> None:
    plain, table = parameter(3), nn.Embedding(4, 2, sparse=True)
    plain.grad = gradient(plain)
    table(torch.tensor([1])).sum().backward()
    before = plain.detach().clone()
    groups = [{"params": [("bias", plain)]}, {"params": [("table", table.weight)], "rule": "sgd"}]
    optimizer = RuleOptimizer(groups, "adam", **options)
    with pytest.raises(OptionError, match='^parameter "table": its gradient is sparse') as error:
        optimizer.step()
    assert_one_line(error)
    assert torch.equal(plain, before)  # no group has moved
    table.weight.grad = table.weight.grad.to_dense()
    optimizer.step()
    assert {int(state["step"]) for state in optimizer.state.values()} == {1}


def test_mixed_devices() -> None:
    """One group may hold parameters on several devices: each device has a step of its own."""
    here = parameter(3)
    here.grad = gradient(here)
    wanted = moved([nn.Parameter(here.detach().clone())], [here.grad], backend="eager")[0]
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = nn.Parameter(torch.empty(3, device="cuda"))
        there.grad = torch.empty(3, device="cuda")
        optimizer = RuleOptimizer([here, there], "adam", backend="eager")
        works = optimizer._works.gather(0, optimizer.param_groups[0], optimizer.state)
        assert [[param.device.type for param in work.params] for work in works] == [["cpu"], ["cuda"]]
        assert optimizer.state[there]["m"].device.type == "cuda"
    torch.testing.assert_close(moved([here], [here.grad], backend="eager")[0], wanted)


def test_a_parameter_listed_twice(options: dict[str, object]) -> None:
    """Torch warns; the parameter takes one step at a time."""
    twice, once, other = parameter(3), parameter(3), parameter(2)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = RuleOptimizer(
            [("a", twice), ("b", other), ("a", twice)], "adam", lr=0.1, weight_decay=0.1, **options
        )
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    for _ in range(3):
        twice.grad = gradient(twice)
        optimizer.step()
    assert torch.equal(twice, moved([once], [gradient(once)], **options)[0])
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        RuleOptimizer([{"params": [twice]}, {"params": [twice]}], "adam", **options)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "empty parameter list"),
        (parameter(3), TypeError, "iterable of Tensors or dicts"),
        ([1.0], TypeError, "can only optimize Tensors"),
        ([parameter(3) * 2], ValueError, "non-leaf Tensor"),
        ([("w", parameter(3)), parameter(3)], ValueError, "with/without names"),
        ([{"params": {parameter(3)}}], TypeError, "ordered collections"),
    ],
)
def test_parameters_that_torch_refuses(params: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RuleOptimizer(params, "adam")


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"lr": -1.0}, OptionError, "lr must be"),
        ({"weight_decay": float("nan")}, OptionError, "weight_decay must be"),
        ({"backend": "fast"}, OptionError, "unknown backend 'fast'"),
        ({"state_dtype": torch.int8}, OptionError, "state_dtype must be"),
        ({"rule": '{"format": "closedform.rule/1"'}, RuleError, "invalid JSON"),
        ({"rule": "no-such-rule"}, ClosedFormError, "no-such-rule"),
    ],
)
def test_a_group_that_is_refused_is_not_added(group: dict[str, object], error: type[Exception], message: str) -> None:
    optimizer = RuleOptimizer([parameter(3)], "adam")
    with pytest.raises(error, match=message) as caught:
        optimizer.add_param_group({"params": [parameter(2)], **group})
    assert_one_line(caught)
    assert len(optimizer.param_groups) == 1


def test_the_warning_names_the_line_of_the_training_script() -> None:
    _optimizer._warn_once.cache_clear()
    param = parameter(3, dtype=torch.float16)
    param.grad = gradient(param)
    with pytest.warns(UserWarning, match="not compiled: .*not float16") as caught:
        RuleOptimizer([param], load_rule("adam")).step()
    assert [warning.filename for warning in caught] == [__file__]
