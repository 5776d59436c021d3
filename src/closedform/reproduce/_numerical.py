"""The paper's evaluation of learned optimizers: loss after 620 steps on the MNIST MLP, and how far it generalises.

The networks are those that ship, as they are; beside them stand hand-designed optimizers whose learning rates are
tuned for each task, by the very quantity that is reported and on other seeds: each once at a constant rate, and once
annealed, with warm-up and cosine to zero.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedform import tasks
from closedform._options import check_count
from closedform._progress import Progress
from closedform.evaluation import (
    BASELINES,
    DEFAULT_BASELINES,
    Baseline,
    Entry,
    Evaluation,
    EvaluationOptions,
    Summary,
    evaluate,
    log_grid,
)
from closedform.reproduce._base import markdown_table, measured_on, save
from closedform.reproduce._shipped import reported, shipped
from closedform.tasks import Task

if TYPE_CHECKING:
    from rich.table import Table

MAIN, UNSEEN = "trained", "unseen"
PAPER_TASK = "mlp-mnist"
COARSE = log_grid(-4, -2, per_decade=2)
"""Adam's learning rates on the unseen tasks: half decades, extended past an edge as ever."""
EXPLODED = 9.0
"""Excess over the best baseline, as a share of its loss, that counts as an explosion: ten times as much."""
HEADER = (
    *("task", "steps", "optimizer", "loss", "95 % interval", "diverged", "against the best baseline"),
    *("paper", "paper's reached", "lr", "tuning runs", "state", "time a step"),
)


@dataclass(frozen=True)
class Part:
    """One half of the table: tasks that are evaluated alike.

    Attributes:
        tasks: Name, and options in place of the task's own.
        baselines: Name -> what is tuned beside the networks.
        seeds: Reporting seeds.
        tuning_seeds: Seeds that a learning rate is tuned on.
        workers: Processes; None is one a core.
    """

    tasks: Sequence[tuple[str, Mapping[str, Any]]]
    baselines: Mapping[str, Baseline]
    seeds: int
    tuning_seeds: int = 3
    workers: int | None = None

    def ready(self, data_dir: str | Path | None) -> list[Task]:
        """The tasks, their data on this machine."""
        return [tasks.get(name, data_dir=data_dir, **options) for name, options in self.tasks]


@dataclass(frozen=True)
class NumericalRow:
    """One optimizer on one task.

    Attributes:
        part: ``trained`` (the problem that the networks were meta-trained for, and its twin) or ``unseen``.
        task, steps: The task, and steps of an episode.
        optimizer, kind: The optimizer; kind is ``learned`` or ``baseline`` (tuned).
        loss: Mean minibatch training loss of the last 20 steps, over seeds.
        against: Mean loss minus that of the best tuned baseline, as a share of the latter; None for that one itself.
        lr, tuning_runs: Learning rate, and runs that were spent on finding it; of a baseline.
        state_cost: Buffers a parameter.
        step_seconds: Median time of the optimizer's own part of a step.
        paper: The paper's means of this kind, by model; on its own task.
        schedule: What multiplied a baseline's learning rate.
    """

    part: str
    task: str
    steps: int
    optimizer: str
    kind: str
    loss: Summary
    against: float | None
    lr: float | None
    tuning_runs: int
    state_cost: float
    step_seconds: float | None
    paper: Mapping[str, float] = field(default_factory=dict)
    schedule: str = "constant"

    @property
    def reached(self) -> bool | None:
        """Whether the loss is at most each of the paper's; None if the paper has none."""
        if not self.paper:
            return None
        return not self.loss.diverged and self.loss.mean is not None and self.loss.mean <= min(self.paper.values())

    @property
    def cells(self) -> list[str]:
        """As text, in the order of `HEADER`."""
        loss, seconds = self.loss, self.step_seconds
        interval = "" if loss.low is None or loss.high is None else f"{loss.low:.4f} to {loss.high:.4f}"
        return [
            *(self.task, str(self.steps), self.optimizer),
            *("" if loss.mean is None else f"{loss.mean:.4f}", interval, f"{loss.diverged}/{loss.count}"),
            "" if self.against is None else f"{self.against:+.0%}",
            ", ".join(f"{name} {value:g}" for name, value in self.paper.items()),
            {None: "", True: "yes", False: "no"}[self.reached],
            *("" if self.lr is None else f"{self.lr:g}", str(self.tuning_runs or ""), f"{self.state_cost:g}"),
            "" if seconds is None else f"{1e3 * seconds:.2f} ms",
        ]


