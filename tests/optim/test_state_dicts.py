"""State dicts: torch's conventions hold, what was saved comes back as it was, and what does not fit is refused."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from closedform import Rule, RuleOptimizer
from closedform.errors import CheckpointError, ClosedFormError, RuleError

BACKENDS = ["compiled", "eager", "reference", "capturable"]


@pytest.fixture(params=BACKENDS)
def options(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"capturable": True} if request.param == "capturable" else {"backend": request.param}


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def gradient(like: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def step(optimizer: torch.optim.Optimizer, seed: int) -> None:
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = gradient(param, seed)
    optimizer.step()


def groups() -> list[dict[str, object]]:
    return [
        {"params": [("a", parameter(3, 2)), ("b", parameter(2))], "lr": 0.5, "weight_decay": 0.1},
        {"params": [("c", parameter(4))], "rule": "lion", "state_dtype": torch.bfloat16, "maximize": True},
        {"params": [("d", parameter(2, 2))], "rule": "nadam", "lr": torch.tensor(0.25)},
    ]


def assert_same_states(found: RuleOptimizer, expected: RuleOptimizer) -> None:
    mine, theirs = found.state_dict(), expected.state_dict()
    assert list(mine["state"]) == list(theirs["state"])
    for index, state in theirs["state"].items():
        assert list(mine["state"][index]) == list(state)
        for key, value in state.items():
            other = mine["state"][index][key]
            if isinstance(value, Tensor):
                assert torch.equal(other, value)
                assert (other.dtype, other.device, other.stride()) == (value.dtype, value.device, value.stride())
            else:
                assert other == value


def through_a_file(state_dict: dict[str, object]) -> dict[str, object]:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("form", [copy.deepcopy, through_a_file], ids=["copy", "file"])
def test_round_trip(form, options: dict[str, object]) -> None:
    """Groups of different rules, types of states and learning rates go on as if nothing had happened."""
    first = RuleOptimizer(groups(), "adam", **options)
    for seed in range(3):
        step(first, seed)
    second = RuleOptimizer(groups(), "adam", **options)
    for group, own in zip(second.param_groups, first.param_groups, strict=True):
        group["lr"] = 9.0  # the saved one counts
        for param, trained in zip(group["params"], own["params"], strict=True):
            param.data.copy_(trained)
    second.load_state_dict(form(first.state_dict()))
    for mine, saved_group in zip(second.param_groups, first.param_groups, strict=True):
        assert {key: mine[key] for key in mine if key != "params"} == {
            key: saved_group[key] for key in saved_group if key != "params"
        }
    assert_same_states(second, first)
    for seed in range(3, 6):
        step(first, seed)
        step(second, seed)
    assert_same_states(second, first)
    for mine, own in zip(second.param_groups, first.param_groups, strict=True):
        assert all(map(torch.equal, mine["params"], own["params"]))


def test_the_saved_states_are_copied() -> None:
    """Loading does not tie two optimizers together."""
    first, second = (RuleOptimizer([parameter(3)], "adam") for _ in range(2))
    step(first, 0)
    second.load_state_dict(first.state_dict())
    before = copy.deepcopy(first.state_dict())
    step(second, 1)
    assert torch.equal(first.state_dict()["state"][0]["m"], before["state"][0]["m"])


def test_pickle_and_deepcopy(options: dict[str, object]) -> None:
    optimizer = RuleOptimizer(groups(), "adam", **options)
    step(optimizer, 0)
    twins = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]  # noqa: S301  # of this very process
    step(optimizer, 1)
    for twin in twins:
        step(twin, 1)
        assert_same_states(twin, optimizer)


def test_hooks_see_and_change_what_is_saved_and_loaded() -> None:
    """A pre-hook may repair a state_dict that would be refused; a post-hook finds the states as they were saved."""
    source = RuleOptimizer([parameter(3)], "adam", state_dtype=torch.bfloat16)
    step(source, 0)
    old = copy.deepcopy(source.state_dict())
    old["state"][0]["velocity"] = old["state"][0].pop("v")
    target = RuleOptimizer([parameter(3)], "adam")
    with pytest.raises(CheckpointError, match='no state "v"'):
        target.load_state_dict(old)
    seen = []

    def repair(_: torch.optim.Optimizer, state_dict: dict[str, object]) -> dict[str, object]:
        state = {**state_dict["state"][0]}
        state["v"] = state.pop("velocity")
        return {**state_dict, "state": {0: state}}

    target.register_load_state_dict_pre_hook(repair)
    target.register_load_state_dict_post_hook(lambda loaded: seen.append(next(iter(loaded.state.values()))["v"].dtype))
    target.load_state_dict(old)
    assert seen == [torch.bfloat16]
    assert len(target._optimizer_load_state_dict_pre_hooks) == 1


def test_layout_follows_the_parameter() -> None:
    """States of a contiguous parameter, loaded for one that is laid out otherwise, run compiled."""
    first = RuleOptimizer([parameter(3, 2)], "adam", backend="compiled")
    step(first, 0)
    turned = nn.Parameter(first.param_groups[0]["params"][0].detach().t().contiguous().t())
    second = RuleOptimizer([turned], "adam", backend="compiled")
    second.load_state_dict(first.state_dict())
    for optimizer in (first, second):
        step(optimizer, 1)
    assert torch.equal(turned, first.param_groups[0]["params"][0])


@pytest.mark.parametrize("lr", [0.01, torch.tensor(0.01)], ids=["number", "tensor"])
def test_states_that_are_created_to_be_loaded(lr: float | Tensor, options: dict[str, object]) -> None:
    """torch.distributed.checkpoint creates them by a step of rate 0 on zero gradients: 0/0 for this rule."""
    rule = Rule.parse("sign", "-m/abs(m)", state={"m": "0.9*m + g"})
    param = parameter(3)
    optimizer = RuleOptimizer([param], rule, lr=0.0 * lr, **options)
    before, param.grad = param.detach().clone(), torch.zeros(3)
    optimizer.step()
    if not ("capturable" in options and isinstance(lr, Tensor)):  # there it is not read
        assert torch.equal(param, before)
    assert set(optimizer.state[param]) == {"step", "m"}
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    assert param.isnan().all()


def assert_one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert isinstance(error.value, ClosedFormError)
    assert "\n" not in str(error.value)


def saved(rule: str | Rule, shapes: list[tuple[int, ...]], **options: object) -> dict[str, object]:
    params = [parameter(*shape) for shape in shapes]
    optimizer = RuleOptimizer(params, rule, **options)
    for param in params:
        param.grad = gradient(param)
    optimizer.step()
    return copy.deepcopy(optimizer.state_dict())


def without_v(state_dict: dict[str, object]) -> dict[str, object]:
    del state_dict["state"][0]["v"]
    return state_dict


@pytest.mark.parametrize(
    ("state_dict", "error", "message"),
    [
        (saved("lion", [(3,)]), RuleError, r'belongs to rule "lion" \(states: m\).*runs rule "adam" \(states: m, v\)'),
        (torch.optim.Adam([parameter(3)]).state_dict(), RuleError, "was not saved by a RuleOptimizer"),
        (saved("adam", [(4,)]), CheckpointError, r'^parameter "w": .* state "m" of shape \(4,\), and \(3,\) is needed'),
        (without_v(saved("adam", [(3,)])), CheckpointError, '^parameter "w": this state_dict has no state "v"'),
    ],
)
def test_a_state_dict_of_something_else(
    state_dict: dict[str, object], error: type[Exception], message: str, options: dict[str, object]
) -> None:
    param = parameter(3)
    optimizer = RuleOptimizer([("w", param)], "adam", **options)
    param.grad = gradient(param)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=message) as caught:
        optimizer.load_state_dict(copy.deepcopy(state_dict))
    assert_one_line(caught)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert torch.equal(after["state"][0]["m"], before["state"][0]["m"])


def test_a_state_dict_of_another_number_of_parameters() -> None:
    optimizer = RuleOptimizer([parameter(3)], "adam")
    with pytest.raises(CheckpointError, match="doesn't match the size"):
        optimizer.load_state_dict(saved("adam", [(3,), (3,)]))


@pytest.mark.parametrize(("foreach", "backend"), [(True, "eager"), (False, "reference"), (None, None)])
def test_the_former_option_foreach(foreach: bool | None, backend: str | None) -> None:
    """Optimizers that were pickled with it name a back end instead; in a state_dict it says nothing, as before."""
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = RuleOptimizer([param], "adam")
    optimizer.param_groups[0]["foreach"] = foreach
    again = pickle.loads(pickle.dumps(optimizer))  # noqa: S301  (our own)
    assert again.param_groups[0]["backend"] == backend
    assert "foreach" not in again.param_groups[0]
    fresh = RuleOptimizer([param], "adam", backend="compiled")
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.param_groups[0]["backend"] == "compiled"
    assert "foreach" not in fresh.param_groups[0]
