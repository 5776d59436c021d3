"""What test_distributed.py asks of two processes: each check trains in another way, and says how far it got apart."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from closedform import Rule, RuleOptimizer

BATCH = 8
PAST = Rule.parse("past", "-m - lag(g, 2) - lag(m, 3)", state={"m": "0.9*m + g"})
Check = Callable[[Path], float]


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Seven rows do not divide evenly by two, and of one row the second process gets an empty shard."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)).to(dtype)


def batches(first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(first, last):
        x = torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        yield x, x.sum(1, keepdim=True) + x[:, :1] ** 2


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = 5) -> None:
    """This process's share of every batch; gradients are averaged by the model."""
    share, rank = BATCH // dist.get_world_size(), dist.get_rank()
    for x, y in batches(first, last):
        optimizer.zero_grad()
        mse_loss(model(x[rank * share : (rank + 1) * share]), y[rank * share : (rank + 1) * share]).backward()
        optimizer.step()


def train_alone(rule: str | Rule, last: int = 5, **options: object) -> list[Tensor]:
    """The same in one process, on whole batches."""
    model = network()
    optimizer = RuleOptimizer(model.parameters(), rule, lr=0.05, weight_decay=0.1, **options)
    for x, y in batches(0, last):
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()
    return [param.detach() for param in model.parameters()]


def sharded(rule: str | Rule, **options: object) -> tuple[nn.Module, RuleOptimizer]:
    model = network()
    for part in (model[0], model[2], model):
        fully_shard(part)
    return model, RuleOptimizer(model.parameters(), rule, lr=0.05, weight_decay=0.1, **options)


def difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    whole = [param.full_tensor() if isinstance(param, DTensor) else param for param in found]
    return max(float((a - b).abs().max()) for a, b in zip(whole, expected, strict=True))


def ddp(rule: str | Rule, **options: object) -> Check:
    def check(_: Path) -> float:
        model = DistributedDataParallel(network(), gradient_as_bucket_view=True)
        train(model, RuleOptimizer(model.parameters(), rule, lr=0.05, weight_decay=0.1, **options))
        return difference(model.parameters(), train_alone(rule, **options))

    return check


def zero(_: Path) -> float:
    """Optimizer states shared out over the processes."""
    model = DistributedDataParallel(network())
    options = {"rule": "adam", "lr": 0.05, "weight_decay": 0.1}
    train(model, ZeroRedundancyOptimizer(model.parameters(), RuleOptimizer, **options))
    return difference(model.parameters(), train_alone("adam"))


def fsdp(rule: str | Rule, **options: object) -> Check:
    def check(_: Path) -> float:
        model, optimizer = sharded(rule, **options)
        train(model, optimizer)
        for param, state in optimizer.state.items():
            kept = [value for value in state.values() if isinstance(value, Tensor) and value.dim()]
            assert all(value.placements == param.placements for value in kept)
        return difference(model.parameters(), train_alone(rule))

    return check


def placed(param: Placement, grad: Placement) -> Check:
    """A rule that reduces, on a tensor that is distributed in some way, with a gradient in another."""
    rule = Rule.parse("whole", "-g/norm(g) - rms(w)*w - mean(w*g) - q", state={"q": "0.5*q + mean(g)"})

    def check(_: Path) -> float:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        generator = torch.Generator().manual_seed(0)
        w, g = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
        whole, parts = nn.Parameter(w), nn.Parameter(distribute_tensor(w, mesh, [param]))
        whole.grad = g
        if grad.is_partial():
            parts.grad = DTensor.from_local(g / dist.get_world_size(), mesh, [grad])
        else:
            parts.grad = distribute_tensor(g, mesh, [grad])
        for tensor in (whole, parts):
            optimizer = RuleOptimizer([tensor], rule, lr=0.1, backend="eager")
            for _ in range(3):
                optimizer.step()
        return difference([parts.detach()], [whole.detach()])

    return check


