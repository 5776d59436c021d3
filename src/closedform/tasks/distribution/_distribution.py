"""A distribution of tasks: what meta-training draws its episodes from, so that what it finds holds elsewhere.

    distribution = TaskDistribution(horizon=(50, 1000))
    drawn = distribution.draw(torch.Generator().manual_seed(0))
    drawn.task, drawn.horizon, drawn.describe()
    distribution.repeat(drawn.seed)                       # the same once more

Every draw has a seed of its own, from which all else follows: family, sizes, data, start, scales, horizon.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from closedform._names import lookup
from closedform._options import check_count, check_number, check_positive
from closedform.errors import OptionError
from closedform.tasks._base import Task
from closedform.tasks._sources import IMAGES
from closedform.tasks.distribution._data import present, sources
from closedform.tasks.distribution._draws import Draws
from closedform.tasks.distribution._families import FAMILIES, Family, Ranges
from closedform.tasks.distribution._wrappers import Reparametrised, ScaledStart

_ATTEMPTS = 200
"""Problems drawn for one draw before it is said that none fits the budget."""
SMALL_START = 0.01
"""Standard deviation of the weights at a small start (Zheng et al. 2022)."""


@dataclass(frozen=True)
class DrawnTask:
    """A task with the length of its episodes, and how it was drawn.

    Attributes:
        task: The task; its own ``horizon`` is this one.
        horizon: Steps an episode.
        seed: What ``TaskDistribution.repeat`` takes.
        family: A name in ``FAMILIES``.
        step_cost: About what a step of one optimizee takes, milliseconds of one core; an estimate, not measured.
        chosen: What was drawn, by name; JSON values.
    """

    task: Task
    horizon: int
    seed: int
    family: str
    step_cost: float
    chosen: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Everything but the task, a JSON object."""
        return {
            "seed": self.seed,
            "family": self.family,
            "horizon": self.horizon,
            "step_cost": round(self.step_cost, 4),
            "parameters": self.task.size,
            **self.chosen,
        }


