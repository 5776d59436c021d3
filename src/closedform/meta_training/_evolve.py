"""Meta-tune a rule by CMA-ES: its constants are judged by where whole episodes end, on tasks drawn from a distribution.

Gradients through short windows see a rule's first steps and not its last, which is where learning rates are paid for
(Wu et al. 2018, Understanding Short-Horizon Bias in Stochastic Meta-Optimization). A rule has a dozen constants, so its
whole episodes can be compared directly: each generation draws candidates, runs them side by side on a few tasks of a
pool, with common starts and batches, and scores their final losses against tuned AdamW (``_references.py``).

The rule that is kept is the one that does best on **validation** tasks, which should be larger and longer than those of
the pool: what does well on the pool alone has often only learned its sizes (Chen et al. 2023, Symbolic Discovery of
Optimization Algorithms, section 2.2, call this a funnel).

A run is resumed by replaying it: CMA-ES is asked and told again what it was told, which takes no time and gives the
numbers bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from torch import Tensor

from closedform._document import Malformed, read
from closedform._files import finite, read_json, write_json
from closedform._options import check_count, check_number, check_positive, check_seed, with_options
from closedform._progress import OnRecord, Progress, shown
from closedform.errors import CheckpointError, OptionError
from closedform.learned_optimizers import SymbolicOptimizer, lift_literals
from closedform.meta_training._constants_search import constants_of, constants_search, rule_at
from closedform.meta_training._evolution_file import FORMAT, EvolutionFile
from closedform.meta_training._meta_parameters import moved
from closedform.meta_training._references import Reference, final_losses, reference
from closedform.rules import Rule, save_rule
from closedform.tasks import Task
from closedform.tasks.distribution import Reparametrised

STATE_FILE, RULE_FILE = "evolution.json", "rule.json"
_FREE = ("generations", "workers", "time_limit")
"""Options that a resumed run may change: they do not change what a generation computes."""


@dataclass(frozen=True)
class EvolveConfig:
    """How to evolve a rule's constants.

    Attributes:
        generations: Generations.
        population: Candidates a generation.
        tasks: Tasks of the pool that a generation is judged on, drawn anew each time, as evenly as can be.
        episodes: Episodes on each, of which the mean loss is scored: a rule that fails now and then is a bad one, and a
            geometric mean would let one lucky episode outweigh it.
        sigma: Initial standard deviation of the search, in coordinates of the constants (0.3 moves a learning rate by
            a third, and a decay's logit by 0.3).
        worse: Weight of a score above 0 (worse than the reference) over one below: a rule that fails on one task in ten
            is not made good by the others.
        lowest, highest: Scores are clipped to these, so that no single task decides.
        validate_every: Generations between validations of the search's mean; the best validated one is kept.
        seed: Draws candidates, tasks, starts and batches.
        workers: Processes.
        time_limit: Stop early after so many seconds of this process; None: never.
    """

    generations: int = 60
    population: int = 16
    tasks: int = 12
    episodes: int = 1
    sigma: float = 0.3
    worse: float = 1.5
    lowest: float = -2.0
    highest: float = 4.0
    validate_every: int = 10
    seed: int = 0
    workers: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        least = {"population": 4} | dict.fromkeys(("generations", "tasks", "episodes", "validate_every", "workers"), 1)
        for name, smallest in least.items():
            check_count(name, getattr(self, name), smallest)
        check_seed("seed", self.seed)
        for name in ("sigma", "worse"):
            check_positive(name, getattr(self, name))
        for name in ("lowest", "highest"):
            check_number(name, getattr(self, name), least=-math.inf)
        if self.lowest >= self.highest:
            raise OptionError(f"lowest must be below highest: {self.lowest} and {self.highest} are not")
        if self.time_limit is not None:
            check_positive("time_limit", self.time_limit)


def evolve(
    rule: Rule,
    pool: Sequence[Task],
    validation: Sequence[Task] = (),
    *,
    trainable: Sequence[str] | None = None,
    config: EvolveConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    **options: Any,
) -> Rule:
    """Tune a rule's constants by CMA-ES over whole episodes, on the tasks' split ``train`` alone.

    Args:
        rule: Where the search starts; numbers written in its update become constants first (``lift_literals``).
        pool: Tasks to judge candidates on, each over its own ``horizon``; from a `TaskDistribution`, say.
        validation: Larger and longer tasks, on which the rule that is kept is chosen; without them it is the last
            generation's mean.
        trainable: Names of the constants to tune, ``"lr"`` among them if wanted; None: all but floors such as eps.
        config: All other options.
        out: Folder for ``evolution.json`` (the run so far, references included) and ``rule.json``.
        resume: Go on from ``evolution.json`` in ``out``; the result is bit for bit that of an uninterrupted run.
        progress: Called after every generation.
        on_record: Called then with the generation's record, and ``seconds``.
        options: Fields of `EvolveConfig` by name, in place of ``config``'s.

    Returns:
        The tuned rule. Its provenance says, under ``evolution``, on what, how, and from which constants.

    Raises:
        OptionError: the pool is empty, or nothing can be trained.
        UnknownNameError: ``trainable`` names what is no constant of the rule.
        DivergenceError: the reference diverges on a task.
        CheckpointError: the run in ``out`` is damaged, or of other options.
        OutputError: ``out`` cannot be written.
    """
    config = with_options(config or EvolveConfig(), options, "option of evolve")
    search = _Search(SymbolicOptimizer(lift_literals(rule), trainable), pool, validation, config)
    path = None if out is None else Path(out) / STATE_FILE
    if path is not None and resume and path.exists():
        search.restore(path)
    begin = time.monotonic()
    limit = search.config.time_limit or math.inf
    with Parallel(n_jobs=search.config.workers) as parallel:
        search.measure_references(parallel, path)
        while search.generation < search.config.generations and time.monotonic() - begin < limit:
            record = search.advance(parallel)
            if path is not None:
                search.write(path)
            if on_record is not None:
                on_record({**record, "seconds": time.monotonic() - begin})
            if progress is not None:
                progress(search.generation, search.config.generations, f"score {shown(record['score'])}")
    tuned = search.result()
    if out is not None:
        save_rule(tuned, Path(out) / RULE_FILE)
    return tuned


class _Search:
    """A run: everything that was drawn and told so far."""

    def __init__(
        self,
        optimizer: SymbolicOptimizer,
        pool: Sequence[Task],
        validation: Sequence[Task],
        config: EvolveConfig,
    ) -> None:
        if not pool:
            raise OptionError("evolution needs at least one task in its pool; draw some from a TaskDistribution")
        self.optimizer, self.config = optimizer, config
        self.pool = sorted(pool, key=lambda task: task.name)  # neighbours are alike
        self.validation = list(validation)
        self.tasks = [*self.pool, *self.validation]
        self.references: list[Reference] = []
        self.history: list[dict[str, Any]] = []
        self.cma = constants_search(optimizer, config.sigma, config.population, config.seed)

    @property
    def generation(self) -> int:
        """Generations done."""
        return len(self.history)

    def describe(self) -> dict[str, Any]:
        """What the run is, a JSON object: two runs with equal descriptions compute the same."""
        return {
            "rule": self.optimizer.initial_rule.to_dict(),
            "trainable": list(self.optimizer.trainable),
            "pool": [_identity(task) for task in self.pool],
            "validation": [_identity(task) for task in self.validation],
            "config": {key: value for key, value in asdict(self.config).items() if key not in _FREE},
        }

    def measure_references(self, parallel: Parallel, path: Path | None) -> None:
        """Fill in the references that are not known yet, a batch at a time so that an interruption loses little."""
        width = 4 * self.config.workers
        while len(self.references) < len(self.tasks):
            first = len(self.references)
            todo = enumerate(self.tasks[first : first + width], first)
            self.references += parallel(delayed(_measure)(task, self._seed(index)) for index, task in todo)
            if path is not None:
                self.write(path)

    def advance(self, parallel: Parallel) -> dict[str, Any]:
        """One generation; returns its record."""
        candidates = self._ask()
        chosen = self._choose_tasks()
        rows = np.stack([*candidates, self.cma.mean])
        scores = self._scores(parallel, rows, [(index, self.generation) for index in chosen])
        entry: dict[str, Any] = {"tasks": chosen, "scores": scores[:-1].tolist()}
        self._tell(candidates, entry["scores"])
        score, best = float(scores[-1]), float(scores[:-1].min())
        record: dict[str, Any] = {"generation": self.generation + 1, "score": score, "best": best}
        entry["mean_score"] = score
        if (self.generation + 1) % self.config.validate_every == 0 or self.generation + 1 == self.config.generations:
            entry["validation"] = record["validation"] = self._validate(parallel)
        entry["mean"] = self.cma.mean.tolist()
        self.history.append(entry)
        return record

    def result(self) -> Rule:
        """The rule at the best validated mean, or at the last."""
        validated = [entry for entry in self.history if entry.get("validation") is not None]
        best = min(validated, key=lambda entry: entry["validation"]) if validated else None
        kept = best or (self.history[-1] if self.history else None)
        mean = kept["mean"] if kept else [0.0] * len(self.optimizer.trainable)
        tuned = rule_at(self.optimizer, mean)
        description = self.describe()
        entry = {
            "method": "CMA-ES over final losses",
            "from": constants_of(self.optimizer, self.optimizer.initial_rule),
            "pool": len(self.pool),
            "validation": description["validation"],
            "config": description["config"],
            "generations": self.generation,
            "kept": self.history.index(kept) + 1 if kept else 0,
            "validation_score": best["validation"] if best else None,
        }
        return replace(tuned, provenance={**tuned.provenance, "evolution": entry}, results={})

    def write(self, path: Path) -> None:
        """Write the run so far."""
        document = {
            "format": FORMAT,
            "run": self.describe(),
            "references": [asdict(one) for one in self.references],
            "history": self.history,
        }
        write_json(path, document)

    def restore(self, path: Path) -> None:
        """Go on from a run, by replaying what it told CMA-ES.

        Raises:
            CheckpointError: it is damaged, or of a run with other options.
        """
        try:
            document = read_json(path, what="evolution")
            if isinstance(document, dict) and document.get("format") != FORMAT:
                raise CheckpointError(f"{path} is not a run of this version; choose another --out")
            found: EvolutionFile = read(document, EvolutionFile)
            ours = finite(self.describe())
            for key in ours:
                if found.run.get(key) != ours[key]:
                    raise CheckpointError(f"{path} is of another run: its {key} differs; choose another --out")
            self._replay(found, document["history"])
        except Malformed as error:
            raise CheckpointError(f"{path} is damaged: {error}; choose another --out") from None

    def _replay(self, found: EvolutionFile, rows: list[dict[str, Any]]) -> None:
        if len(found.references) > len(self.tasks):
            raise Malformed(f"it has {len(found.references)} references of {len(self.tasks)} tasks")
        if found.history and len(found.references) < len(self.tasks):
            raise Malformed("it has a generation before all references")
        for index, (entry, row) in enumerate(zip(found.history, rows, strict=True)):
            if list(entry.tasks) != self._choose_tasks() or len(entry.scores) != self.config.population:
                raise Malformed(f"history[{index}] is of other tasks, or of another population")
            self._tell(self._ask(), entry.scores)
            if self.cma.mean.tolist() != list(entry.mean):
                raise Malformed(f"history[{index}] cannot be replayed: it was made with another version of cmaes")
            self.history.append(row)
        self.references = list(found.references)

    def _ask(self) -> list[NDArray[np.float64]]:
        return [self.cma.ask() for _ in range(self.config.population)]

    def _tell(self, candidates: Sequence[NDArray[np.float64]], scores: Sequence[float]) -> None:
        self.cma.tell(list(zip(candidates, scores, strict=True)))

    def _choose_tasks(self) -> list[int]:
        """Positions in the pool: one from each of as many equal stretches, so that neighbours rarely go together."""
        generator = np.random.default_rng([self.config.seed, self.generation])
        edges = np.linspace(0, len(self.pool), min(self.config.tasks, len(self.pool)) + 1)
        draws = generator.random(len(edges) - 1)
        return [int(low + draw * (high - low)) for low, high, draw in zip(edges, edges[1:], draws, strict=False)]

    def _validate(self, parallel: Parallel) -> float | None:
        """The mean score of the search's mean on the validation tasks; None without such tasks."""
        if not self.validation:
            return None
        first = len(self.pool)
        places = [(first + index, 0) for index in range(len(self.validation))]
        return float(self._scores(parallel, self.cma.mean[None], places)[0])

    def _scores(
        self, parallel: Parallel, rows: NDArray[np.float64], places: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Mean clipped score of each row of coordinates over tasks at (position, repetition), [R]."""
        config = self.config
        found: list[Tensor] = parallel(
            delayed(_judge)(self.optimizer, rows, self.tasks[index], self._seed(index, repetition, episode))
            for index, repetition in places
            for episode in range(config.episodes)
        )
        losses = torch.stack(found).unflatten(0, (len(places), config.episodes)).mean(1)
        weighed = [
            torch.nan_to_num(self.references[index].score(one), nan=math.inf)
            for (index, _), one in zip(places, losses, strict=True)
        ]
        clipped = [
            torch.where(one > 0, config.worse * one, one).clamp(config.lowest, config.highest) for one in weighed
        ]
        mean: NDArray[np.float64] = torch.stack(clipped).mean(0).numpy()
        return mean

    def _seed(self, index: int, repetition: int = -1, episode: int = 0) -> int:
        """Of an episode's start and batches; references have repetition -1."""
        numbers = [self.config.seed, index, repetition + 1, *([episode] if episode else [])]
        (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
        return int(seed) >> 2


def _identity(task: Task) -> list[Any]:
    return [task.name, task.horizon, task.size]


def _measure(task: Task, seed: int) -> Reference:
    """The reference; of a reparametrised task in its natural units, which AdamW is entitled to."""
    torch.set_num_threads(1)
    natural = task.inner if isinstance(task, Reparametrised) else task
    return reference(natural, task.horizon, seed)


def _judge(optimizer: SymbolicOptimizer, rows: NDArray[np.float64], task: Task, seed: int) -> Tensor:
    """Final losses of candidates at rows of coordinates, [R]."""
    torch.set_num_threads(1)
    update = optimizer.bind_stacked(moved(optimizer, torch.from_numpy(rows)))
    return final_losses(optimizer, update, len(rows), task, task.horizon, seed)
