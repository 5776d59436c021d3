"""Symmetries of a recorded optimizer: measured on the recording, and kept by what is distilled from it.

**Odd**: the update changes sign with the gradient (and the parameter). Random features tanh(w . x + b) of the columns
and of moving averages are split into their odd parts and their even ones; what the even ones explain of held-out rows,
beyond the odd ones, is the even share. Even features such as a second moment or a logarithm count as such.

**Scale-free**: the update does not depend on the gradient's unit. Signals of degree 0 in the gradient (`lang.degrees`,
up to their eps) do not, as the inputs of RNNprop do not; what random features of the others explain beyond random
features of these is the scale's share. Where all signals are of degree 0 it is 0 for sure; where none is, it is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from closedform.distillation._config import AUTO, BOTH, NONE, ODD, SCALE_FREE
from closedform.distillation.problem._candidate import WHOLE, Average, Candidate
from closedform.distillation.problem._compose import compose
from closedform.distillation.problem._odd import TURNED, OddForms
from closedform.errors import ExpressionError
from closedform.lang import Parity, Program, degrees, lags, names, parities

EVEN_SHARE, SCALE_SHARE = 0.02, 0.003
"""R^2 up to which what breaks a symmetry is let go of. Less for scale: gradients of nearly one size are nearly their
own normalised selves, and would explain each other."""
FEATURES, RIDGE = 150, 1e-4
"""Random features, and the ridge that their weights are drawn to 0 by."""
FEATURE_DECAYS = (0.5, 0.9, 0.98)
"""Of the moving averages that features read."""


@dataclass(frozen=True)
class Symmetries:
    """What is kept.

    Attributes:
        source: The recording's program.
        odd: Updates change sign with gradient and parameter.
        scale_free: Updates do not depend on the gradient's unit.
        even_share: R^2 that even features explain beyond odd ones, on held-out rows; None if it was not measured.
        scale_share: R^2 that features bound to the gradient's unit explain beyond the others; None likewise.
    """

    source: Program
    odd: bool = False
    scale_free: bool = False
    even_share: float | None = None
    scale_share: float | None = None

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
        if candidate.whole is not None:
            odd = not self.odd or parities(candidate.whole, TURNED)[WHOLE] is Parity.ODD
            return candidate if odd and (not self.scale_free or self._is_free(candidate)) else None
        kept = self.forms.project(candidate) if self.odd else candidate
        return kept if kept is not None and (not self.scale_free or self._is_free(kept)) else None

    def _is_free(self, candidate: Candidate) -> bool:
        exprs = (candidate.expr, *candidate.recurrences.values())
        if candidate.whole is not None:
            exprs = tuple(candidate.whole.expressions())
        read = {name for expr in exprs for name in (*names(expr), *lags(expr))}
        read |= {average.signal for average in candidate.averages.values()}
        if not read & self.bound_to_scale:
            return True
        try:
            program = compose(candidate, self.source)
        except ExpressionError:
            return False
        found = degrees(program, {"g": 1.0})["update"]
        return found is not None and not found.power

    def to_dict(self) -> dict[str, Any]:
        """For the provenance."""
        shares = {"even_share": self.even_share, "scale_share": self.scale_share}
        rounded = {name: None if share is None else round(share, 6) for name, share in shares.items()}
        return {"odd": self.odd, "scale_free": self.scale_free, **rounded}


@dataclass(frozen=True)
class Signals:
    """What an update may depend on.

    Attributes:
        values: [N, K].
        odd: Which of the K change sign with the gradient.
        free: Which do not depend on its unit.
    """

    values: Tensor
    odd: Tensor
    free: Tensor


def decide(choice: str, source: Program, signals: Signals, y: Tensor, train: Tensor, seed: int) -> Symmetries:
    """What to keep.

    Args:
        choice: One of ``SYMMETRIES``.
        source: The recording's program.
        signals: What the update may depend on.
        y: The updates, [N].
        train: Which rows to fit to, [N]; the others are held out.
        seed: Draws the features.
    """
    if choice == NONE:
        return Symmetries(source)
    even, scale = even_share(signals, y, train, seed), scale_share(signals, y, train, seed)
    return Symmetries(
        source,
        choice in (ODD, BOTH) or (choice == AUTO and even <= EVEN_SHARE),
        choice in (SCALE_FREE, BOTH) or (choice == AUTO and scale <= SCALE_SHARE),
        even,
        scale,
    )


def even_share(signals: Signals, y: Tensor, train: Tensor, seed: int) -> float:
    """R^2 on held-out rows that even features explain beyond odd ones, at least 0; 1 where no signal is odd."""
    if not signals.odd.any():
        return 1.0
    x = _scaled(torch.where(signals.odd, signals.values, signals.values - signals.values.mean(0)))
    weights, offsets = _drawn(x, seed)
    here, there = torch.tanh(x @ weights + offsets), torch.tanh(torch.where(signals.odd, -x, x) @ weights + offsets)
    odd_ones = torch.cat([here - there, x[:, signals.odd]], dim=1)
    even_ones = torch.cat([here + there, torch.ones_like(y)[:, None], x[:, ~signals.odd]], dim=1)
    return _beyond(odd_ones, even_ones, y, train)


def scale_share(signals: Signals, y: Tensor, train: Tensor, seed: int) -> float:
    """R^2 on held-out rows that features of signals bound to scale explain beyond those of the others, at least 0."""
    if signals.free.all():
        return 0.0
    if not signals.free.any():
        return 1.0
    x = _scaled(signals.values)
    return _beyond(_features(x[:, signals.free], seed), _features(x, seed + 1), y, train)


def _features(x: Tensor, seed: int) -> Tensor:
    weights, offsets = _drawn(x, seed)
    return torch.cat([torch.tanh(x @ weights + offsets), x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def _drawn(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((x.shape[1], FEATURES), generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5
    return weights, torch.randn(FEATURES, generator=generator, dtype=torch.float64)


def _scaled(x: Tensor) -> Tensor:
    return (x / x.square().mean(0).sqrt().clamp_min(1e-300)).clamp(-10, 10)


def _beyond(first: Tensor, others: Tensor, y: Tensor, train: Tensor) -> float:
    """R^2 that further features add."""
    return max(0.0, _left(first, y, train) - _left(torch.cat([first, others], dim=1), y, train))


def _left(features: Tensor, y: Tensor, train: Tensor) -> float:
    """1 - R^2 of a ridge regression on held-out rows, about 0."""
    design, held = features[train], features[~train]
    gram = design.T @ design
    gram += RIDGE * torch.eye(len(gram), dtype=gram.dtype) * gram.diagonal().mean()
    weights = torch.linalg.solve(gram, design.T @ y[train])
    return float((y[~train] - held @ weights).square().sum() / y[~train].square().sum().clamp_min(1e-300))


def averages_of(signals: Sequence[str]) -> list[Average]:
    """The moving averages that features read."""
    return [Average(name, decay) for name in signals for decay in FEATURE_DECAYS]
