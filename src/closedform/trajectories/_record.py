"""Record an optimizer at work: what it read, over a window of steps, and the update it printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_seed, with_options
from closedform._progress import Progress
from closedform._version import __version__
from closedform.errors import DivergenceError, OptionError
from closedform.lang import Program
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, load_optimizer
from closedform.rules import Rule
from closedform.tasks import Task, as_tasks
from closedform.trajectories._columns import column_source, lagged, own_signals, run_source, window_columns
from closedform.trajectories._sampling import draw_cells, draw_coordinates
from closedform.trajectories._trajectories import Trajectories
from closedform.unroll import Problem, begin, steps

MOST_COORDINATES = 10**6
"""Parameters that an episode may follow."""


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    Attributes:
        steps: Length of an episode.
        episodes: Episodes of each task, from different starting points.
        coordinates: Parameters of the optimizee that are followed in an episode; of every tensor as many. Where these
            are all of them, optimizers that look at whole tensors can be distilled.
        window: Steps that the columns look back.
        samples: Rows to keep.
        features: Names of the signals to record; for a rule also its own states and named values. None: the learned
            optimizer's input features; for a rule the gradient, its states and its named values.
        split: The tasks' data to train the optimizees on.
        seed: Draws starting points, batches, coordinates and rows.

    Raises:
        OptionError: a count is not a whole number in its range.
    """

    steps: int = 300
    episodes: int = 8
    coordinates: int = 96
    window: int = 0
    samples: int = 10_000
    features: Sequence[str] | None = None
    split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "steps": 100_000,
            "episodes": 10_000,
            "coordinates": MOST_COORDINATES,
            "samples": 10**8,
            "window": 256,
        }
        for name, most in ranges.items():
            check_count(name, getattr(self, name), 0 if name == "window" else 1, most)
        check_seed("seed", self.seed)


def record(
    optimizer: LearnedOptimizer | Rule | Callable[..., torch.optim.Optimizer] | str,
    tasks: Task | str | Sequence[Task | str],
    config: RecordConfig | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Trajectories:
    """Run an optimizer on tasks and keep what it saw and did.

    Args:
        optimizer: A learned optimizer, a rule, the name of a library rule or of a network that ships, or any
            `torch.optim.Optimizer`: ``module:Class``, the class, or a function that makes one of a list of parameters.
        tasks: One task or several, or their names.
        config: What to record.
        progress: Called after every step.
        options: Fields of `RecordConfig` by name, in place of ``config``'s.

    Returns:
        The recording. Cells that are not finite are left out of its rows, and counted in
        ``provenance["nonfinite_cells"]``.

    Raises:
        OptionError: an option makes no sense.
        UnknownNameError: no such rule, task or feature.
        DivergenceError: nothing finite was recorded.
    """
    config = with_options(config or RecordConfig(), options, "option of record")
    learned, program = _resolve(optimizer)
    names = config.features or (own_signals(program) if program else learned.features)
    source = column_source(tuple(names), program)
    problems = [Problem(task, config.split) for task in as_tasks(tasks)]
    if not problems:
        raise OptionError("record needs at least one task")
    return _gather(_Recorder(learned, problems, config, progress), source)


@dataclass
class _Recorder:
    optimizer: LearnedOptimizer
    problems: Sequence[Problem]
    config: RecordConfig
    progress: Progress | None

    def __post_init__(self) -> None:
        sizes = [problem.flat.sizes for problem in self.problems]
        self.first_layers = [sum(map(len, sizes[:index])) for index in range(len(sizes))]
        self.count = min(self.config.coordinates, min(map(sum, sizes)))
        self.total = len(self.problems) * self.config.episodes * self.config.steps
        self.done = 0

    def layers(self) -> list[dict[str, Any]]:
        return [
            {"task": problem.task.name, "name": name, "shape": list(shape)}
            for problem in self.problems
            for name, shape in problem.flat.shapes.items()
        ]

    def episodes(self) -> Iterator[tuple[str, int, Tensor, Tensor, Tensor]]:
        """For each episode: task, seed, coordinates [C], layers [C], and gradient, weight, update as [3, T, C]."""
        for index, problem in enumerate(self.problems):
            for repeat in range(self.config.episodes):
                seed = self.config.seed * 1_000_003 + index * 10_007 + repeat
                generator = torch.Generator().manual_seed(seed)
                chosen, layers = draw_coordinates(problem.flat.sizes, self.count, generator)
                yield (
                    problem.task.name,
                    seed,
                    chosen,
                    layers + self.first_layers[index],
                    self.run(problem, chosen, generator),
                )

    @torch.no_grad()
    def run(self, problem: Problem, chosen: Tensor, generator: torch.Generator) -> Tensor:
        blocks: list[Tensor] = []
        carry = begin(self.optimizer, problem, generator, self.config.steps)
        for step in steps(self.optimizer, problem, carry, self.config.steps):
            seen = (step.before.gradient[chosen], step.before.w[chosen], step.update[chosen])
            blocks.append(torch.stack(seen).cpu())
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total, problem.task.name)
            if not bool(torch.isfinite(step.after.w).all()):
                break
        missing = self.config.steps - len(blocks)
        self.done += missing
        return torch.cat([torch.stack(blocks, dim=1), blocks[0].new_full((3, missing, len(chosen)), torch.nan)], dim=1)


