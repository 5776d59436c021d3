"""The entrants of ``gpu_training.py``: a rule as it is, AdamW and Muon with warm-up and cosine; what a step costs."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from gpu_workloads import Workload
from torch import Tensor, nn

from closedform.optim import RuleOptimizer

WARM_UP = 0.05  # share of the steps, as in closedform.evaluation's baselines
Step = Callable[[], object]


def cosine(done: int, steps: int) -> float:
    """Warm-up, then a cosine to zero: the factor of the next step's learning rate."""
    rising = round(WARM_UP * steps)
    share = max(0, done - rising) / (steps - rising)
    return min(1.0, (done + 1) / max(1, rising)) * 0.5 * (1 + math.cos(math.pi * share))


class FlatMuon(torch.optim.Muon):
    """torch's Muon, which takes matrices only, on convolutions too: flattened copies stand for them."""

    def __init__(self, params: Sequence[nn.Parameter], **options: float) -> None:
        self.tensors = list(params)
        self.matrices = [nn.Parameter(param.detach().flatten(1).clone()) for param in params]
        super().__init__(self.matrices, **options)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for matrix, param in zip(self.matrices, self.tensors, strict=True):
            matrix.grad = None if param.grad is None else param.grad.flatten(1)
        super().step()
        for matrix, param in zip(self.matrices, self.tensors, strict=True):
            param.copy_(matrix.view(param.shape))

    def zero_grad(self, set_to_none: bool = True) -> None:
        for param in self.tensors:
            param.grad = None


class Entrant:
    """Optimizers of one model, with their schedule.

    Args:
        optimizers: Each moves its share of the parameters.
        steps: T, for the schedule; None leaves learning rates alone.
    """

    def __init__(self, optimizers: list[torch.optim.Optimizer], steps: int | None) -> None:
        self.optimizers, self.steps, self.done = optimizers, steps, 0
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def step(self) -> None:
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            if self.steps is not None:
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * cosine(self.done, self.steps)
            optimizer.step()
        self.done += 1

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


def rule(named: Mapping[str, nn.Parameter], work: Workload, lr: float, steps: int, path: str) -> Entrant:
    """No schedule, no decay, no groups: what the rule says."""
    return Entrant([RuleOptimizer(named.values(), path, lr=lr, total_steps=steps)], None)


def adamw(named: Mapping[str, nn.Parameter], work: Workload, lr: float, steps: int, path: str) -> Entrant:
    """Fused, decay on tensors of two or more axes."""
    matrices = [param for param in named.values() if param.dim() > 1]
    vectors = [param for param in named.values() if param.dim() < 2]
    groups = [{"params": matrices, "weight_decay": work.decay}, {"params": vectors, "weight_decay": 0.0}]
    return Entrant([torch.optim.AdamW(groups, lr=lr, betas=work.betas, fused=vectors[0].is_cuda)], steps)


def muon(named: Mapping[str, nn.Parameter], work: Workload, lr: float, steps: int, path: str) -> Entrant:
    """Hidden matrices and convolutions by Muon; embeddings, the first and last layers and vectors by AdamW at 3e-4."""
    ends = ("tokens.", "places.", "head.", "0.weight", f"{[*named][-1].rpartition('.')[0]}.")
    inner = [param for name, param in named.items() if param.dim() > 1 and not name.startswith(ends)]
    chosen = {id(param) for param in inner}
    rest = {name: param for name, param in named.items() if id(param) not in chosen}
    others = adamw(rest, work, 3e-4, 1, path).optimizers
    return Entrant([FlatMuon(inner, lr=lr, weight_decay=work.decay), *others], steps)


ENTRANTS: dict[str, Callable[[Mapping[str, nn.Parameter], Workload, float, int, str], Entrant]] = {
    "rule": rule,
    "AdamW": adamw,
    "Muon": muon,
}


# ------------------------------------------------------------------------------------------------- time of a step


