"""Learning rates as people hold them, beside the same as a float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from closedform import RuleOptimizer
from closedform.errors import OptionError

KINDS: dict[str, Callable[[float], object]] = {
    "float32": np.float32,
    "float64": np.float64,
    "int64": lambda value: np.int64(round(value)),
    "int": round,
    "array": lambda value: np.array([value]),
    "scalar array": lambda value: np.array(value),
    "tensor": torch.tensor,
    "tensor of one": lambda value: torch.tensor([value]),
    "tensor of 1 x 1": lambda value: torch.tensor([[value]], dtype=torch.float64),
    "integer tensor": lambda value: torch.tensor(round(value)),
    "half": lambda value: torch.tensor(value, dtype=torch.float16),
    "bfloat16": lambda value: torch.tensor([value], dtype=torch.bfloat16),
    "parameter": lambda value: nn.Parameter(torch.tensor([value])),
}
KIND = pytest.mark.parametrize("kind", KINDS)
BACKEND = pytest.mark.parametrize("backend", [None, "eager", "reference"])
RATE = 2.0  # of every one of these types


def run(lr: object, how: str = "argument", decay: object = 0.25, **options: object) -> list[Tensor]:
    params = [nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)), nn.Parameter(torch.tensor(0.5))]
    first = 1.0 if how == "set later" else lr
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": first}]
    optimizer = RuleOptimizer(groups if how == "group" else params, "momentum", lr=first, weight_decay=decay, **options)
    for group in optimizer.param_groups:
        group["lr"] = lr
    for _ in range(3):
        for param in params:
            param.grad = torch.full_like(param, 0.125)
        optimizer.step()
    return [param.detach() for param in params]


@BACKEND
@KIND
@pytest.mark.parametrize("how", ["argument", "group", "set later"])
def test_as_the_float(kind: str, how: str, backend: str | None) -> None:
    for found, expected in zip(run(KINDS[kind](RATE), how, backend=backend), run(RATE, backend=backend), strict=True):
        assert found.dtype is torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@BACKEND
@KIND
def test_weight_decay(kind: str, backend: str | None) -> None:
    decay = KINDS[kind](RATE)
    for found, expected in zip(run(0.5, decay=decay, backend=backend), run(0.5, decay=RATE), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@BACKEND
@KIND
@pytest.mark.parametrize(
    "schedule", [lambda o: LambdaLR(o, lambda step: np.float32(1 / (1 + step))), lambda o: CosineAnnealingLR(o, 9)]
)
def test_schedulers(kind: str, schedule: Callable[..., object], backend: str | None) -> None:
    ends = []
    for lr in (KINDS[kind](RATE), RATE):
        if isinstance(lr, Tensor) and not lr.is_floating_point():
            lr = lr.float()  # torch's schedulers write their rates into the tensor
        param = nn.Parameter(torch.ones(3))
        optimizer = RuleOptimizer([param], "adam", lr=lr, backend=backend)
        scheduler = schedule(optimizer)
        for _ in range(4):
            param.grad = torch.ones(3)
            optimizer.step()
            scheduler.step()
        ends.append(param.detach())
    rtol = 1e-2 if kind in ("half", "bfloat16") else 1e-5  # the schedule is kept in the rate's own type
    torch.testing.assert_close(*ends, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "lr",
    [
        *(torch.ones(2), torch.ones(1, dtype=torch.complex64), torch.tensor(True), np.ones(2), "0.1", [0.1], None, 1j),
        *(np.float32("nan"), np.inf, -1, torch.tensor(-1.0), torch.tensor([float("nan")]), 10**400, len),
    ],
    ids=lambda lr: repr(lr)[:30],
)
def test_what_is_no_rate(lr: object) -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = RuleOptimizer([param], "adam", lr=0.1)
    with pytest.raises(OptionError, match="^lr must be") as caught:
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": lr if lr is not None else "none"})
    assert str(caught.value).isprintable()
    assert len(optimizer.param_groups) == 1
