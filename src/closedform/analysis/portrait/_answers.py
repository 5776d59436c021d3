"""What an optimizer answers to made-up gradients: present ones, none, scaled and turned ones; and over an episode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from closedform.analysis._replay import replayed
from closedform.learned_optimizers import LearnedOptimizer, State, fresh_state

WARM_UP, COASTING, EPISODE = 100, 100, 200
"""Steps of noise before an answer is looked at; without gradients; of an episode."""
NEAR, DECADES, A_DECADE, HALVINGS = 0.01, 5, 5, 6
"""Where saturation is looked for, in units: from where, over how many decades, at how many places in each, and how
often the last interval is halved."""
WIDTHS = tuple(1e-3 * 2**k for k in range(10))
"""Units to both sides of 0 over which a slope there is taken; the first over which it is the same as over the next."""
_SAME = 0.2
"""Relative difference of two slopes that are the same, and of two powers."""
_NONE = 1e-9
"""Difference of updates, relative to their size, that is none."""
_FACTORS = (1e-3, 1.0, 1e3)
"""By which the unit is changed."""
_POWER = 0.05
"""Difference of the powers over these that is none."""
_SIDE = 8


@dataclass(frozen=True)
class Answers:
    """An optimizer under made-up gradients; those of noise are normal, their deviation the unit.

    Attributes:
        gradient: The present gradient in units, after a history of noise.
        update: Mean update for it.
        rate: -slope of that at 0: the effective learning rate; NaN if it jumps there.
        width: Units to both sides of 0 over which that slope is taken; more than the least where the update answers by
            jumps that only a mean over histories smooths, as a sign's.
        saturation: |gradient| in units from which the slope, mean of both sides, is less than half of that; infinite if
            it never is, NaN without a rate.
        coasting: |update| over steps without gradients after steady ones, relative to the last one before.
        half_life: The first step without a gradient, from 1, whose update is below a half of that; infinite if none is.
        schedule: Root mean square of the update over an episode of noise, relative to its largest finite one.
        scale_power: p, if the update grows as the gradient's unit to the power p, from 1/1000 to 1000 times the unit;
            NaN if there is no such p.
        odd: Whether the update changes sign with the gradients.
        odd_with_weights: Whether it does so where the parameters change sign too.
        reads_weights: Whether it depends on the parameters.
        reads_others: Whether it depends on other coordinates of the tensor.
    """

    gradient: tuple[float, ...]
    update: tuple[float, ...]
    rate: float
    width: float
    saturation: float
    coasting: tuple[float, ...]
    half_life: float
    schedule: tuple[float, ...]
    scale_power: float
    odd: bool
    odd_with_weights: bool
    reads_weights: bool
    reads_others: bool


def answers(optimizer: LearnedOptimizer, unit: float = 1.0, samples: int = 256, seed: int = 0) -> Answers:
    """Look at an optimizer's answers.

    Args:
        optimizer: In float64; one that looks at whole tensors sees 8 x 8 parameters.
        unit: Deviation of the gradients.
        samples: Coordinates, a multiple of 64.
        seed: Draws the noise.
    """
    return _Bench(optimizer, unit, samples, seed).answers()


class _Bench:
    def __init__(self, optimizer: LearnedOptimizer, unit: float, samples: int, seed: int) -> None:
        self.optimizer, self.unit, self.samples = optimizer, unit, samples
        self.bound = optimizer.bind()
        generator = torch.Generator().manual_seed(seed)
        shape = (EPISODE, samples)
        self.noise = unit * torch.randn(shape, generator=generator, dtype=torch.float64)
        self.other = unit * torch.randn(samples, generator=generator, dtype=torch.float64)
        self.others = 2 * torch.randn(samples, generator=generator, dtype=torch.float64)
        self.seed, self.random = seed, bool(getattr(optimizer, "random", False))

    def begin(self) -> tuple[Tensor, State]:
        """Weights of 1, and the state before step 1 of an episode."""
        w = torch.ones(self.samples, dtype=torch.float64)
        side = _SIDE * _SIDE
        sizes = None if self.optimizer.coordinatewise else [(_SIDE, _SIDE)] * (self.samples // side)
        return w, fresh_state(self.optimizer, w, sizes, EPISODE)

    def run(self, gradients: Tensor, weights: Tensor | None = None) -> tuple[Tensor, State]:
        """Updates [T, N], and the state after them; one that draws random numbers draws the same ones in every run."""
        w, state = self.begin()
        still = (w if weights is None else weights).expand_as(gradients)
        with torch.random.fork_rng(devices=[], enabled=self.random):
            if self.random:
                torch.manual_seed(self.seed)
            found, state = replayed(self.bound, state, gradients, still)
        return found.to(torch.float64), state

    def answers(self) -> Answers:
        plain, history = self.run(self.noise)[0], self.noise[:WARM_UP]
        after = self.run(history)[1]
        x = torch.linspace(-4, 4, 33, dtype=torch.float64)
        curve = [self.at(after, float(z)) for z in x]
        rate, width = self.rate(after)
        coasting, half_life = self.coasting()
        early = plain[:WARM_UP]
        near = _NONE * float(early.square().mean().sqrt())
        w = self.begin()[0]
        turned, turned_all = self.run(-history)[0], self.run(-history, -w)[0]
        heavier = self.run(history, self.others)[0]
        return Answers(
            gradient=tuple(x.tolist()),
            update=tuple(curve),
            rate=rate,
            width=width,
            saturation=self.saturation(after, rate, width),
            coasting=coasting,
            half_life=half_life,
            schedule=_relative(plain.square().mean(1).sqrt()),
            scale_power=self.scale_power(),
            odd=bool(((turned + early).abs() <= 1e3 * near).all()),
            odd_with_weights=bool(((turned_all + early).abs() <= 1e3 * near).all()),
            reads_weights=bool(((heavier - early).abs() > near).any()),
            reads_others=self.reads_others(early, near),
        )

    @torch.no_grad()
    def each(self, state: State, z: float) -> Tensor:
        """Updates when the present gradient of all is z units, [N]."""
        g = torch.full((self.samples,), z * self.unit, dtype=torch.float64)
        with torch.random.fork_rng(devices=[], enabled=self.random):
            if self.random:
                torch.manual_seed(self.seed)
            return self.bound(g, torch.ones_like(g), state)[0].to(torch.float64)

    def at(self, state: State, z: float) -> float:
        """Their mean."""
        return float(self.each(state, z).mean())

    def slope(self, state: State, z: float, width: float) -> float:
        """-du/dg at a present gradient of z units; update per gradient."""
        h = max(abs(z) * WIDTHS[0], width)
        return -(self.at(state, z + h) - self.at(state, z - h)) / (2 * h * self.unit)

    def rate(self, state: State) -> tuple[float, float]:
        """The slope at 0, over the narrowest width over which it is one; 0 if there is no answer, NaN at a jump.

        Flat but for a few histories, it is taken over the widest one: the mean of the most jumps.
        """
        slopes = [self.slope(state, 0.0, width) for width in WIDTHS]
        change = (self.each(state, WIDTHS[0]) - self.each(state, -WIDTHS[0])).abs()
        moves = change > _NONE * WIDTHS[0] * self.each(state, WIDTHS[-1]).abs().mean()
        even = [
            k for k, (here, wider) in enumerate(pairwise(slopes)) if here and abs(here - wider) <= _SAME * abs(wider)
        ]
        if not even:
            return (math.nan if bool(moves.any()) else 0.0), WIDTHS[0]
        chosen = even[0] if 2 * int(moves.sum()) >= self.samples else even[-1]
        return slopes[chosen], WIDTHS[chosen]

    def saturation(self, state: State, rate: float, width: float) -> float:
        if not abs(rate) > 0:
            return math.nan

        def flat(z: float) -> bool:
            return abs(self.slope(state, z, width) + self.slope(state, -z, width)) < abs(rate)

        places = [NEAR * 10 ** (k / A_DECADE) for k in range(DECADES * A_DECADE + 1)]
        places = [z for z in places if z >= width]
        first = next((k for k, z in enumerate(places) if flat(z)), None)
        if first is None:
            return math.inf
        low, high = places[first - 1] if first else 0.0, places[first]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if flat(middle) else (middle, high)
        return high

    def coasting(self) -> tuple[tuple[float, ...], float]:
        steady = torch.full((WARM_UP, self.samples), self.unit, dtype=torch.float64)
        updates = self.run(torch.cat([steady, steady.new_zeros(COASTING, self.samples)]))[0].abs().mean(1)
        last = float(updates[WARM_UP - 1])
        if not 0 < last < math.inf:
            return (), math.nan
        left = (updates[WARM_UP:] / last).tolist()
        return tuple(left), float(next((k for k, value in enumerate(left, 1) if value < 0.5), math.inf))

    def scale_power(self) -> float:
        sizes = []
        for factor in _FACTORS:
            updates = self.run(factor * self.noise[:WARM_UP])[0]
            sizes.append(float(updates[WARM_UP // 2 :].square().mean()))
        if not (min(sizes) > 0 and math.isfinite(max(sizes))):
            return math.nan
        low, high = (math.log10(b / a) / 6 for a, b in pairwise(sizes))
        return (low + high) / 2 if abs(low - high) <= _POWER else math.nan

    def reads_others(self, plain: Tensor, near: float) -> bool:
        """By changing all gradients but every 64th, and looking at these."""
        if self.optimizer.coordinatewise:
            return False
        watched = torch.arange(0, self.samples, _SIDE * _SIDE)
        changed = self.noise + self.other
        changed[:, watched] = self.noise[:, watched]
        updates = self.run(changed[:WARM_UP])[0]
        return bool(((updates - plain)[:, watched].abs() > near).any())


def _relative(sizes: Tensor) -> tuple[float, ...]:
    """To the largest finite one; zeros stay."""
    finite = sizes[torch.isfinite(sizes)]
    top = float(finite.max()) if len(finite) else 0.0
    return tuple((sizes / top if top > 0 else sizes).tolist())