def synchronised(device: torch.device) -> float:
    """The time, once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interleaved(steps: Mapping[str, Step], device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Median and least milliseconds of each, one call of each in turn."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 3):
        for name, step in steps.items():
            start = synchronised(device)
            step()
            took = 1000 * (synchronised(device) - start)
            if turn >= 3:  # the first ones warm up
                samples[name].append(took)
    return {name: {"median_ms": statistics.median(found), "least_ms": min(found)} for name, found in samples.items()}


def clones(model: nn.Module) -> dict[str, nn.Parameter]:
    """Copies of a model's parameters, with their gradients."""
    copies: dict[str, nn.Parameter] = {}
    for name, param in model.named_parameters():
        copies[name] = nn.Parameter(copy.deepcopy(param.detach()))
        copies[name].grad = None if param.grad is None else param.grad.clone()
    return copies


def first_steps(work: Workload, path: str) -> Iterator[tuple[str, Callable[[], Step]]]:
    """What must be known before anything is planned, each ready to be made: a model's pass, the optimizers' steps."""
    model = work.model()
    generator = torch.Generator(work.device).manual_seed(0)
    batch = work.batch(0, generator)

    def passes() -> None:
        model.zero_grad(set_to_none=True)
        work.loss(model, *batch).backward()

    passes()
    yield "forward and backward", lambda: passes
    for name, make in ENTRANTS.items():
        lr = {"rule": 1.0, "AdamW": 1e-3, "Muon": 0.02}[name]
        yield name, lambda make=make, lr=lr: make(clones(model), work, lr, 10_000, path).step  # type: ignore[misc]


def further_steps(work: Workload, path: str) -> Iterator[tuple[str, Callable[[], Step]]]:
    """What is worth knowing besides: torch's AdamW by itself, as a rule, and the rule as a CUDA graph."""
    model = work.model()
    work.loss(model, *work.batch(0, torch.Generator(work.device).manual_seed(0))).backward()
    on_gpu = work.device.type == "cuda"
    yield "AdamW, fused", lambda: torch.optim.AdamW(clones(model).values(), fused=on_gpu).step
    yield "AdamW, foreach", lambda: torch.optim.AdamW(clones(model).values(), foreach=True).step
    yield "rule again", lambda: RuleOptimizer(clones(model).values(), path, total_steps=10_000).step
    if on_gpu:
        yield "rule, as a CUDA graph", lambda: captured(list(clones(model).values()), path)
    yield "AdamW as a rule, compiled", lambda: RuleOptimizer(clones(model).values(), "adamw", backend="compiled").step


def captured(params: list[nn.Parameter], path: str) -> Step:
    """A rule's step as a CUDA graph."""
    optimizer = RuleOptimizer(params, path, total_steps=10_000, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    return graph.replay


def agreement(path: str, device: torch.device) -> dict[str, float]:
    """Ten steps on the device against the reference in float64 on the CPU, and AdamW as a rule against torch's.

    Returns:
        Largest difference between parameters, over the distance they moved.
    """
    shapes = [(64, 3, 3, 3), (64,), (384, 128), (10, 64)]
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    grads = [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in range(10)]

    def moved(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], where: torch.device, dtype: torch.dtype):
        params = [nn.Parameter(w.to(where, dtype, copy=True)) for w in start]
        optimizer = make(params)
        for now in grads:
            for param, grad in zip(params, now, strict=True):
                param.grad = grad.to(where, dtype)
            optimizer.step()
        return [param.detach().cpu().double() for param in params]

    def apart(found: list[Tensor], wanted: list[Tensor]) -> float:
        rows = zip(found, wanted, start, strict=True)
        return max(float((mine - other).norm() / (other - w).norm()) for mine, other, w in rows)

    torch.set_float32_matmul_precision("highest")
    cpu = torch.device("cpu")
    exact = moved(lambda p: RuleOptimizer(p, path, total_steps=20, backend="reference"), cpu, torch.float64)
    torchs = moved(lambda p: torch.optim.AdamW(p, lr=1e-3), cpu, torch.float64)
    found = {
        "rule, float32 on the device": apart(
            moved(lambda p: RuleOptimizer(p, path, total_steps=20), device, torch.float32), exact
        ),
        "AdamW as a rule on the device against torch's AdamW": apart(
            moved(lambda p: RuleOptimizer(p, "adamw", lr=1e-3), device, torch.float32), torchs
        ),
    }
    torch.set_float32_matmul_precision("high")
    return found