@dataclass(frozen=True)
class NumericalResult:
    """The table.

    Attributes:
        rows: Its rows; on each task the best first.
        seeds, unseen_seeds: Reporting seeds of both parts.
        seconds: Wall-clock time of all.
        measured: On what, in words.
    """

    rows: tuple[NumericalRow, ...]
    seeds: int
    unseen_seeds: int
    seconds: float
    measured: str

    def table(self) -> Table:
        """For printing with rich."""
        from rich.table import Table

        table = Table(*HEADER)
        for part in (MAIN, UNSEEN):
            for row in self.of(part):
                table.add_row(*row.cells)
            table.add_section()
        return table

    def of(self, part: str) -> Iterator[NumericalRow]:
        """The rows of ``trained`` or of ``unseen``."""
        return (row for row in self.rows if row.part == part)

    def winners(self) -> str:
        """Who ends lowest on each task, and how often networks do, against constant and against annealed baselines."""
        places = dict.fromkeys((row.part, row.task, row.steps) for row in self.rows)
        told, wins = [], {"all": 0, "constant": 0}
        for place in places:
            here = [row for row in self.rows if (row.part, row.task, row.steps) == place]
            best = min(here, key=lambda row: row.loss.rank)
            told.append(f"{best.task} ({best.steps} steps): {best.optimizer}")
            wins["all"] += best.kind == "learned"
            unannealed = [row for row in here if row.kind == "learned" or row.schedule == "constant"]
            wins["constant"] += min(unannealed, key=lambda row: row.loss.rank).kind == "learned"
        return (
            f"Who ends lowest: {'; '.join(told)}. A network does on {wins['all']} of {len(places)} tasks; on "
            f"{wins['constant']} if baselines are held to constant learning rates."
        )

    def to_markdown(self) -> str:
        """A document with how it was measured."""
        learned = [row for row in self.rows if row.kind == "learned"]
        known = [row for row in learned if row.reached is not None]
        reached = [row.optimizer for row in known if row.reached]
        ahead = sum(row.against is not None and row.against < 0 and not row.loss.diverged for row in learned)
        diverged, runs = sum(row.loss.diverged for row in learned), sum(row.loss.count for row in learned)
        exploded = sum(row.against is not None and row.against > EXPLODED for row in learned)
        main, unseen = (markdown_table(HEADER, [row.cells for row in self.of(part)]) for part in (MAIN, UNSEEN))
        return f"""# Numerical learned optimizers against tuned hand-designed ones

`closedform reproduce numerical`; {self.measured}; {self.seconds / 60:.1f} minutes.

{self.winners()}

Loss: mean minibatch training loss of an episode's last 20 steps, on the half of the data that meta-training does not
see; mean over seeds with its bootstrap 95 % interval. Networks: the weights that ship, with nothing tuned. Baselines:
the learning rate tuned for each task on other seeds, by the same loss; the runs that this took are counted. Each takes
part at a constant rate, and with 5 % warm-up and cosine to zero. The best baseline of a task is picked by the numbers
shown, which favours the baselines.

Networks at most at each of the paper's losses on {PAPER_TASK}: {", ".join(reached) or "none"} (of {len(known)}).
Networks ahead of the best tuned baseline: in {ahead} of {len(learned)} rows. Rows where a network
ends above ten times that baseline's loss: {exploded}. Episodes of networks that were no longer finite:
{diverged} of {runs}.

## The paper's problem, and Fashion-MNIST ({self.seeds} seeds)

{main}

## Tasks that the networks have not seen ({self.unseen_seeds} seeds; Adam tuned on half decades)

{unseen}
"""

    def to_json(self) -> str:
        """The numbers, for machines."""
        rows = [{**asdict(row), "reached": row.reached} for row in self.rows]
        return json.dumps({**asdict(replace(self, rows=())), "rows": rows}, indent=2, ensure_ascii=False) + "\n"


