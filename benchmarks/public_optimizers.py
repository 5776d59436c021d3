"""Library rules and the public implementations of the same optimizers: what `optimizer_step.py` times in pairs.

``torch.optim.Muon`` takes matrices alone and orthogonalises in bfloat16, as pytorch_optimizer does; rules compute in
the parameters' type. A rule without a public implementation stands beside the one nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytorch_optimizer
import torch
from torch import nn

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Pair:
    """A rule and what it is timed against.

    Attributes:
        rule: Name of the library rule.
        public: How the other side is called.
        make: The other side.
        matrices: Whether both get the model's matrices alone.
    """

    rule: str
    public: str
    make: Make
    matrices: bool = False


STEPS = 10**6
"""T, for rules with a horizon and for AdEMAMix."""
PAIRS = (
    Pair("muon", "torch.optim.Muon", torch.optim.Muon, matrices=True),
    Pair("cf1", "torch.optim.Muon", torch.optim.Muon, matrices=True),
    Pair("muon", "pytorch_optimizer Muon", lambda p: pytorch_optimizer.Muon(_muon_group(p), lr=0.02), matrices=True),
    Pair(
        "muon",
        "pytorch_optimizer Muon, over products of rows",
        lambda p: pytorch_optimizer.Muon(_muon_group(p), lr=0.02, ns_method="gram_newton_schulz"),
        matrices=True,
    ),
    Pair("adafactor", "pytorch_optimizer AdaFactor", lambda p: _adafactor(p)),
    Pair("ademamix", "pytorch_optimizer AdEMAMix", lambda p: pytorch_optimizer.AdEMAMix(p, t_alpha_beta3=STEPS)),
    Pair("adopt", "pytorch_optimizer ADOPT", pytorch_optimizer.ADOPT),
    Pair("schedulefree-adamw", "pytorch_optimizer ScheduleFreeAdamW", pytorch_optimizer.ScheduleFreeAdamW),
    Pair("cautious-adamw", "torch.optim.AdamW(fused), not cautious", lambda p: torch.optim.AdamW(p, fused=True)),
    Pair("mars", "pytorch_optimizer MARS", lambda p: pytorch_optimizer.MARS(p, optimize_1d=True)),
)


def _muon_group(params: Iterable[nn.Parameter]) -> list[dict[str, object]]:
    return [{"params": list(params), "use_muon": True}]


def _adafactor(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return pytorch_optimizer.AdaFactor(
        params, lr=0.01, betas=(None, 0.999), relative_step=False, momentum_dtype=torch.float32
    )


def perceptron() -> nn.Module:
    """784-256-256-10: 269,322 parameters in 6 tensors."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def many_layers() -> nn.Module:
    """Twenty hidden layers of 64, as small networks have them: 83,200 parameters in 40 tensors."""
    return nn.Sequential(*(nn.Linear(64, 64) for _ in range(20)))


MODELS = {"MLP 784-256-256-10": perceptron, "20 layers of 64": many_layers}
