"""Options and result of meta-training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from closedform._names import lookup
from closedform._options import check_count, check_number, check_positive, check_seed
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._objectives import OBJECTIVES
from closedform.meta_training._totals import NORMALISATIONS


@dataclass(frozen=True)
class MetaTrainConfig:
    """How to meta-train.

    Attributes:
        steps: Meta-steps: updates of the meta-parameters, one window each.
        horizon: Steps an episode; None: the task's own horizon.
        curriculum: Horizons of the first stages of training, growing, before the full one. A stage ends when
            ``curriculum_patience`` validations in a row were no better than the best so far. Validation has the full
            horizon at every stage, so that its numbers can be compared and the weights kept are those that go furthest
            (Chen et al. 2020, Training Stronger Baselines for Learning to Optimize, section 3.1, validate at the next
            stage's horizon, and compare stages).
        curriculum_patience: See ``curriculum``.
        lr: The meta-optimizer's learning rate (Adam).
        warmup: Meta-steps over which the learning rate rises to ``lr``. Adam's first steps have full length whatever
            they are based on, and may throw a network to where every optimizee dies at once and no gradient is left.
        final_lr: The learning rate at the end as a share of ``lr``, reached by a half cosine; 1 keeps it constant.
        batch: Slots, over which meta-gradients are averaged. A slot runs one episode after another, each on a task that
            it draws. The first episode of every slot but the first ends early, at a random step, so that from then on
            windows come from all parts of episodes.
        side_by_side: K: optimizees of a slot, on one task and in step: each has its own starting point, random scaling
            and batches. An episode that turns non-finite in one of them ends for all.
        normalise: How tasks are weighed against each other: a name in ``NORMALISATIONS``.
        objective: The meta-loss: a name in ``OBJECTIVES``.
        random_scaling: s: an episode multiplies each parameter by exp(U(-s, s)); 0 leaves parameters alone.
        clip: Largest norm of a meta-gradient; longer ones are shortened to it.
        seed: Seeds episodes and validation.
        validate_every: Meta-steps between validations; the best weights are kept. 0: never, the last are kept.
        validation_tasks: Of a task distribution, how many fixed tasks are drawn for validation.
        validation_episodes: Fixed episodes a task, of full horizon, that a validation runs.
        checkpoint_every: Meta-steps between checkpoints.
        time_limit: Stop early after so many seconds, counted over resumed runs too; None: never.
    """

    steps: int = 1000
    horizon: int | None = None
    curriculum: tuple[int, ...] = ()
    curriculum_patience: int = 2
    lr: float = 3e-3
    warmup: int = 100
    final_lr: float = 0.1
    batch: int = 1
    side_by_side: int = 1
    normalise: str = "none"
    objective: str = "relative"
    random_scaling: float = 0.0
    clip: float = 1.0
    seed: int = 0
    validate_every: int = 50
    validation_tasks: int = 8
    validation_episodes: int = 4
    checkpoint_every: int = 50
    time_limit: float | None = None

    def __post_init__(self) -> None:
        lookup("normalisation", self.normalise, NORMALISATIONS)
        lookup("objective", self.objective, OBJECTIVES)
        for name, least in {
            "steps": 1,
            "warmup": 0,
            "batch": 1,
            "side_by_side": 1,
            "validate_every": 0,
            "validation_tasks": 1,
            "validation_episodes": 1,
            "checkpoint_every": 1,
            "curriculum_patience": 1,
        }.items():
            check_count(name, getattr(self, name), least)
        check_seed("seed", self.seed)
        if self.horizon is not None:
            check_count("horizon", self.horizon)
        self._check_curriculum()
        for name in ("lr", "clip"):
            check_positive(name, getattr(self, name))
        for name in ("final_lr", "random_scaling"):
            check_number(name, getattr(self, name), least=0)
        if self.time_limit is not None:
            check_positive("time_limit", self.time_limit)

    def _check_curriculum(self) -> None:
        for horizon in self.curriculum:
            check_count("curriculum", horizon)
        horizons = [*self.curriculum, *([] if self.horizon is None else [self.horizon])]
        if any(later <= earlier for earlier, later in pairwise(horizons)):
            raise OptionError(f"curriculum must be horizons that grow, up to the full one: {horizons} do not")
        if self.curriculum and not self.validate_every:
            raise OptionError("curriculum needs validations, which end its stages: set validate_every above 0")

    def describe(self) -> dict[str, Any]:
        """All options, a JSON object."""
        return {**asdict(self), "curriculum": list(self.curriculum)}

    def horizon_at(self, own: int, stage: int) -> int:
        """Steps of a training episode in a stage of the curriculum, 0, 1, ..., of a task whose own horizon is given."""
        full = self.horizon or own
        return min(full, self.curriculum[stage]) if stage < len(self.curriculum) else full

    def lr_at(self, step: int) -> float:
        """The learning rate of the meta-step after ``step`` others."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * rise * (self.final_lr + (1 - self.final_lr) * cosine)


@dataclass(frozen=True)
class MetaTrainResult:
    """What meta-training gave.

    Attributes:
        optimizer: The learned optimizer, with the best weights.
        step: Meta-steps done.
        best_step: The meta-step of the best weights.
        best_validation: Their validation, a mean final loss (see ``Trainer.validate``); None without validation.
        diverged: Episodes that were cut short because something in them was not finite.
        seconds: Time taken, resumed runs together.
        history: The records of ``metrics.jsonl``.
    """

    optimizer: LearnedOptimizer
    step: int
    best_step: int
    best_validation: float | None
    diverged: int
    seconds: float
    history: list[dict[str, Any]] = field(repr=False)

    @property
    def first_validation(self) -> float | None:
        """The validation before the first step; None without validation."""
        return self.history[0].get("validation") if self.history else None
