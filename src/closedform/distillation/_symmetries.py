"""Symmetries of a recorded optimizer: measured on the recording, and kept by what is distilled from it.

**Odd**: the update changes sign with the gradient (and the parameter). Random features tanh(w . x + b) of the columns
and of moving averages are split into their odd parts and their even ones; what the even ones explain of held-out rows,
beyond the odd ones, is the even share. Even features such as a second moment or a logarithm count as such.

**Scale-free**: the update does not depend on the gradient's unit. So it is, for sure, where the recorded signals are all
of degree 0, as the inputs of RNNprop are (`lang.degrees`, up to their eps). Where some are not, nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from closedform.distillation._candidate import Average, Candidate
from closedform.distillation._compose import compose_rule
from closedform.distillation._odd import OddForms
from closedform.errors import RuleError
from closedform.lang import Program, degrees, lags, names

AUTO, NONE, ODD, SCALE_FREE, BOTH = "auto", "none", "odd", "scale-free", "both"
CHOICES = (AUTO, NONE, ODD, SCALE_FREE, BOTH)
"""What may be asked for: what is measured, nothing, or this and that whatever is measured."""
EVEN_SHARE = 0.01
"""R^2 up to which what even features explain is let go of."""
FEATURES, RIDGE = 150, 1e-4
"""Random features, and the ridge that their weights are drawn to 0 by."""
DECAYS = (0.5, 0.9, 0.98)
"""Of the moving averages that features read."""


@dataclass(frozen=True)
class Symmetries:
    """What is kept.

    Attributes:
        source: The recording's program.
        odd: Updates change sign with gradient and parameter.
        scale_free: Updates do not depend on the gradient's unit.
        even_share: R^2 that even features explain beyond odd ones, on held-out rows; None if it was not measured.
    """

    source: Program
    odd: bool = False
    scale_free: bool = False
    even_share: float | None = None

    @cached_property
    def forms(self) -> OddForms:
        """Odd forms over the signals."""
        return OddForms.over(self.source)

    @cached_property
    def bound_to_scale(self) -> frozenset[str]:
        """Signals that are not of degree 0 in the gradient."""
        powers = degrees(self.source, {"g": 1.0})
        return frozenset(name for name, power in powers.items() if power is None or power.power)

    def keep(self, candidate: Candidate) -> Candidate | None:
        """The candidate, or an odd form of it; None if it breaks a symmetry."""
        kept = self.forms.project(candidate) if self.odd else candidate
        return kept if kept is not None and (not self.scale_free or self._is_free(kept)) else None

    def _is_free(self, candidate: Candidate) -> bool:
        exprs = (candidate.expr, *candidate.recurrences.values())
        read = {name for expr in exprs for name in (*names(expr), *lags(expr))}
        read |= {average.signal for average in candidate.averages.values()}
        if not read & self.bound_to_scale:
            return True
        try:
            rule = compose_rule("scale", candidate, self.source, {}, {})
        except RuleError:
            return False
        found = degrees(rule.program, {"g": 1.0})["update"]
        return found is not None and not found.power

    def to_dict(self) -> dict[str, Any]:
        """For the provenance."""
        share = None if self.even_share is None else round(self.even_share, 6)
        return {"odd": self.odd, "scale_free": self.scale_free, "even_share": share}


def decide(
    choice: str, source: Program, columns: Sequence[Tensor], odd: Sequence[bool], y: Tensor, train: Tensor, seed: int
) -> Symmetries:
    """What to keep.

    Args:
        choice: One of ``CHOICES``.
        source: The recording's program.
        columns: What the update may depend on, [N] each.
        odd: Which of them change sign with the gradient.
        y: The updates, [N].
        train: Which rows to fit to, [N]; the others are held out.
        seed: Draws the features.
    """
    if choice == NONE:
        return Symmetries(source)
    share = even_share(columns, odd, y, train, seed) if any(odd) else 1.0
    free = not Symmetries(source).bound_to_scale & source.outputs.keys()
    return Symmetries(
        source,
        choice in (ODD, BOTH) or (choice == AUTO and share <= EVEN_SHARE),
        choice in (SCALE_FREE, BOTH) or (choice == AUTO and free),
        share,
    )


def even_share(columns: Sequence[Tensor], odd: Sequence[bool], y: Tensor, train: Tensor, seed: int) -> float:
    """R^2 on held-out rows that even features explain beyond odd ones, at least 0."""
    signs = torch.tensor([-1.0 if turns else 1.0 for turns in odd], dtype=torch.float64)
    centred = [values if turns else values - values.mean() for values, turns in zip(columns, odd, strict=True)]
    scaled = [values / values.square().mean().sqrt().clamp_min(1e-300) for values in centred]
    x = torch.stack(scaled, dim=1).clamp(-10, 10)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((x.shape[1], FEATURES), generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5
    offsets = torch.randn(FEATURES, generator=generator, dtype=torch.float64)
    here, there = torch.tanh(x @ weights + offsets), torch.tanh((x * signs) @ weights + offsets)
    turning = x[:, signs < 0]
    odd_ones = torch.cat([here - there, turning], dim=1)
    even_ones = torch.cat([here + there, torch.ones_like(y)[:, None], x[:, signs > 0]], dim=1)
    alone = _left(odd_ones, y, train)
    return max(0.0, alone - _left(torch.cat([odd_ones, even_ones], dim=1), y, train))


def _left(features: Tensor, y: Tensor, train: Tensor) -> float:
    """1 - R^2 of a ridge regression on held-out rows, about 0."""
    design, held = features[train], features[~train]
    gram = design.T @ design
    gram += RIDGE * torch.eye(len(gram), dtype=gram.dtype) * gram.diagonal().mean()
    weights = torch.linalg.solve(gram, design.T @ y[train])
    return float((y[~train] - held @ weights).square().sum() / y[~train].square().sum().clamp_min(1e-300))


def averages_of(signals: Sequence[str]) -> list[Average]:
    """The moving averages that features read."""
    return [Average(name, decay) for name in signals for decay in DECAYS]
