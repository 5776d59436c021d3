"""Tune a rule's constants on one task by races of whole training runs, on as many workers as there are.

CMA-ES (Hansen 2016, arXiv 1604.00772) draws a generation of candidates. All run to the end of a short horizon, the
better part of them to the end of a longer one, and so on up to the whole horizon: successive halving (Jamieson and
Talwalkar 2016, Non-stochastic Best Arm Identification and Hyperparameter Optimization). Each run is complete, with its
own number of steps, so that a rule that decays over its run is judged after it has decayed, which the beginning of a
longer run would not show. CMA-ES needs ranks alone: who went further ranks before those who did not.

Candidates of a generation start alike and see the same batches. What is kept is chosen in **finals** over seeds that
nothing was chosen on before: the rule given, the search's mean, and the best candidate.

A race is the same on any number of workers, but for candidates that are lost with theirs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedform._files import finite
from closedform._options import check_count, check_positive, check_seed, with_options
from closedform._progress import OnRecord, Progress, shown
from closedform.errors import DivergenceError, OptionError
from closedform.learned_optimizers import SymbolicOptimizer, lift_literals
from closedform.meta_training._constants_search import constants_of, constants_search, rule_at
from closedform.meta_training._memory import check_memory
from closedform.meta_training.racing._candidate import REFUSED, run_candidate
from closedform.meta_training.racing._race_file import (
    CANDIDATES_FILE,
    DONE,
    FAILED,
    LOST,
    Candidate,
    CandidateLog,
    Place,
)
from closedform.meta_training.racing._workers import Workers, check_workers, open_workers, versions
from closedform.rules import Rule, save_rule
from closedform.tasks import Task

RULE_FILE = "rule.json"
_FREE = ("workers", "time_limit")
"""Options that a resumed race may change: they do not change what it computes."""
_FINALISTS = ("the rule given", "the search's mean", "the best candidate")


@dataclass(frozen=True)
class RaceConfig:
    """How to race.

    Attributes:
        generations: Generations of CMA-ES.
        population: Candidates a generation.
        rungs: Horizons that a generation is run over, the last of which is the whole one.
        factor: From rung to rung, horizons grow by it and candidates become fewer by it.
        steps: The whole horizon, in steps; None: the task's.
        sigma: Initial standard deviation of the search, in coordinates of the constants (0.3 moves a learning rate by
            a third, and a decay's logit by 0.3).
        finals: Seeds of the finals.
        seed: Draws candidates, starts and batches.
        workers: Processes, or a cluster: ``"ray"`` (begun here), ``"ray://HOST:PORT"``, ``"dask://HOST:PORT"``.
        threads: Torch threads of every run.
        time_limit: Begin no generation after so many seconds of this process; None: never stop early.
    """

    generations: int = 10
    population: int = 12
    rungs: int = 3
    factor: int = 3
    steps: int | None = None
    sigma: float = 0.3
    finals: int = 3
    seed: int = 0
    workers: int | str = 1
    threads: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        least = {"generations": 1, "population": 4, "rungs": 1, "factor": 2, "finals": 1, "threads": 1}
        for name, smallest in least.items():
            check_count(name, getattr(self, name), smallest)
        if self.steps is not None:
            check_count("steps", self.steps)
        check_positive("sigma", self.sigma)
        check_seed("seed", self.seed)
        check_workers(self.workers)
        if self.time_limit is not None:
            check_positive("time_limit", self.time_limit)

    def ladder(self, horizon: int) -> list[tuple[int, int]]:
        """Steps and candidates of every rung, the shortest first."""
        counts = [math.ceil(self.population / self.factor**rung) for rung in range(self.rungs)]
        steps = [max(1, round(horizon / self.factor ** (self.rungs - 1 - rung))) for rung in range(self.rungs)]
        return list(zip(steps, counts, strict=True))


def race(
    rule: Rule,
    task: Task,
    *,
    trainable: Sequence[str] | None = None,
    config: RaceConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    **options: Any,
) -> Rule:
    """Tune a rule's constants on one task by races of whole training runs, on the task's split ``train`` alone.

    Args:
        rule: Where the search starts; numbers written in its update become constants first (``lift_literals``).
        task: What is trained.
        trainable: Names of the constants to tune, ``"lr"`` among them if wanted; None: all but floors such as eps.
        config: All other options.
        out: Folder for ``candidates.jsonl`` (every candidate as it ends) and ``rule.json``.
        resume: Go on from ``candidates.jsonl`` in ``out``: no candidate that has ended runs again, but for those that
            were lost with their worker and that nothing was built on yet.
        progress: Called after every candidate.
        on_record: Called after every generation with its record, and ``seconds``.
        options: Fields of `RaceConfig` by name, in place of ``config``'s.

    Returns:
        The tuned rule. Its provenance says, under ``race``, on what, how, from which constants, and the finals' losses.

    Raises:
        OptionError: nothing can be trained; the task does not fit in memory; workers are not there or have other
            versions.
        UnknownNameError: ``trainable`` names what is no constant of the rule.
        DivergenceError: no finalist ends with a finite loss.
        CheckpointError: the race in ``out`` is damaged, or of other options.
        OutputError: ``out`` cannot be written.
    """
    config = with_options(config or RaceConfig(), options, "option of race")
    search = _Race(SymbolicOptimizer(lift_literals(rule), trainable), task, config)
    local = config.workers if isinstance(config.workers, int) else 1
    check_memory(task, len(search.optimizer.initial_rule.program.live.state), local)
    log = CandidateLog(None if out is None else Path(out) / CANDIDATES_FILE, search.describe(), resume=resume)
    begin = time.monotonic()
    limit = config.time_limit or math.inf
    with open_workers(config.workers, run_candidate, task) as workers:
        runner = _Runner(workers, search, log, progress)
        while search.generation < config.generations and time.monotonic() - begin < limit:
            record = search.advance(runner)
            if on_record is not None:
                on_record({**record, "seconds": time.monotonic() - begin})
        tuned = search.finals(runner)
    if out is not None:
        save_rule(tuned, Path(out) / RULE_FILE)
    return tuned


@dataclass
class _Runner:
    """Runs candidates that the log does not hold yet."""

    workers: Workers
    search: _Race
    log: CandidateLog
    progress: Progress | None

    def run(
        self, generation: int, rung: int, steps: int, rows: Sequence[tuple[int, NDArray[np.float64], int]]
    ) -> list[Candidate]:
        """Candidates of one rung, in the order of ``rows``: number, coordinates and seed of each."""
        places = [(generation, rung, number) for number, _, _ in rows]
        todo = [
            (place, rule_at(self.search.optimizer, coordinates), seed)
            for place, (_, coordinates, seed) in zip(places, rows, strict=True)
            if place not in self.log.found
        ][::-1]
        pending: dict[Future[dict[str, Any]], tuple[Place, Rule]] = {}
        self._tell(generation, rung)
        while todo or pending:
            while todo and len(pending) < self.workers.ahead:
                place, rule, seed = todo.pop()
                pending[self.workers.submit(self._job(rule, steps, seed))] = place, rule
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                place, rule = pending.pop(future)
                self.log.add(self._candidate(place, steps, rule, future))
                self._tell(generation, rung)
        found = [self.log.found[place] for place in places]
        for state, what in ((FAILED, "failed"), (LOST, "were lost with their workers")):
            if all(candidate.state == state for candidate in found):
                raise OptionError(f"all {len(found)} candidates of a rung {what}: {found[0].why}")
        return found

    def _job(self, rule: Rule, steps: int, seed: int) -> dict[str, Any]:
        return {
            "rule": rule.to_dict(),
            "steps": steps,
            "seed": seed,
            "threads": self.search.config.threads,
            "versions": versions(),
        }

    def _candidate(self, place: Place, steps: int, rule: Rule, future: Future[dict[str, Any]]) -> Candidate:
        error = future.exception()
        if error is None:
            result = future.result()
            if result["state"] == REFUSED:
                raise OptionError(f"no candidate can be run: {result['why']}")
        else:
            why = f"its worker died ({type(error).__name__})"
            result = {"state": LOST, "loss": None, "seconds": 0.0, "why": why}
        return Candidate(*place, steps, constants_of(self.search.optimizer, rule), **result)

    def _tell(self, generation: int, rung: int) -> None:
        if self.progress is not None:
            config = self.search.config
            where = "finals" if rung == config.rungs else f"generation {generation + 1}, rung {rung + 1}"
            losses = [one.loss for one in self.log.found.values() if one.loss is not None and one.rung == rung]
            best = f", best {shown(min(losses))}" if losses else ""
            ours = [one for one in self.log.found if one[1] < config.rungs or one[:2] == (generation, rung)]
            self.progress(len(ours), self.search.runs, f"{where}{best}")


class _Race:
    """The search: everything that was drawn and told so far."""

    def __init__(self, optimizer: SymbolicOptimizer, task: Task, config: RaceConfig) -> None:
        self.optimizer, self.task, self.config = optimizer, task, config
        self.ladder = config.ladder(config.steps or task.horizon)
        self.generation = 0
        self.best: tuple[float, NDArray[np.float64]] = (math.inf, np.zeros(len(optimizer.trainable)))
        self.cma = constants_search(optimizer, config.sigma, config.population, config.seed)

    @property
    def runs(self) -> int:
        """Training runs of the whole race."""
        return self.config.generations * sum(count for _, count in self.ladder) + len(_FINALISTS) * self.config.finals

    def describe(self) -> dict[str, Any]:
        """What the race is, a JSON object: two races with equal descriptions compute the same."""
        described: dict[str, Any] = finite(
            {
                "rule": self.optimizer.initial_rule.to_dict(),
                "trainable": list(self.optimizer.trainable),
                "task": [self.task.name, self.task.size, str(self.task.dtype)],
                "config": {key: value for key, value in asdict(self.config).items() if key not in _FREE}
                | {"steps": self.ladder[-1][0]},
                "versions": versions(),
            }
        )
        return described

    def advance(self, runner: _Runner) -> dict[str, Any]:
        """One generation; returns its record."""
        rows = [self.cma.ask() for _ in range(self.config.population)]
        seed = self._seed(self.generation)
        ranked = list(range(len(rows)))
        losses: list[float] = []
        lost = 0
        for rung, (steps, count) in enumerate(self.ladder):
            chosen = sorted(ranked[:count])
            found = runner.run(self.generation, rung, steps, [(number, rows[number], seed) for number in chosen])
            loss = {number: _loss(one) for number, one in zip(chosen, found, strict=True)}
            ranked[:count] = sorted(chosen, key=lambda number: (loss[number], number))
            losses = [loss[number] for number in ranked[:count]]
            lost += sum(one.state == LOST for one in found)
        self.cma.tell([(rows[number], float(rank)) for rank, number in enumerate(ranked)])
        self.best = min(self.best, (losses[0], rows[ranked[0]]), key=lambda pair: pair[0])
        self.generation += 1
        return {"generation": self.generation, "loss": losses[0], "lost": lost}

    def finals(self, runner: _Runner) -> Rule:
        """The best of the rule given, the search's mean and the best candidate, over fresh seeds.

        They belong to the generation that they follow: a race that stopped early has others when it has gone on.
        """
        rows = [np.zeros(len(self.cma.mean)), self.cma.mean, self.best[1]]  # in the order of _FINALISTS
        runs = [
            (who * self.config.finals + repetition, row, self._seed(self.config.generations, repetition + 1))
            for who, row in enumerate(rows)
            for repetition in range(self.config.finals)
        ]
        found = runner.run(self.generation, self.config.rungs, self.ladder[-1][0], runs)
        losses = [fmean(map(_loss, part)) for part in _parts(found, self.config.finals)]
        if not any(map(math.isfinite, losses)):
            raise DivergenceError(
                f"task {self.task.name!r}: every finalist diverged in {self.ladder[-1][0]} steps, the rule given too; "
                "start from a smaller learning rate"
            )
        kept = losses.index(min(losses))
        tuned = rule_at(self.optimizer, rows[kept])
        description = self.describe()
        entry = {
            "method": "CMA-ES and successive halving over whole training runs",
            "from": constants_of(self.optimizer, self.optimizer.initial_rule),
            "task": description["task"],
            "config": description["config"],
            "generations": self.generation,
            "kept": _FINALISTS[kept],
            "final_losses": dict(zip(_FINALISTS, map(finite, losses), strict=True)),
        }
        return replace(tuned, provenance={**tuned.provenance, "race": entry}, results={})

    def _seed(self, generation: int, repetition: int = 0) -> int:
        """Of a run's start and batches; repetitions are the finals'."""
        (seed,) = np.random.SeedSequence([self.config.seed, generation, repetition]).generate_state(1, np.uint64)
        return int(seed) >> 2


def _loss(candidate: Candidate) -> float:
    return candidate.loss if candidate.state == DONE and candidate.loss is not None else math.inf


def _parts(candidates: Sequence[Candidate], length: int) -> Iterator[Sequence[Candidate]]:
    for first in range(0, len(candidates), length):
        yield candidates[first : first + length]