def numerical(
    seeds: int = 10,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    data_dir: str | Path | None = None,
    quick: bool = False,
    networks: Sequence[str] | None = None,
) -> NumericalResult:
    """Evaluate the networks that ship beside tuned hand-designed optimizers.

    Args:
        seeds: Reporting seeds on the paper's problem; the unseen tasks have 3 at most.
        out: Folder to write ``reproduce_numerical.md`` and ``.json`` to; finished runs are kept in its folder
            ``numerical`` too, so that an interrupted reproduction goes on where it stopped.
        progress: Called after every run.
        data_dir: Folder of the data files.
        quick: Small tasks and short episodes, 2 seeds, one baseline.
        networks: Names of those to evaluate; None: all that ship.

    Raises:
        OptionError: ``seeds`` is not a whole number of at least 1, or no weights ship.
        DataError: a task's data are missing; the message says how to get them.
        UnknownNameError: no weights ship under a name.
    """
    check_count("seeds", seeds)
    begin, chosen, parts = time.monotonic(), shipped(networks), _quick_parts() if quick else _parts(seeds)
    ready = {name: part.ready(data_dir) for name, part in parts.items()}  # before anything is run
    rows: list[NumericalRow] = []
    for name, part in parts.items():
        evaluation = evaluate(
            {**chosen, **part.baselines},
            ready[name],
            seeds=part.seeds,
            baselines=(),
            config=EvaluationOptions(tuning_seeds=part.tuning_seeds, workers=part.workers),
            out=Path(out) / "numerical" / name if out is not None else None,
            progress=progress,
        )
        rows += [_row(name, entry) for entry in _ordered(evaluation)]
    counts = (parts[MAIN].seeds, parts[UNSEEN].seeds)
    result = NumericalResult(tuple(rows), *counts, time.monotonic() - begin, measured_on())
    if out is not None:
        save(result, Path(out), "numerical")
    return result


def _parts(seeds: int) -> dict[str, Part]:
    same = [(name, {"horizon": 620}) for name in (PAPER_TASK, "mlp-fashion-mnist")]
    other: list[tuple[str, Mapping[str, Any]]] = [
        ("mlp-deep-mnist", {}),
        ("conv-digits", {}),
        (PAPER_TASK, {"horizon": 3100}),
        ("mlp-mnist1d", {}),
        ("transformer-python", {"width": 32, "window": 32, "batch_size": 16, "horizon": 300}),
    ]
    return {
        MAIN: Part(same, _annealed_too({name: BASELINES[name] for name in DEFAULT_BASELINES}), seeds),
        UNSEEN: Part(
            other, _annealed_too({"adam": replace(BASELINES["adam"], lrs=COARSE)}), min(seeds, 3), tuning_seeds=2
        ),
    }


def _quick_parts() -> dict[str, Part]:
    baselines = _annealed_too({"adam": replace(BASELINES["adam"], lrs=(1e-3, 1e-2, 1e-1))})
    return {
        name: Part([(task, {"horizon": steps})], baselines, seeds=2, tuning_seeds=1, workers=1)
        for name, task, steps in ((MAIN, "mlp-digits", 60), (UNSEEN, "conv-digits", 10))
    }


def _annealed_too(baselines: Mapping[str, Baseline]) -> dict[str, Baseline]:
    """Every baseline at constant rates, and once more with cosine."""
    found = dict(baselines)
    for name, baseline in baselines.items():
        found[f"{name}-cosine"] = replace(baseline, label=f"{baseline.label}, cosine", schedules=("cosine",))
    return found


def _ordered(evaluation: Evaluation) -> Iterator[Entry]:
    for task in evaluation.tasks:
        yield from sorted(evaluation.on(task), key=lambda entry: entry.final_loss.rank)


def _row(part: str, entry: Entry) -> NumericalRow:
    own = part == MAIN and entry.task == PAPER_TASK
    return NumericalRow(
        part=part,
        task=entry.task,
        steps=entry.steps,
        optimizer=entry.label,
        kind=entry.kind,
        loss=entry.final_loss,
        against=entry.difference.relative if entry.difference else None,
        lr=entry.lr,
        tuning_runs=entry.tuning.runs if entry.tuning else 0,
        state_cost=entry.state_cost,
        step_seconds=entry.step_seconds,
        schedule=entry.schedule,
        paper={name: mean for name, (mean, _) in reported(entry.name).losses.items()} if own else {},
    )
