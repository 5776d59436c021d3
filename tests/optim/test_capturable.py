"""capturable=True: the same steps, counted on the device; nothing waits for it, and every tensor stays in its place.

Without a GPU, steps run on tensors that only claim to be on one (fake tensors): what would copy between host and
device, or wait, is seen by the operations that are called.
"""

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from closedform import Rule, RuleOptimizer, load_rule
from closedform.errors import OptionError
from closedform.optim import _compiled, _groups
from closedform.optim._fused import FusedBatch, FusedKernel
from closedform.optim._noise import hashed, stream

MIXED = Rule.parse(
    "mixed",
    "-m/(n + 0.1) - lag(n, 2)*lag(u, 2) - 0.1*q*lag(g, 3) - lag(m, 3)*rms(g - mean(g)) - lag(k, 2) - where(m, 1, k)",
    state={"m": "0.9*m + 0.1*g", "n": "0.5*n + rms(w)", "q": "0.3*q + 1/t", "k": "q + prev(q)"},
    where={"u": "tanh(m)*q"},
)
RULES = [*map(load_rule, ("nadam", "lamb", "radam", "amsgrad", "sgd")), MIXED]
SHAPES = [(3, 4), (5,), ()]


def parameters(device: str = "cpu") -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in SHAPES]


def set_gradients(params: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)


class NoWaiting(TorchDispatchMode):
    """Refuses to read a value, and operations between host and device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read"
        assert len({tensor.device.type for tensor in tensors}) <= 1, f"{func} works between devices"
        return result


class WithoutCuda(TorchFunctionMode):
    """Two calls that a torch without CUDA refuses for a fake tensor, by others that do the same to a fake one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.copy_:
            assert args[0].device == args[1].device, "copy_ works between devices"
            return args[0]
        if func is Tensor.__getitem__:
            tensor, where = args
            whole = isinstance(where, slice)
            return tensor.narrow(0, *where.indices(len(tensor))[:2]) if whole else tensor.select(0, where)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched() -> Iterator[None]:
    with WithoutCuda(), NoWaiting():
        yield


@functools.cache
def fused(*key) -> FusedKernel:
    """The kernel for a GPU, not compiled."""
    kernel = compile_kernel(*key)
    kernel.advance = functools.partial(FusedKernel._advance, kernel)
    return kernel


compile_kernel = _compiled._compile


@pytest.mark.parametrize("state_dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["eager", "reference", "compiled"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_nothing_waits_for_the_device(
    rule: Rule, backend: str, state_dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_compiled, "_compile", fused)
    monkeypatch.setattr(_compiled, "PLAIN", {FakeTensor})
    fused(rule.to_json(), torch.float32, state_dtype or torch.float32, state_dtype is not None, False, ())
    with FakeTensorMode():
        params = [torch.nn.Parameter(torch.randn(shape, device="cuda")) for shape in SHAPES]
        options = {"lr": torch.full((), 0.1, device="cuda"), "weight_decay": 0.1, "state_dtype": state_dtype}
        optimizer = RuleOptimizer(params, rule, capturable=True, backend=backend, **options)
        for _ in range(2):
            for param in params:
                param.grad = torch.randn_like(param)
            with watched():
                optimizer.step()


def test_a_step_that_is_not_capturable_is_noticed() -> None:
    with FakeTensorMode():
        params = [torch.nn.Parameter(torch.randn(3, device="cuda"))]
        params[0].grad = torch.randn_like(params[0])
        optimizer = RuleOptimizer(params, "nadam", backend="eager")
        with pytest.raises(AssertionError, match="between devices"), watched():
            optimizer.step()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_in_lockstep_and_in_place(rule: Rule) -> None:
    """As the plain path goes, also when parameters sit out steps; no tensor moves, so that a replay finds it."""
    plain, mine = parameters(), parameters()
    options = {"weight_decay": 0.1, "state_dtype": torch.bfloat16}
    expected = RuleOptimizer(plain, rule, lr=0.1, backend="eager", **options)
    found = RuleOptimizer(mine, rule, lr=torch.tensor(0.1, dtype=torch.float64), capturable=True, **options)
    places: dict[tuple[int, str], int] = {}
    for t in range(7):
        for params in (plain, mine):
            set_gradients(params, t)
            if t in (0, 3):
                params[1].grad = None
        expected.step()
        with NoWaiting():
            found.step()
        for number, param in enumerate(mine):
            for key, value in found.state[param].items():
                assert places.setdefault((number, key), value.data_ptr()) == value.data_ptr()
    for one, other in zip(mine, plain, strict=True):
        assert torch.equal(one, other)
        assert found.state[one]["step"] == expected.state[other]["step"]