def _gather(recorder: _Recorder, source: Program) -> Trajectories:
    config = recorder.config
    names, seeds, coordinates, layers, blocks = zip(*recorder.episodes(), strict=True)
    gradients, weights, updates = torch.stack(blocks).unbind(dim=1)
    columns = window_columns(source.outputs, config.window)
    signals = run_source(source, gradients, weights)
    finite = torch.isfinite(updates) & torch.isfinite(gradients)
    for column in columns:
        finite &= torch.isfinite(lagged(signals[column.feature], column.lag))
    if not bool(finite.any()):
        raise DivergenceError(f"{recorder.optimizer.name} gave nothing finite to record; use one that does not diverge")
    layer_table = torch.stack(layers)
    generator = torch.Generator().manual_seed(config.seed)
    cells = draw_cells(finite, layer_table, config.samples, generator).unbind(dim=1)
    values = [lagged(signals[column.feature], column.lag)[cells] for column in columns]
    table = torch.stack(coordinates)
    provenance = {
        "optimizer": recorder.optimizer.describe(),
        "tasks": list(dict.fromkeys(names)),
        "config": {**dataclasses.asdict(config), "features": list(source.outputs)},
        "episodes": [{"number": k, "task": name, "seed": seeds[k]} for k, name in enumerate(names)],
        "layers": recorder.layers(),
        "diverged": [k for k, block in enumerate(blocks) if not bool(torch.isfinite(block).all())],
        "nonfinite_cells": int((~finite).sum()),
        "versions": {"closedform": __version__, "torch": torch.__version__},
    }
    return Trajectories(
        columns=columns,
        features=torch.stack(values, dim=1).to(gradients.dtype),
        updates=updates[cells],
        episode=cells[0],
        step=cells[1] + 1,
        coordinate=table[cells[0], cells[2]],
        layer=layer_table[cells[0], cells[2]],
        source=source,
        gradients=gradients.contiguous(),
        weights=weights.contiguous(),
        episode_updates=updates.contiguous(),
        episodes=torch.arange(len(names)),
        episode_coordinates=table,
        episode_layers=layer_table,
        provenance=provenance,
    )


def _resolve(
    optimizer: LearnedOptimizer | Rule | Callable[..., torch.optim.Optimizer] | str,
) -> tuple[LearnedOptimizer, Program | None]:
    optimizer = load_optimizer(optimizer)
    if isinstance(optimizer, LearnedOptimizer):
        rule = optimizer.rule() if isinstance(optimizer, SymbolicOptimizer) else None
        return optimizer, rule.program.live if rule else None
    return SymbolicOptimizer(optimizer), optimizer.program.live