def save(folder: Path) -> float:
    """Three steps, then a sharded checkpoint."""
    model, optimizer = sharded("nadam")
    train(model, optimizer, 0, 3)
    state = {
        "model": dcp_state.get_model_state_dict(model),
        "optimizer": dcp_state.get_optimizer_state_dict(model, optimizer),
    }
    dcp.save(state, checkpoint_id=folder / f"world-{dist.get_world_size()}")
    return difference(model.parameters(), train_alone("nadam", 3))


def resume(saved_by: int) -> Check:
    """The checkpoint of another number of processes, then two more steps."""

    def check(folder: Path) -> float:
        model, optimizer = sharded("nadam")
        state = {
            "model": dcp_state.get_model_state_dict(model),
            "optimizer": dcp_state.get_optimizer_state_dict(model, optimizer),
        }
        dcp.load(state, checkpoint_id=folder / f"world-{saved_by}")
        dcp_state.set_model_state_dict(model, state["model"])
        dcp_state.set_optimizer_state_dict(model, optimizer, state["optimizer"])
        train(model, optimizer, 3, 5)
        return difference(model.parameters(), train_alone("nadam"))

    return check


def handed_over(**options: bool) -> Check:
    """State dicts in one of the forms that torch offers, given to another model."""

    def check(_: Path) -> float:
        model, optimizer = sharded("nadam")
        train(model, optimizer, 0, 3)
        form = dcp_state.StateDictOptions(**options)
        weights = dcp_state.get_model_state_dict(model, options=form)
        states = dcp_state.get_optimizer_state_dict(model, optimizer, options=form)
        again, resumed = sharded("nadam")
        dcp_state.set_model_state_dict(again, weights, options=form)
        dcp_state.set_optimizer_state_dict(again, resumed, states, options=form)
        train(again, resumed, 3, 5)
        return difference(again.parameters(), train_alone("nadam"))

    return check


def same_noise(_: Path) -> float:
    """States in bfloat16 are rounded alike in every process."""
    model = DistributedDataParallel(network(torch.float32))
    optimizer = RuleOptimizer(model.parameters(), "adam", lr=0.05, state_dtype=torch.bfloat16)
    for x, y in batches(0, 5):
        optimizer.zero_grad()
        mse_loss(model(x.float()), y.float()).backward()
        optimizer.step()
    mine = torch.cat([param.detach().flatten() for param in model.parameters()])
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    return float((everyone[0] - everyone[-1]).abs().max())


ROUNDS: tuple[tuple[int, dict[str, Check]], ...] = (
    (
        2,
        {
            "ddp": ddp("adam"),
            "ddp-lamb": ddp("lamb"),
            "zero": zero,
            "noise": same_noise,
            "fsdp": fsdp("adam"),
            "fsdp-eager": fsdp("adam", backend="eager"),
            "fsdp-capturable": fsdp("adam", capturable=True),
            "fsdp-lags": fsdp(PAST),
            "fsdp-lamb": fsdp("lamb"),
            "rows": placed(Shard(0), Shard(0)),
            "columns": placed(Shard(1), Replicate()),
            "copies": placed(Replicate(), Partial()),
            "whole-states": handed_over(full_state_dict=True),
            "flat-states": handed_over(flatten_optimizer_state_dict=True),
            "save-2": save,
        },
    ),
    (1, {"resume-2-on-1": resume(2), "save-1": save}),
    (2, {"resume-1-on-2": resume(1)}),
)
"""Number of processes, and what they check together, one round after the other."""


def outcome(check: Check, folder: Path) -> float | str:
    """How far apart, or what went wrong."""
    try:
        return check(folder)
    except Exception:
        return traceback.format_exc()


def run(rank: int, folder: Path) -> dict[str, object]:
    """All rounds in one process."""
    results: dict[str, object] = {}
    for number, (world, checks) in enumerate(ROUNDS):
        if rank >= world:
            continue
        store = f"file://{folder}/store-{number}"
        patience = timedelta(seconds=60)
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=patience)
        results |= {name: outcome(check, folder) for name, check in checks.items()}
        dist.destroy_process_group()
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    own_rank, shared = int(sys.argv[1]), Path(sys.argv[2])
    (shared / f"result-{own_rank}.json").write_text(json.dumps(run(own_rank, shared)))