@pytest.mark.parametrize("rule", [load_rule("nadam"), MIXED], ids=lambda rule: rule.name)
def test_the_kernel_for_gpus_in_lockstep_and_in_place(rule: Rule) -> None:
    params, others = parameters(), parameters()
    plain, found = (
        RuleOptimizer(tensors, rule, capturable=kind) for kind, tensors in ((False, others), (True, params))
    )
    for optimizer in (plain, found):  # creates the states, and moves nothing
        set_gradients(optimizer.param_groups[0]["params"], 0)
        optimizer._works.gather(0, optimizer.param_groups[0], optimizer.state)
    batch = FusedBatch(fused(rule.to_json(), torch.float32, torch.float32, False, False))
    memories, expected = ([o.state[p] for p in o.param_groups[0]["params"]] for o in (found, plain))
    places = [{key: value.data_ptr() for key, value in memory.items()} for memory in memories]
    for t in range(1, 6):
        set_gradients(params, t)
        grads = [param.grad for param in params]
        batch.step([p.data for p in params], grads, memories, torch.tensor(t, dtype=torch.float64), torch.tensor(0.1))
        batch.step([p.data for p in others], grads, expected, t, torch.tensor(0.1))
    assert places == [{key: value.data_ptr() for key, value in memory.items()} for memory in memories]
    for one, other in zip(params, others, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(memories, expected, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one if key != "step")


@pytest.mark.parametrize("before", [False, True])
def test_saved_by_one_kind_and_resumed_by_the_other(before: bool) -> None:
    params, others = parameters(), parameters()
    whole = RuleOptimizer(others, "nadam", lr=0.1, backend="eager")
    first = RuleOptimizer(params, "nadam", lr=0.1, backend="eager", capturable=before)
    for t in range(6):
        if t == 3:
            saved = copy.deepcopy(first.state_dict())
            first = RuleOptimizer(params, "nadam", backend="eager", capturable=not before)
            first.load_state_dict(saved)
        for optimizer in (first, whole):
            set_gradients(optimizer.param_groups[0]["params"], t)
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(params, others, strict=True))
    assert {type(state["step"]) for state in first.state.values()} == {int if before else Tensor}


def test_steps_are_grouped_without_being_read() -> None:
    """Parameters that took the same steps share a batch, also after loading."""
    params = parameters()
    optimizer = RuleOptimizer(params, "adam", capturable=True)
    counts = []
    for t in range(4):
        set_gradients(params, t)
        if t == 1:
            params[0].grad = None
        counts.append(len(optimizer._works.gather(0, optimizer.param_groups[0], optimizer.state)))
        optimizer.step()
    assert counts == [1, 1, 2, 2]
    again = RuleOptimizer(params, "adam", capturable=True)
    again.load_state_dict(optimizer.state_dict())
    assert len(again._works.gather(0, again.param_groups[0], again.state)) == 2
    twin = copy.deepcopy(again)
    set_gradients(twin.param_groups[0]["params"], 0)
    assert len(twin._works.gather(0, twin.param_groups[0], twin.state)) == 2


def test_capturing_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(OptionError, match="CUDA graph is being captured.*capturable=True"):
        _groups.check_not_captured(torch.device("cuda"))
    _groups.check_not_captured(torch.device("cpu"))


def test_compiled_on_the_cpu_is_refused() -> None:
    params = parameters()
    set_gradients(params, 0)
    with pytest.raises(OptionError, match="on the CPU, capturable steps are not compiled"):
        RuleOptimizer(params, "adam", capturable=True, backend="compiled").step()


def test_noise_from_a_seed_on_the_device() -> None:
    for seed in (0, 1, 7, 2**33 + 5, 2**40 + 2**17 + 3):
        found = stream(torch.tensor(seed), torch.device("cpu"))
        assert int(found) == hashed(seed) == int(stream(seed, torch.device("cpu")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", [None, "eager"])
@pytest.mark.parametrize("rule", [load_rule("nadam"), MIXED], ids=lambda rule: rule.name)
def test_replays_of_a_captured_graph(rule: Rule, backend: str | None) -> None:
    plain, mine = parameters("cuda"), parameters("cuda")
    expected = RuleOptimizer(plain, rule, lr=0.1, backend=backend)
    lr = torch.full((), 0.1, dtype=torch.float64, device="cuda")
    found = RuleOptimizer(mine, rule, lr=lr, backend=backend, capturable=True)
    gradients = [[torch.randn(param.shape) for param in plain] for _ in range(8)]
    for param in mine:
        param.grad = torch.empty_like(param)
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    for t, grads in enumerate(gradients):
        for one, other, grad in zip(mine, plain, grads, strict=True):
            one.grad.copy_(grad)
            other.grad = grad.to("cuda")
        expected.param_groups[0]["lr"] = 0.1 / (t + 1)
        lr.fill_(0.1 / (t + 1))
        expected.step()
        if t < 3:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                found.step()
            torch.cuda.current_stream().wait_stream(side)
            continue
        if t == 3:
            with torch.cuda.graph(graph):
                found.step()
        graph.replay()
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert int(found.state[one]["step"]) == 8
