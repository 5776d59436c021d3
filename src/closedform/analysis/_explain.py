"""Read an optimizer: its equation, its price, how far back it looks, and how its update answers to gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_seed
from closedform.analysis._certify import Certificates, certify
from closedform.analysis._probe import TOTAL
from closedform.analysis.perception import Perception, perception
from closedform.analysis.portrait import Portrait, portrait
from closedform.errors import OptionError
from closedform.lang import Kind, Memory, horizon_inputs, initial_memory, memory_kinds, shape_inputs, step, to_text
from closedform.learned_optimizers import LearnedOptimizer, load_optimizer
from closedform.rules import Rule

WARM_UP = 50
"""Steps of noise before a response is read, so that averages have filled."""
PERCEIVED = 128
"""Lags of the perception field."""
_PRESENT = ("present gradient (standard deviations)", "mean update")
_SINCE = ("steps since the gradient", "share of the response")


@dataclass(frozen=True)
class Curve:
    """One response: ``y`` over ``x``, with the axes' labels."""

    x_label: str
    y_label: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Explanation:
    """What an optimizer is and does; of a network, what only rules have is empty.

    Attributes:
        name: Its name.
        equations: The rule line by line, in the rule language.
        latex: The same as a LaTeX ``aligned`` block.
        constants: Named constants.
        lr: Default learning rate.
        complexity: Nodes of all live expressions; None for a network.
        state_cost: Buffers a parameter.
        buffers: Names of the buffers kept.
        gradient_response: Mean update against the present gradient, after a history of standard normal gradients.
        impulse_response: Change of the update k steps after a gradient that was larger by a small amount, relative.
        scale_response: Root mean square of the update against the scale of the gradients: flat if the rule adapts.
        provenance: Where the rule comes from.
        certificates: What is proved of it, and what was checked; None for a network.
        perception: How far back it looks.
        portrait: How it remembers, adapts, anneals and converges; None if its updates are not finite.
    """

    name: str
    equations: list[str]
    latex: str
    constants: dict[str, float]
    lr: float
    complexity: int | None
    state_cost: int
    buffers: list[str]
    gradient_response: Curve
    impulse_response: Curve
    scale_response: Curve | None
    provenance: dict[str, Any]
    certificates: Certificates | None
    perception: Perception
    portrait: Portrait | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"certificates": self.certificates.to_dict() if self.certificates else None}


def explain(
    optimizer: Rule | LearnedOptimizer | str | Path, *, lags: int = 20, samples: int = 2048, seed: int = 0
) -> Explanation:
    """Explain a rule or a network.

    Responses of rules that read the horizon are those of the first steps of 1,000; matrix operators see a vector.

    Args:
        optimizer: A rule, a learned optimizer, a name of either, or a path.
        lags: Steps of the impulse response.
        samples: Random histories that responses are averaged over.
        seed: Seeds them.

    Raises:
        RuleError, CheckpointError, UnknownNameError: it cannot be loaded.
        OptionError: ``lags``, ``samples`` or ``seed`` makes no sense.
    """
    check_count("lags", lags)
    check_count("samples", samples)
    check_seed("seed", seed)
    found = load_optimizer(optimizer)
    field = perception(found, lags=PERCEIVED, seed=seed)
    drawn = _drawn(found, seed)
    if isinstance(found, LearnedOptimizer):
        return _of_network(found, field, drawn, lags)
    program = found.program.merged
    probe = _Probe(found, samples, seed)
    return Explanation(
        found.name,
        equations(found),
        found.latex(),
        dict(found.program.live.constants),
        found.lr,
        found.complexity,
        found.state_cost,
        [key for key, kind in memory_kinds(program).items() if kind is Kind.ELEMENTWISE],
        probe.gradient_response(),
        probe.impulse_response(lags),
        probe.scale_response(),
        dict(found.provenance),
        certify(found),
        field,
        drawn,
    )