@dataclass(frozen=True)
class TaskDistribution:
    """What tasks are drawn from. Pairs are the ends of log-uniform ranges, both included.

    Attributes:
        families: Names in ``FAMILIES``, all alike likely; one may be named several times. None: all whose data are
            here.
        horizon: Steps an episode.
        budget: Milliseconds of one core, by ``DrawnTask.step_cost``, that an episode of one optimizee may take:
            horizons that would take longer are not drawn, nor problems for which none is left.
        batch_size: Rows a minibatch; of windows of text a quarter.
        width: Units of a hidden layer; Transformers have half as many, convolutions a quarter as many channels.
        depth: Hidden layers of a perceptron.
        gain: Initial weights are multiplied by a number from 1/gain to gain.
        small_start: Share of tasks whose weights start at N(0, 0.01^2) instead, times the gain.
        reparametrise: Share of tasks in which each parameter tensor has a factor of its own (`Reparametrised`). Those
            that start at zero keep 1: nothing that an optimizer sees would tell it their scale.
        reparametrise_all: Share of tasks in which all of them have one factor in common.
        factors: The range of these factors.
        label_noise: Largest share of random labels, in half of the classification tasks; 0 for none.
        data: Names of images (``digits``, ``mnist1d``, ``mnist-14x14``, ``fashion-mnist-14x14``); None: those that are
            on this machine.
        data_dir: As for ``tasks.get``.

    Raises:
        OptionError: there is nothing to draw, a range or share makes no sense, or the budget is too small for the
            longest horizon in every family.
        UnknownNameError: no such family or images; the message suggests the nearest.
    """

    families: tuple[str, ...] | None = None
    horizon: tuple[int, int] = (50, 5000)
    budget: float = 5000.0
    batch_size: tuple[int, int] = (16, 128)
    width: tuple[int, int] = (8, 64)
    depth: tuple[int, int] = (1, 3)
    gain: float = 2.0
    small_start: float = 0.15
    reparametrise: float = 0.4
    reparametrise_all: float = 0.2
    factors: tuple[float, float] = (1e-3, 1e3)
    label_noise: float = 0.3
    data: tuple[str, ...] | None = None
    data_dir: str | Path | None = None
    _ranges: Ranges = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = present(self.data_dir) if self.data is None else tuple(self.data)
        for name in names:
            lookup("images", name, IMAGES)
        images = sources(names, self.data_dir)
        ranges = Ranges(self.batch_size, self.width, self.depth, self.label_noise, images)
        if self.families is None:
            self._set("families", tuple(name for name, family in FAMILIES.items() if _has_data(family, ranges)))
        self._set("families", tuple(self.families or ()))
        self._set("data", names)
        self._set("_ranges", ranges)
        self._check()

    def draw(self, generator: torch.Generator) -> DrawnTask:
        """Draw a task; the generator gives its seed, and nothing else.

        Raises:
            OptionError: none fits the budget.
            DataError: images were named that are not on this machine.
        """
        return self.repeat(int(torch.randint(2**53, (), generator=generator)))

    def repeat(self, seed: int) -> DrawnTask:
        """The task of that seed, always the same on the same data.

        Raises:
            OptionError: none fits the budget.
            DataError: images were named that are not on this machine.
        """
        generator = torch.Generator().manual_seed(seed)
        for _ in range(_ATTEMPTS):
            draws = Draws(generator)
            name = draws.one_of("family", self.families or ())
            task = FAMILIES[name].draw(draws, self._ranges)
            cost = FAMILIES[name].step_cost(task, draws.chosen.get("batch_size", 1))
            if cost * self.horizon[0] <= self.budget:
                return self._finished(task, cost, draws, seed)
        raise OptionError(
            f"a horizon of {self.horizon[0]} steps is beyond the budget of {self.budget:g} ms in each of {_ATTEMPTS} "
            "problems drawn: raise budget, or lower horizon, width or batch_size"
        )

    def tasks(self, count: int, seed: int = 0) -> list[Task]:
        """So many tasks, each with its horizon; always the same for a seed on the same data.

        Raises:
            OptionError: ``count`` is less than 1, or none fits the budget.
            DataError: images were named that are not on this machine.
        """
        check_count("count", count)
        generator = torch.Generator().manual_seed(seed)
        return [self.draw(generator).task for _ in range(count)]

    def one_of_each(self, seed: int = 0) -> list[Task]:
        """A task of each family, as ``tasks`` draws them."""
        generator = torch.Generator().manual_seed(seed)
        names = dict.fromkeys(self.families or ())
        return [dataclasses.replace(self, families=(name,)).draw(generator).task for name in names]

    def larger(self) -> TaskDistribution:
        """Tasks to validate on: two to three times as wide, deeper, longer, in natural units."""
        return dataclasses.replace(
            self,
            horizon=(max(1000, self.horizon[1] // 3), max(3000, self.horizon[1])),
            budget=max(5 * self.budget, 6000.0),
            width=(self.width[1], 5 * self.width[1] // 2),
            depth=(2, self.depth[1] + 2),
            small_start=min(self.small_start, 0.1),
            reparametrise=0.0,
            reparametrise_all=0.0,
        )

    def describe(self) -> dict[str, Any]:
        """All options, a JSON object; the data's folder is left out."""
        fields = [entry.name for entry in dataclasses.fields(self) if entry.name not in ("data_dir", "_ranges")]
        values = {name: getattr(self, name) for name in fields}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _finished(self, task: Task, cost: float, draws: Draws, seed: int) -> DrawnTask:
        """A problem with its start, its units and its horizon."""
        family = draws.chosen.pop("family")
        task.prepare()
        task = ScaledStart(task, draws.number("gain", 1 / self.gain, self.gain), self._std(draws))
        factors = self._factors(task, draws)
        low, high = self.horizon
        horizon = draws.count("horizon", low, min(high, int(self.budget / cost)))
        return DrawnTask(Reparametrised(task, factors, horizon), horizon, seed, family, cost, draws.chosen)

    def _std(self, draws: Draws) -> float | None:
        small = draws.chance(self.small_start)
        draws.chosen["small_start"] = small
        return SMALL_START if small else None

    def _factors(self, task: Task, draws: Draws) -> dict[str, float]:
        """A factor for each parameter tensor that does not start at zero; none where all are 1."""
        kind = draws.one_of(
            "reparametrised",
            ("no", "by tensor", "as a whole"),
            (max(0.0, 1 - self.reparametrise - self.reparametrise_all), self.reparametrise, self.reparametrise_all),
        )
        if kind == "no":
            return {}
        start = task.init(torch.Generator().manual_seed(0))
        moved = [name for name, value in start.items() if bool((value != 0).any())]
        if kind == "as a whole":
            return dict.fromkeys(moved, draws.number("factor", *self.factors))
        scratch = Draws(draws.generator)
        factors = {name: scratch.number(name, *self.factors) for name in moved}
        draws.chosen["factors"] = factors
        return factors

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        if not self.families:
            raise OptionError("a task distribution needs at least one family; leave families out for all of them")
        for name in self.families:
            family = lookup("family of tasks", name, FAMILIES)
            if not _has_data(family, self._ranges):
                raise OptionError(f"family {name!r} needs {family.needs}, and data names none: add 'digits' to data")
        for name in ("horizon", "batch_size", "width", "depth"):
            _check_range(name, getattr(self, name))
            check_count(f"the low end of {name}", getattr(self, name)[0], least=2 if name == "batch_size" else 1)
            check_count(f"the high end of {name}", getattr(self, name)[1])
        _check_range("factors", self.factors)
        for name in ("gain", "budget"):
            check_positive(name, getattr(self, name))
        check_number("gain", self.gain, least=1)
        self._check_shares()
        self._check_budget()

    def _check_shares(self) -> None:
        for name in ("small_start", "reparametrise", "reparametrise_all", "label_noise"):
            check_number(name, getattr(self, name), least=0)
            if getattr(self, name) > 1:
                raise OptionError(f"{name} is a share, from 0 to 1, not {getattr(self, name)!r}")
        if self.reparametrise + self.reparametrise_all > 1:
            raise OptionError("reparametrise and reparametrise_all are shares of one whole: together at most 1")

    def _check_budget(self) -> None:
        most = self.budget / min(FAMILIES[name].overhead for name in self.families or ())
        if self.horizon[1] > most:
            raise OptionError(
                f"a horizon of {self.horizon[1]} steps is beyond the budget of {self.budget:g} ms, which lasts for "
                f"{int(most)} steps at most: raise budget, or end horizon there"
            )


def _has_data(family: Family, ranges: Ranges) -> bool:
    return {"": True, "images": bool(ranges.images), "square images": bool(ranges.square())}[family.needs]


def _check_range(name: str, pair: Sequence[float]) -> None:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise OptionError(f"{name} must be a pair, its low and its high end, not {pair!r}")
    for value in pair:
        check_positive(f"an end of {name}", value)
    if pair[0] > pair[1]:
        raise OptionError(f"{name} must be a low and a high end, in this order, not {pair!r}")
