"""What an optimizer answers to made-up gradients: present ones, none, scaled and turned ones; and over an episode."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.analysis._replay import replayed
from closedform.learned_optimizers import LearnedOptimizer, State, fresh_state

WARM_UP, COASTING, EPISODE = 100, 100, 200
"""Steps of noise before an answer is looked at; without gradients; of an episode."""
_NEAR, _DECADES, _A_DECADE = 0.01, 5, 20
"""Where saturation is looked for, in units: from where, over how many decades, at how many places in each."""
_H = 1e-3
_SIDE = 8


@dataclass(frozen=True)
class Answers:
    """An optimizer under made-up gradients; those of noise are normal, their deviation the unit.

    Attributes:
        gradient: The present gradient in units, after a history of noise.
        update: Mean update for it.
        rate: -slope of that at 0: the effective learning rate.
        saturation: |gradient| in units from which the slope is less than half of that; infinite if it never is.
        coasting: |update| over steps without gradients after steady ones, relative to the last one before.
        half_life: Steps until that is below a half; infinite if it never is.
        schedule: Root mean square of the update over an episode of noise, relative to its largest.
        scale_power: p, if the update grows as the gradient's unit to the power p, from 1/1000 to 1000 times the unit.
        odd: Whether the update changes sign with the gradients.
        reads_weights: Whether it depends on the parameters.
        reads_others: Whether it depends on other coordinates of the tensor.
    """

    gradient: tuple[float, ...]
    update: tuple[float, ...]
    rate: float
    saturation: float
    coasting: tuple[float, ...]
    half_life: float
    schedule: tuple[float, ...]
    scale_power: float
    odd: bool
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

    def begin(self) -> tuple[Tensor, State]:
        """Weights of 1, and the state before step 1 of an episode."""
        w = torch.ones(self.samples, dtype=torch.float64)
        side = _SIDE * _SIDE
        sizes = None if self.optimizer.coordinatewise else [(_SIDE, _SIDE)] * (self.samples // side)
        return w, fresh_state(self.optimizer, w, sizes, EPISODE)

    def run(self, gradients: Tensor, weight: float = 1.0) -> tuple[Tensor, State]:
        """Updates [T, N], and the state after them."""
        w, state = self.begin()
        found, state = replayed(self.bound, state, gradients, (weight * w).expand_as(gradients))
        return found.to(torch.float64), state

    def answers(self) -> Answers:
        plain, history = self.run(self.noise)[0], self.noise[:WARM_UP]
        after = self.run(history)[1]
        x = torch.linspace(-4, 4, 33, dtype=torch.float64)
        curve = [self.at(after, float(z)) for z in x]
        rate = self.slope(after, 0.0)
        size = plain.square().mean(1).sqrt()
        coasting, half_life = self.coasting()
        turned = self.run(-history)[0]
        heavier = self.run(history, weight=2.0)[0]
        unit = float(plain[:WARM_UP].square().mean().sqrt())
        near = 1e-9 * unit
        return Answers(
            gradient=tuple(x.tolist()),
            update=tuple(curve),
            rate=rate,
            saturation=self.saturation(after, rate),
            coasting=coasting,
            half_life=half_life,
            schedule=tuple((size / size.max()).tolist()),
            scale_power=self.scale_power(),
            odd=bool(((turned + plain[:WARM_UP]).abs() <= 1e-6 * unit).all()),
            reads_weights=bool(((heavier - plain[:WARM_UP]).abs() > near).any()),
            reads_others=self.reads_others(plain[:WARM_UP], near),
        )

    @torch.no_grad()
    def at(self, state: State, z: float) -> float:
        """Mean update when the present gradient of all is z units."""
        g = torch.full((self.samples,), z * self.unit, dtype=torch.float64)
        return float(self.bound(g, torch.ones_like(g), state)[0].mean())

    def slope(self, state: State, z: float) -> float:
        """-du/dg at a present gradient of z units; update per gradient."""
        h = _H * max(abs(z), 1.0)
        return -(self.at(state, z + h) - self.at(state, z - h)) / (2 * h * self.unit)

    def saturation(self, state: State, rate: float) -> float:
        if not abs(rate) > 0:
            return math.nan
        for exponent in range(_DECADES * _A_DECADE + 1):
            z = _NEAR * 10 ** (exponent / _A_DECADE)
            if abs(self.slope(state, z)) < abs(rate) / 2:
                return z
        return math.inf

    def coasting(self) -> tuple[tuple[float, ...], float]:
        steady = torch.full((WARM_UP, self.samples), self.unit, dtype=torch.float64)
        updates = self.run(torch.cat([steady, steady.new_zeros(COASTING, self.samples)]))[0].abs().mean(1)
        last = float(updates[WARM_UP - 1])
        if not last > 0:
            return (), 0.0
        left = (updates[WARM_UP:] / last).tolist()
        return tuple(left), float(next((k for k, value in enumerate(left) if value < 0.5), math.inf))

    def scale_power(self) -> float:
        sizes = []
        for factor in (1e-3, 1e3):
            updates = self.run(factor * self.noise[:WARM_UP])[0]
            sizes.append(float(updates[WARM_UP // 2 :].square().mean()))
        return math.log10(sizes[1] / sizes[0]) / 12 if min(sizes) > 0 and math.isfinite(max(sizes)) else math.nan

    def reads_others(self, plain: Tensor, near: float) -> bool:
        """By changing all gradients but every 64th, and looking at these."""
        if self.optimizer.coordinatewise:
            return False
        watched = torch.arange(0, self.samples, _SIDE * _SIDE)
        changed = self.noise + self.other
        changed[:, watched] = self.noise[:, watched]
        updates = self.run(changed[:WARM_UP])[0]
        return bool(((updates - plain)[:, watched].abs() > near).any())
