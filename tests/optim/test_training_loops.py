"""Training loops as people write them: a rule does in each what torch.optim.AdamW does, whatever runs the step.

AdamW goes through the loop first, then the rule, which is given the gradients that AdamW was given (see ``tape.py``).
"""

import copy
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from tape import Tape, assert_as_close_as_rounding
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer, lr_scheduler, swa_utils

from closedform import RuleOptimizer

Make = Callable[..., Optimizer]
LR, DECAY = 0.01, 0.1
LARGEST_LR, MOST_STEPS = 0.05, 16
OURS: dict[str, dict[str, object]] = {
    "compiled": {"backend": "compiled"},
    "eager": {"backend": "eager"},
    "reference": {"backend": "reference"},
    "capturable": {"capturable": True},
    "tensor-lr": {"lr": torch.tensor(LR, dtype=torch.float64)},
}


def network(tape: Tape, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tape.watch(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype))


def batches(count: int, dtype: torch.dtype = torch.float64) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(16, 5, generator=generator, dtype=torch.float64)
        yield x.to(dtype), torch.stack([x.sum(1), x.prod(1), x[:, 0] ** 2], dim=1).to(dtype)


def train(model: nn.Module, optimizer: Optimizer, steps: int = 8, dtype: torch.dtype = torch.float64) -> list[float]:
    losses = []
    for x, y in batches(steps, dtype):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def plain(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    train(model, make(model.parameters()))
    return model


def no_momentum_cycling(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=9, cycle_momentum=False)


def warm_up_then_cosine(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, 5)]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[3])


SCHEDULERS: dict[str, Callable[[Optimizer], object]] = {
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t)),
    "one-cycle": no_momentum_cycling,
    "sequential": warm_up_then_cosine,
    "restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
    "swa": lambda optimizer: swa_utils.SWALR(optimizer, 0.002, anneal_epochs=4),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9),
}


def scheduled(name: str) -> Callable[[Make, Tape], nn.Module]:
    def loop(make: Make, tape: Tape) -> nn.Module:
        model = network(tape)
        optimizer = make(model.parameters())
        scheduler = SCHEDULERS[name](optimizer)
        for x, y in batches(8):
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step(*([loss.detach()] if name == "plateau" else []))
        return model

    return loop


def scaled(make: Make, tape: Tape) -> nn.Module:
    """Mixed precision with a gradient scaler; the loss overflows once, and that step is left out."""
    model = network(tape, torch.float32)
    optimizer, scaler = make(model.parameters()), torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)
    for index, (x, y) in enumerate(batches(8, torch.float32)):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = mse_loss(model(x).float(), y) * (float("inf") if index == 2 else 1)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    if isinstance(optimizer, RuleOptimizer):
        assert {int(state["step"]) for state in optimizer.state.values()} == {7}
    return model


def bfloat16_autocast(make: Make, tape: Tape) -> nn.Module:
    model = network(tape, torch.float32)
    optimizer = make(model.parameters())
    for x, y in batches(8, torch.float32):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = mse_loss(model(x).float(), y)
        loss.backward()
        optimizer.step()
    return model


def accumulated_and_clipped(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    optimizer = make(model.parameters())
    for index, (x, y) in enumerate(batches(12)):
        (mse_loss(model(x), y) / 3).backward()
        if index % 3 == 2:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5, foreach=True)
            nn.utils.clip_grad_value_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=index < 6)
    return model


def frozen_and_added(make: Make, tape: Tape) -> nn.Module:
    """The last layer alone; then both; then the last one is frozen; gradients of None are left alone, zeros are not."""
    model = network(tape)
    optimizer = make(model[2].parameters())
    for index, (x, y) in enumerate(batches(9)):
        if index == 3:
            optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.03})
        model[2].requires_grad_(index < 5 or index > 6)
        optimizer.zero_grad(set_to_none=index != 6)
        mse_loss(model(x), y).backward()
        optimizer.step()
    return model


def groups_of_their_own(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    decayed = [param for param in model.parameters() if param.dim() > 1]
    others = [param for param in model.parameters() if param.dim() <= 1]
    optimizer = make([{"params": decayed, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0, "lr": 0.02}])
    train(model, optimizer)
    return model


def with_closure(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    optimizer = make(model.parameters())
    for x, y in batches(6):

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            return loss

        assert torch.is_tensor(optimizer.step(closure))
    return model


def averaged(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    ema = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.7))
    optimizer = make(model.parameters())
    handle = optimizer.register_step_post_hook(lambda *_: ema.update_parameters(model))
    train(model, optimizer)
    handle.remove()
    return ema


def compiled_model(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    optimizer = make(model.parameters())
    train(torch.compile(model, backend="aot_eager"), optimizer)
    return model


def in_backward(make: Make, tape: Tape) -> nn.Module:
    """An optimizer a parameter, stepped as soon as its gradient is there."""
    model = network(tape)
    optimizers = {param: make([param]) for param in model.parameters()}

    def at_once(param: Tensor) -> None:
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in model.parameters():
        param.register_post_accumulate_grad_hook(at_once)
    for x, y in batches(6):
        mse_loss(model(x), y).backward()
    return model


def channels_last(make: Make, tape: Tape) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # No bias in front of batch normalisation, which takes it out again: its gradient is rounding noise alone.
        first, last = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 2, 3)
        model = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), last).double()
        images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    model = tape.watch(model.to(memory_format=torch.channels_last))
    optimizer = make(model.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        model(images.to(memory_format=torch.channels_last)).square().mean().backward()
        optimizer.step()
    assert not model[0].weight.is_contiguous()
    return model


def copied_midway(make: Make, tape: Tape) -> nn.Module:
    model = network(tape)
    optimizer = make(model.parameters())
    train(model, optimizer)
    model, optimizer = copy.deepcopy((model, optimizer))
    tape.watch(model)
    train(model, optimizer)
    return model


LOOPS: dict[str, Callable[[Make, Tape], nn.Module]] = {
    **{name: scheduled(name) for name in SCHEDULERS},
    **{
        loop.__name__: loop
        for loop in (
            plain,
            scaled,
            bfloat16_autocast,
            accumulated_and_clipped,
            frozen_and_added,
            groups_of_their_own,
            with_closure,
            averaged,
            compiled_model,
            in_backward,
            channels_last,
            copied_midway,
        )
    },
}


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("name", LOOPS)
def test_loop(name: str, ours: str) -> None:
    def make(params: object) -> Optimizer:
        return RuleOptimizer(params, "adam", **copy.deepcopy({"lr": LR, "weight_decay": DECAY, **OURS[ours]}))

    tape = Tape()
    expected = LOOPS[name](lambda params: torch.optim.AdamW(params, lr=LR, weight_decay=DECAY), tape)
    tape.rewind()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = LOOPS[name](make, tape)
    assert tape.played()
    assert_as_close_as_rounding(found, expected, lr=LARGEST_LR, steps=MOST_STEPS)