def _drawn(optimizer: Rule | LearnedOptimizer, seed: int) -> Portrait | None:
    try:
        return portrait(optimizer, lags=PERCEIVED, seed=seed)
    except OptionError:  # updates that are not finite
        return None


def _of_network(network: LearnedOptimizer, field: Perception, drawn: Portrait | None, lags: int) -> Explanation:
    shares = field.gradient.sensitivity[:lags]
    total = sum(shares) or 1.0
    answers = drawn.answers if drawn else None
    return Explanation(
        network.name,
        [],
        "",
        {},
        1.0,
        None,
        network.state_cost,
        [],
        Curve(*_PRESENT, list(answers.gradient) if answers else [], list(answers.update) if answers else []),
        Curve(*_SINCE, [float(k) for k in range(len(shares))], [s / total for s in shares]),
        None,
        {"source": network.source, "features": list(network.features)},
        None,
        field,
        drawn,
    )


def equations(rule: Rule) -> list[str]:
    """The live part of a rule, a line an expression, old values written ``prev(...)``-free as in the rule file."""
    program = rule.program.live
    lines = [f"{name} <- {to_text(expr)}" for name, expr in program.state.items()]
    lines += [f"{name} = {to_text(expr)}" for name, expr in program.where.items()]
    return [*lines, f"w <- w + lr*({to_text(rule.update)})"]


class _Probe:
    """Runs a rule on many independent coordinates fed with standard normal gradients."""

    def __init__(self, rule: Rule, samples: int, seed: int) -> None:
        self.program, self.samples, self.seed = rule.program.merged, samples, seed
        self.w = torch.ones(samples, dtype=torch.float64)

    def step(self, t: int, g: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The update [samples] of step t, and the new memory."""
        now = torch.tensor(float(t), dtype=torch.float64)
        inputs = {"g": g, "w": self.w, "t": now, **horizon_inputs(now, TOTAL), **shape_inputs(self.w.shape)}
        outputs, memory = step(self.program, inputs, memory)
        return outputs["update"].expand(self.samples), memory

    def run(self, steps: int, change: Callable[[int, Tensor], Tensor]) -> tuple[list[Tensor], Memory]:
        """Updates [samples] of each step, and the memory after; ``change(t, g)`` may alter the gradients of step t."""
        generator = torch.Generator().manual_seed(self.seed)
        memory = initial_memory(self.program, self.w)
        updates = []
        for t in range(1, steps + 1):
            g = change(t, torch.randn(self.samples, generator=generator, dtype=torch.float64))
            update, memory = self.step(t, g, memory)
            updates.append(update)
        return updates, memory

    def gradient_response(self, points: int = 41, span: float = 4.0) -> Curve:
        """One history, and at its end each present gradient."""
        xs = torch.linspace(-span, span, points, dtype=torch.float64)
        memory = self.run(WARM_UP - 1, lambda _, g: g)[1]
        ys = [float(self.step(WARM_UP, torch.full_like(self.w, float(x)), memory)[0].mean()) for x in xs]
        return Curve(*_PRESENT, xs.tolist(), ys)

    def impulse_response(self, lags: int, size: float = 1e-3) -> Curve:
        plain = self.run(WARM_UP + lags, lambda _, g: g)[0]
        pushed = self.run(WARM_UP + lags, lambda t, g: g + size if t == WARM_UP + 1 else g)[0]
        change = [float((b - a).abs().mean()) for a, b in zip(plain[WARM_UP:], pushed[WARM_UP:], strict=True)]
        total = sum(change) or 1.0
        return Curve(*_SINCE, [float(k) for k in range(lags)], [c / total for c in change])

    def scale_response(self) -> Curve:
        scales = [10.0**power for power in range(-6, 4)]
        sizes = [float(self.run(WARM_UP, partial(_scaled, scale))[0][-1].square().mean().sqrt()) for scale in scales]
        return Curve("scale of the gradients", "root mean square of the update", scales, sizes)


def _scaled(scale: float, t: int, g: Tensor) -> Tensor:
    return scale * g
