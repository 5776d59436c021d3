"""How well a rule's updates agree with recorded ones, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from closedform.analysis.nearest._matches import Addition
from closedform.analysis.nearest._refit import Cells

_PARTS, _LEAST_PARTS = 10, 4
_MOST = 0.9
"""Parts of the coordinates, in most of which an addition must help; fewer than the least say nothing."""
_GAIN = 0.1
"""Share of what was left that an addition must explain."""
_DEVIATIONS, _MUCH = 3.0, 0.03
"""Standard errors by which a rule must be better than a simpler one, unless the simpler one's error is so much more."""
_APART, _FEW = 1e-3, 0.02
"""Relative squared error of a part that differs; share of the coordinates that may."""
_TENTHS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "last")
_SINGLE = 2.0**-23


def agreement(predicted: Tensor, updates: Tensor) -> tuple[float, float, float]:
    """R^2, cosine, and ratio of sizes."""
    left = (updates - predicted).square().sum() / (updates - updates.mean()).square().sum()
    sizes = float(predicted.norm()), float(updates.norm())
    cosine = float((predicted * updates).sum()) / max(sizes[0] * sizes[1], 1e-300)
    return 1 - float(torch.nan_to_num(left, nan=torch.inf)), cosine, sizes[0] / max(sizes[1], 1e-300)


def left_over(predicted: Tensor, updates: Tensor) -> Tensor:
    """What each coordinate adds to 1 - R^2: [N]."""
    return (updates - predicted).square().sum(0) / (updates - updates.mean()).square().sum()


def no_worse(left: Tensor, best: Tensor) -> bool:
    """Whether what a rule leaves over, [N], is more than what the best one does by chance alone."""
    more = left - best
    if not bool(torch.isfinite(more).all()):
        return False
    by_chance = _DEVIATIONS * float(more.std()) / len(more) ** 0.5
    return float(more.mean()) <= by_chance and float(left.sum()) < (1 + _MUCH) * float(best.sum())


def where_apart(predicted: Tensor, held: Cells) -> str:
    """Where updates differ that agree on the whole: a tenth of the episodes, or some of the parameters; or nothing.

    Pooled errors are ruled by the largest updates. What rounding of parameters in single precision makes is allowed.
    """
    wrong = (held.updates - predicted).square() - (_SINGLE * held.scale * held.weights).square()
    right = _APART * held.updates.square()
    for tenth, rows in zip(_TENTHS, torch.arange(len(wrong)).tensor_split(10), strict=True):
        if float(wrong[rows].sum()) > float(right[rows].sum()):
            return f"in the {tenth} tenth of the episodes"
    share = float((wrong.sum(0) > right.sum(0)).double().mean())
    return f"for {100 * share:.0f} % of the parameters" if share > _FEW else ""


def additions(predicted: Tensor, held: Cells, r2: float) -> tuple[Addition, ...]:
    """Single additions that explain more, fitted on one half of the held-out coordinates and judged on the other.

    The rule's own size is fitted anew beside them, so that no addition is told for a better learning rate alone.
    """
    if held.updates.shape[1] < 2 * _LEAST_PARTS:
        return ()
    updates = _second(held.updates)
    plain = _fit_on_half(predicted[None], held.updates)
    base = agreement(plain, updates)[0]
    found = []
    for what, terms in _tried(predicted, held):
        fitted = _fit_on_half(terms, held.updates)
        gained = agreement(fitted, updates)[0]
        if gained - base > _GAIN * (1 - base) and _better(fitted, plain, updates) >= _MOST:
            found.append(Addition(what, r2 + gained - base))
    found.sort(key=lambda entry: -entry.r2)
    clipped = [entry for entry in found if entry.what.startswith("clipping")]
    return tuple(entry for entry in found if entry not in clipped[1:])


def _tried(predicted: Tensor, held: Cells) -> Iterator[tuple[str, Tensor]]:
    """Additions in words, and the terms whose sum is the update: [K, T, N]."""
    deviation = float(predicted.std())
    for size in (0.5, 1, 1.5, 2, 3, 4):
        most = size * deviation
        yield f"clipping at {size:g} deviations of its update", (torch.tanh(predicted / most) * most)[None]
    yield "a term in the parameter (weight decay)", torch.stack([predicted, held.scale * held.weights])
    yield "a term in the present gradient", torch.stack([predicted, held.scale * held.gradients])
    yield "a schedule over the episode", _envelope(predicted)


def _better(fitted: Tensor, plain: Tensor, updates: Tensor) -> float:
    """Share of the parts of the coordinates in which the first is nearer to the updates."""
    parts = [v.square().sum(0) for v in (updates - fitted, updates - plain)]
    count = min(_PARTS, len(parts[0]))
    pairs = zip(*(v.tensor_split(count) for v in parts), strict=True)
    return sum(float(a.sum()) < float(b.sum()) for a, b in pairs) / count


def _envelope(predicted: Tensor) -> Tensor:
    """The update in each tenth of the episode, apart: [10, T, N]."""
    steps = len(predicted)
    tenth = torch.arange(steps) * 10 // steps
    return torch.stack([predicted * (tenth == k)[:, None] for k in range(10)])


def _fit_on_half(terms: Tensor, updates: Tensor) -> Tensor:
    """The best sum of terms, [K, T, N]: fitted on every second coordinate, given at the others."""
    half = slice(0, None, 2)
    matrix, target = terms[:, :, half].flatten(1), updates[:, half].flatten()
    normal = matrix @ matrix.T
    weights = torch.linalg.lstsq(normal, (matrix @ target)[:, None], driver="gelsd").solution[:, 0]
    return torch.einsum("k,ktn->tn", weights, terms[:, :, 1::2])


def _second(values: Tensor) -> Tensor:
    return values[:, 1::2]
