"""Read a rule: its equation, its price, and how its update answers to gradients."""

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
from closedform.lang import Kind, horizon_inputs, initial_memory, memory_kinds, shape_inputs, step, to_text
from closedform.rules import Rule, load_rule

WARM_UP = 50
"""Steps of noise before a response is read, so that averages have filled."""


@dataclass(frozen=True)
class Curve:
    """One response: ``y`` over ``x``, with the axes' labels."""

    x_label: str
    y_label: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Explanation:
    """What a rule is and does.

    Attributes:
        name: The rule's name.
        equations: The rule line by line, in the rule language.
        latex: The same as a LaTeX ``aligned`` block.
        constants: Named constants.
        lr: Default learning rate.
        complexity: Nodes of all live expressions.
        state_cost: Buffers a parameter.
        buffers: Names of the buffers kept.
        gradient_response: Mean update against the present gradient, after a history of standard normal gradients.
        impulse_response: Change of the update k steps after a gradient that was larger by a small amount, relative.
        scale_response: Root mean square of the update against the scale of the gradients: flat if the rule adapts.
        provenance: Where the rule comes from.
        certificates: What is proved of it, and what was checked.
    """

    name: str
    equations: list[str]
    latex: str
    constants: dict[str, float]
    lr: float
    complexity: int
    state_cost: int
    buffers: list[str]
    gradient_response: Curve
    impulse_response: Curve
    scale_response: Curve
    provenance: dict[str, Any]
    certificates: Certificates

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"certificates": self.certificates.to_dict()}


def explain(rule: Rule | str | Path, *, lags: int = 20, samples: int = 2048, seed: int = 0) -> Explanation:
    """Explain a rule.

    Responses of rules that read the horizon are those of the first steps of 1,000; matrix operators see a vector.

    Args:
        rule: A rule, a library name or a path.
        lags: Steps of the impulse response.
        samples: Random histories that responses are averaged over.
        seed: Seeds them.

    Raises:
        RuleError, UnknownNameError: the rule cannot be loaded.
        OptionError: ``lags``, ``samples`` or ``seed`` makes no sense.
    """
    check_count("lags", lags)
    check_count("samples", samples)
    check_seed("seed", seed)
    rule = load_rule(rule)
    program = rule.program.merged
    probe = _Probe(rule, samples, seed)
    return Explanation(
        rule.name,
        equations(rule),
        rule.latex(),
        dict(rule.program.live.constants),
        rule.lr,
        rule.complexity,
        rule.state_cost,
        [key for key, kind in memory_kinds(program).items() if kind is Kind.ELEMENTWISE],
        probe.gradient_response(),
        probe.impulse_response(lags),
        probe.scale_response(),
        dict(rule.provenance),
        certify(rule),
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

    def run(self, steps: int, change: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        """Updates [samples] of each step; ``change(t, g)`` may alter the gradients of step t."""
        generator = torch.Generator().manual_seed(self.seed)
        w = torch.ones(self.samples, dtype=torch.float64)
        memory = initial_memory(self.program, w)
        updates = []
        for t in range(1, steps + 1):
            g = change(t, torch.randn(self.samples, generator=generator, dtype=torch.float64))
            now = torch.tensor(float(t), dtype=torch.float64)
            inputs = {"g": g, "w": w, "t": now, **horizon_inputs(now, TOTAL), **shape_inputs(w.shape)}
            outputs, memory = step(self.program, inputs, memory)
            updates.append(outputs["update"].expand(self.samples))
        return updates

    def gradient_response(self, points: int = 41, span: float = 4.0) -> Curve:
        xs = torch.linspace(-span, span, points, dtype=torch.float64).tolist()
        ys = [float(self.run(WARM_UP, partial(_replaced_last, x))[-1].mean()) for x in xs]
        return Curve("present gradient (standard deviations)", "mean update", xs, ys)

    def impulse_response(self, lags: int, size: float = 1e-3) -> Curve:
        plain = self.run(WARM_UP + lags, lambda _, g: g)
        pushed = self.run(WARM_UP + lags, lambda t, g: g + size if t == WARM_UP + 1 else g)
        change = [float((b - a).abs().mean()) for a, b in zip(plain[WARM_UP:], pushed[WARM_UP:], strict=True)]
        total = sum(change) or 1.0
        return Curve(
            "steps since the gradient",
            "share of the response",
            [float(k) for k in range(lags)],
            [c / total for c in change],
        )

    def scale_response(self) -> Curve:
        scales = [10.0**power for power in range(-6, 4)]
        sizes = [float(self.run(WARM_UP, partial(_scaled, scale))[-1].square().mean().sqrt()) for scale in scales]
        return Curve("scale of the gradients", "root mean square of the update", scales, sizes)


def _replaced_last(value: float, t: int, g: Tensor) -> Tensor:
    return torch.full_like(g, value) if t == WARM_UP else g


def _scaled(scale: float, t: int, g: Tensor) -> Tensor:
    return scale * g
