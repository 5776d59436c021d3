"""celo: a small network says which way each parameter goes, and a formula how far.

    d = f(features) - f(-features), an MLP;  u = -schedule(progress, T) * size(w) * d / rms(d)

The features are the gradient, three momenta, those over the root of a second moment, and over the root of what rows
and columns say together; each is divided by its root mean square over the parameter tensor. So nothing depends on the
scale of the loss, nor on that of a parameter tensor: size(w) is rms(w) there. A tensor that starts at zero has no size
to go by, and takes a meta-trained one over sqrt(fan_in), until it has grown past it.

Beside the features that turn with the gradient the network sees three that do not (the logarithms of the second moment
and of its means over rows and columns, relative to the tensor's mean) and how far the episode is; the difference makes
the whole odd in the gradient. It starts as Nesterov's Adam with a schedule, since the MLP's last layer starts at zero.

Source: Moudgil et al. 2026, Celo2 (arXiv 2602.19142), its base network; schedule and size learned as in Celo (arXiv
2501.12670), but a formula of six numbers instead of an LSTM. Not theirs: oddness, and logarithms of second moments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from closedform._options import check_positive
from closedform.lang import matrix_shape
from closedform.learned_optimizers._base import (
    TOTAL,
    LearnedOptimizer,
    Sizes,
    State,
    UpdateFunction,
    lengths,
    total_state,
)

WIDTH = 8
DECAYS = (0.9, 0.99, 0.999)
"""Of the momenta."""
SECOND, FACTORED = 0.95, 0.99
"""Decays of the second moment, and of its means over rows and columns."""
_FIRST = ("g", "mom9", "mom99", "mom999")
SEEN = (*_FIRST, *(f"{name}_v95" for name in _FIRST), *(f"{name}_factored" for name in _FIRST[:3]))
"""Names of the features that turn with the gradient: the gradient and the momenta, those over the root of the second
moment, and over the root of what rows and columns say together."""
ODD, EVEN, TIMES = len(SEEN), 3, 2
"""Rows that turn with the gradient, that do not, and that are the same for all parameters."""
UNIT = 10.0
"""Units of ``schedule`` in one: a perturbation of 0.01 changes what it says by a tenth."""
START = {
    "peak": math.log(0.03),
    "warmup": math.log(0.05),
    "power": 0.0,
    "horizon": 0.0,
    "matrix": math.log(0.5),
    "vector": math.log(0.2),
}
"""Where ``schedule`` starts: logarithms of the largest relative step at T = 1000, of the share of warm-up and of the
decay's power; how the step falls with the horizon (0: as its fourth root); logarithms of the sizes of matrices, times
1/sqrt(fan_in), and of vectors that start at zero."""
_TINY = 1e-20


class Celo(LearnedOptimizer):
    """celo.

    The state holds the step ``t``, the horizon ``T``, ``momenta`` [3, N], ``second`` [N]; for the i-th parameter tensor
    ``row{i}`` [rows, 1] and ``column{i}`` [1, columns], the latter not for a vector, which is one column; and
    ``unsized`` [P], 1 for each parameter tensor that started at zero. ``state_cost`` is that of vectors; matrices keep
    next to nothing for the last.

    Args:
        name: Its name in the family.
        generator: Draws the initial weights.
        scale: What all steps are multiplied by.

    Raises:
        OptionError: the scale is not a positive number.
    """

    source = "Moudgil et al. 2026, Celo2 (arXiv 2602.19142), made odd, with a schedule of its own"
    features = ("g", "mom9", "mom99", "mom999", "g_v95", "mom9_v95", "mom99_v95", "mom999_v95")
    coordinatewise = False
    needs_total_steps = True
    state_cost = 5

    def __init__(self, name: str, generator: torch.Generator | None = None, scale: float = 1.0) -> None:
        super().__init__()
        check_positive("scale", scale)
        self.name = name
        self.scale = scale
        self.skip = nn.Parameter(torch.zeros(1, ODD))
        with torch.no_grad():
            self.skip[0, 4], self.skip[0, 5] = 0.2, 0.8  # g and the shortest momentum, over the root
        self.odd_weight = _normal(WIDTH, ODD, ODD + EVEN, generator)
        self.even_weight = _normal(WIDTH, EVEN, ODD + EVEN, generator)
        self.time_weight = nn.Parameter(torch.zeros(WIDTH, TIMES))
        self.input_bias = nn.Parameter(torch.zeros(WIDTH, 1))
        self.hidden_weight = _normal(WIDTH, WIDTH, WIDTH, generator)
        self.hidden_bias = nn.Parameter(torch.zeros(WIDTH, 1))
        self.output_weight = nn.Parameter(torch.zeros(1, WIDTH))
        self.schedule = nn.Parameter(torch.zeros(len(START)))

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        shapes = [(size,) if isinstance(size, int) else tuple(size) for size in sizes or (w.numel(),)]
        unsized = [float(not part.any()) for part in w.split(lengths(w, sizes))]
        state: State = {
            "t": torch.zeros((), dtype=torch.float64),
            **total_state(self, total_steps),
            "momenta": w.new_zeros(len(DECAYS), w.numel()),
            "second": torch.zeros_like(w),
            "unsized": w.new_tensor(unsized),
        }
        for index, shape in enumerate(shapes):
            rows, columns = matrix_shape(shape)
            state[f"row{index}"] = w.new_zeros(rows, 1)
            if columns > 1:
                state[f"column{index}"] = w.new_zeros(1, columns)
        return state

    def bind(self) -> UpdateFunction:
        return self._bound(dict(self.named_parameters()))

    def bind_stacked(self, parameters: Mapping[str, Tensor]) -> UpdateFunction:
        count = len(next(iter(parameters.values())))
        own = {name: value.expand(count, *value.shape) for name, value in self.named_parameters()}
        return self._bound({**own, **parameters})

    def _bound(self, weights: Mapping[str, Tensor]) -> UpdateFunction:
        """The update for these weights; those, g, w and all of a state may have an axis in front, [K, ...]."""

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            new, _, direction, sizes = _look(weights, g, state)
            progress = _progress(new, g)
            length = self._length(weights["schedule"], progress, new[TOTAL].to(g))[..., None]
            size = _sizes_of_w(w, sizes, new, weights["schedule"])
            factor = self.scale * length * size / _rms(direction, sizes)
            return -direction * _spread(factor, sizes), new

        return update

    def _length(self, schedule: Tensor, progress: Tensor, total: Tensor) -> Tensor:
        """The relative step, [...]: it rises over the share of warm-up and falls as a power of what is left."""
        value = dict(zip(START, (UNIT * schedule).unbind(-1), strict=True))
        warm = progress * torch.exp(-value["warmup"] - START["warmup"])
        left = (1 - progress).clamp(min=1e-6)
        falling = left ** torch.exp(value["power"] + START["power"])
        horizon = (total / 1000) ** -(0.25 + 0.1 * (value["horizon"] + START["horizon"]))
        return torch.exp(value["peak"] + START["peak"]) * horizon * warm.clamp(max=1) * falling

    @torch.no_grad()
    def look(self, g: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """What the network sees and says at a step, for distilling it: ``update`` without schedule and size.

        Args:
            g: The gradient, [N].
            state: As ``update`` is given it.

        Returns:
            The features `SEEN`, [11, N], and the direction d, [N], both of root mean square 1 over each parameter
            tensor, or 0; the update is a negative multiple of d in each.
        """
        _, odd, direction, sizes = _look(dict(self.named_parameters()), g, state)
        return odd, direction / _spread(_rms(direction, sizes), sizes)

    def numbers(self) -> dict[str, float]:
        """The schedule as it is meta-trained, by the names in `START`; the logarithms among them undone.

        So ``length = peak (T/1000)^-horizon min(progress/warmup, 1) (1 - progress)^power``.
        """
        value = {name: UNIT * part + START[name] for name, part in zip(START, self.schedule.tolist(), strict=True)}
        horizon = 0.25 + 0.1 * value.pop("horizon")
        return {**{name: math.exp(part) for name, part in value.items()}, "horizon": horizon}

    def describe(self) -> dict[str, Any]:
        own = {} if self.scale == 1 else {"scale": self.scale}
        return {"name": self.name, **own}


def _look(weights: Mapping[str, Tensor], g: Tensor, state: State) -> tuple[State, Tensor, Tensor, list[int]]:
    """The new state, odd features of root mean square 1, the direction, and the lengths of tensors."""
    new = {**state, "t": state["t"] + 1}
    odd, even, sizes = _features(g, state, new)
    odd = odd / _spread(_rms(odd, sizes), sizes)
    return new, odd, _direction(weights, odd, even, _progress(new, g)), sizes


def _progress(state: State, like: Tensor) -> Tensor:
    return (state["t"] / state[TOTAL]).clamp(max=1).to(like)


def _features(g: Tensor, state: State, new: State) -> tuple[Tensor, Tensor, list[int]]:
    """Odd features [..., 11, N] and even ones [..., 3, N], and the lengths of tensors; averages go into ``new``."""
    square = g.square()
    decay = g.new_tensor(DECAYS)[:, None]
    momenta = new["momenta"] = torch.lerp(g[..., None, :], state["momenta"], decay)
    second = new["second"] = torch.lerp(square, state["second"], SECOND)
    rows: list[Tensor] = []
    columns: list[Tensor] = []
    sizes: list[int] = []
    for index, (height, width) in enumerate(_matrices(state)):
        sizes.append(height * width)
        start = sum(sizes[:-1])
        own = square[..., start : start + sizes[-1]].unflatten(-1, (height, width))
        row = new[f"row{index}"] = torch.lerp(own.mean(-1, keepdim=True), state[f"row{index}"], FACTORED)
        mean = row.mean(-2, keepdim=True)
        column = mean
        if width > 1:
            column = torch.lerp(own.mean(-2, keepdim=True), state[f"column{index}"], FACTORED)
            new[f"column{index}"] = column
        for place, value in ((rows, row), (columns, column)):
            place.append((value / (mean + _TINY**2)).expand_as(own).flatten(-2))
    row, column = torch.cat(rows, -1), torch.cat(columns, -1)
    root = second.sqrt()
    typical = _spread(_rms(root[..., None, :], sizes), sizes)[..., 0, :]
    over = 1 / (root + 1e-8 * typical + _TINY)
    factored = (row * column + 1e-8).rsqrt()
    first = torch.cat([g[..., None, :], momenta], -2)
    odd = torch.cat([first, first * over[..., None, :], first[..., :3, :] * factored[..., None, :]], -2)
    even = torch.stack([root / (typical + _TINY), row.sqrt(), column.sqrt()], -2)
    return odd, 0.5 * (even + 0.01).log(), sizes


def _direction(weights: Mapping[str, Tensor], odd: Tensor, even: Tensor, progress: Tensor) -> Tensor:
    """The network's output for the gradient minus that for its opposite, [..., 1, N]."""
    times = torch.stack([progress, progress.square()], -1)[..., None]
    turning = weights["odd_weight"] @ odd
    steady = weights["even_weight"] @ even + (weights["input_bias"] + weights["time_weight"] @ times)
    hidden = torch.cat([(steady + turning).relu(), (steady - turning).relu()], -1)
    hidden = (weights["hidden_weight"] @ hidden + weights["hidden_bias"]).relu()
    ahead, behind = (weights["output_weight"] @ hidden).chunk(2, -1)
    return (weights["skip"] @ odd + ahead - behind)[..., 0, :]


def _sizes_of_w(w: Tensor, sizes: list[int], state: State, schedule: Tensor) -> Tensor:
    """size(w) of each parameter tensor, [..., P]."""
    fans = w.new_tensor([width for _, width in _matrices(state)])
    value = dict(zip(START, (UNIT * schedule).unbind(-1), strict=True))
    matrix, vector = (torch.exp(value[name] + START[name])[..., None] for name in ("matrix", "vector"))
    floor = torch.where(fans > 1, matrix * fans.rsqrt(), vector)
    return torch.maximum(_rms(w, sizes), state["unsized"] * floor)


def _matrices(state: State) -> Iterator[tuple[int, int]]:
    """Rows and columns of the parameter tensors, in order."""
    index = 0
    while f"row{index}" in state:
        column = state.get(f"column{index}")
        yield state[f"row{index}"].shape[-2], 1 if column is None else column.shape[-1]
        index += 1


def _rms(x: Tensor, sizes: list[int]) -> Tensor:
    """The root mean square over each parameter tensor, [..., P] of [..., N]."""
    parts = x.split(sizes, -1)
    return torch.stack([part.square().mean(-1) for part in parts], -1).sqrt() + _TINY


def _spread(value: Tensor, sizes: list[int]) -> Tensor:
    """A number a parameter tensor given to all of its elements: [..., P] -> [..., N]."""
    return value.repeat_interleave(torch.tensor(sizes, device=value.device), -1, output_size=sum(sizes))


def _normal(rows: int, columns: int, inputs: int, generator: torch.Generator | None) -> nn.Parameter:
    """Weights from N(0, 1/inputs)."""
    return nn.Parameter(torch.randn(rows, columns, generator=generator) / math.sqrt(inputs))
