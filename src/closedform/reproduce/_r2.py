"""The paper's R^2 of distilled rules, and what it is worth: the loss of training with the rule, not the network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from closedform import tasks
from closedform._options import check_count
from closedform._progress import Progress
from closedform.distillation import HallOfFame, Selection, select_closed_loop
from closedform.errors import DivergenceError
from closedform.evaluation import EvaluationOptions, Summary, evaluate, paired_difference
from closedform.learned_optimizers import LearnedOptimizer
from closedform.reproduce._base import measured_on, save
from closedform.reproduce._faithful import STATES, WINDOW, Fidelity, Study, fidelities
from closedform.reproduce._r2_result import LossRow, R2Result, R2Row
from closedform.reproduce._shipped import REPORTED, shipped
from closedform.rules import save_rule
from closedform.tasks import Task
from closedform.trajectories import RecordConfig

NUMERICAL, DISTILLED = "numerical", "distilled"


@dataclass(frozen=True)
class R2Plan:
    """How much is done.

    Attributes:
        study: The distillations.
        evaluated: Where the losses of training are taken.
        seeds, loss_seeds: Seeds of both.
        candidates, trials: Equations that are tried for the choice, and episodes of each.
        workers: Processes of the evaluation; None is one a core.
    """

    study: Study
    evaluated: Task
    seeds: int
    loss_seeds: int = 10
    candidates: int = 6
    trials: int = 2
    workers: int | None = None

    @property
    def tasks(self) -> tuple[str, str, str]:
        """Names of P1, P2, and of the task of the losses."""
        return self.study.recorded.name, self.study.other.name, self.evaluated.name


def r2(
    seeds: int = 5,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    data_dir: str | Path | None = None,
    quick: bool = False,
    networks: Sequence[str] | None = None,
    time_limit: float = 40.0,
) -> R2Result:
    """Distil the networks that ship, judge the rules on fresh episodes, and train with them.

    Args:
        seeds: Recordings and distillations of each network; their medians are shown.
        out: Folder to write ``reproduce_r2.md`` and ``.json`` to, and in its folder ``r2`` the chosen rules.
        progress: Called before every part.
        data_dir: Folder of the data files.
        quick: Digits alone, short episodes, one seed.
        networks: Names of those to distil; None: all that ship and that the paper has.
        time_limit: Seconds of a distillation in the states; one in the window gets a third.

    Raises:
        OptionError: ``seeds`` is not a whole number of at least 1, or no weights ship.
        DataError: a task's data are missing; the message says how to get them.
        UnknownNameError: no weights ship under a name.
    """
    check_count("seeds", seeds)
    begin, folder = time.monotonic(), Path(out) if out is not None else None
    chosen = {name: network for name, network in shipped(networks).items() if networks or name in REPORTED}
    limits = {STATES: time_limit, WINDOW: time_limit / 3}
    plan = _quick_plan(limits) if quick else _plan(limits, seeds, data_dir)
    rows: list[R2Row] = []
    losses: list[LossRow] = []
    useless: list[str] = []
    for index, (name, network) in enumerate(chosen.items()):
        found: list[Fidelity] = []
        halls: list[HallOfFame] = []
        for seed in range(plan.seeds):
            if progress is not None:
                progress(index * plan.seeds + seed, len(chosen) * plan.seeds, f"{name}, seed {seed}")
            scores, hall = fidelities(name, network, plan.study, seed)
            found += scores
            halls.append(hall)
        rows += _medians(name, found)
        try:
            losses.append(_loss(name, network, _choice(halls, plan), plan, folder))
        except DivergenceError:
            useless.append(name)
    result = R2Result(
        rows=tuple(rows),
        losses=tuple(losses),
        useless=tuple(useless),
        seeds=plan.seeds,
        loss_seeds=plan.loss_seeds,
        tasks=plan.tasks,
        seconds=time.monotonic() - begin,
        measured=measured_on(),
    )
    if folder is not None:
        save(result, folder, "r2")
    return result


def _plan(limits: Mapping[str, float], seeds: int, data_dir: str | Path | None) -> R2Plan:
    p1, p2, evaluated = (
        tasks.get(name, data_dir=data_dir) for name in ("mlp-small-mnist", "mlp-small-fashion-mnist", "mlp-mnist")
    )
    config = RecordConfig(steps=p1.horizon, episodes=6, coordinates=60, samples=8000)
    return R2Plan(Study(p1, p2, config, fresh_episodes=2, window=20, time_limits=limits), evaluated, seeds)


def _quick_plan(limits: Mapping[str, float]) -> R2Plan:
    p1, p2, evaluated = (tasks.get(name, horizon=40) for name in ("mlp-digits", "mlp-tanh-digits", "mlp-wide-digits"))
    config = RecordConfig(steps=p1.horizon, episodes=3, coordinates=24, samples=1500)
    quick = {space: min(limit, 1.0) for space, limit in limits.items()}
    study = Study(p1, p2, config, fresh_episodes=1, window=3, time_limits=quick, trees=20)
    return R2Plan(study, evaluated, seeds=1, loss_seeds=2, candidates=2, trials=1, workers=1)


def _medians(name: str, found: Sequence[Fidelity]) -> list[R2Row]:
    """A row for each search space; numbers are medians, the equation is the first seed's."""
    rows = []
    for space in dict.fromkeys(score.space for score in found):
        here = [score for score in found if score.space == space]
        median = replace(
            here[0],
            p1=statistics.median(score.p1 for score in here),
            p2=statistics.median(score.p2 for score in here),
            seconds=statistics.median(score.seconds for score in here),
            complexity=statistics.median_low(score.complexity for score in here),
            state_cost=statistics.median_low(score.state_cost for score in here),
        )
        rows.append(R2Row(name, median))
    return rows


def _choice(halls: Sequence[HallOfFame], plan: R2Plan) -> Selection:
    """The rule that trains best on P1, of all seeds' most faithful."""
    return select_closed_loop(
        HallOfFame(tuple(entry for hall in halls for entry in hall.entries)),
        [plan.study.recorded],
        top=plan.candidates,
        seeds=plan.trials,
        length=plan.study.config.steps,
    )


def _loss(name: str, network: LearnedOptimizer, choice: Selection, plan: R2Plan, folder: Path | None) -> LossRow:
    """Train with the rule and with the network, from the same starts and on the same batches."""
    kept = folder / "r2" / name if folder is not None else None
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        save_rule(choice.rule, kept / "rule.json")
    evaluation = evaluate(
        {NUMERICAL: network, DISTILLED: choice.rule},
        [plan.evaluated],
        seeds=plan.loss_seeds,
        baselines=(),
        config=EvaluationOptions(workers=plan.workers),
        out=kept,
    )
    numerical, distilled = (evaluation.get(plan.evaluated.name, kind).final_loss for kind in (NUMERICAL, DISTILLED))
    return LossRow(
        network=name,
        numerical=numerical,
        distilled=distilled,
        ratio=_ratio(numerical, distilled),
        r2=choice.entry.r2,
        complexity=choice.entry.complexity,
        state_cost=choice.entry.state_cost,
        equation=choice.entry.equation,
    )


def _ratio(numerical: Summary, distilled: Summary) -> Summary:
    """The distilled rule's loss as a share of the network's mean, with the interval of their paired difference."""
    difference, unit = paired_difference(distilled.values, numerical.values), numerical.mean

    def share(value: float | None) -> float | None:
        return None if value is None or not unit else 1 + value / unit

    bounds = (share(difference.mean), share(difference.low), share(difference.high))
    return Summary(tuple(map(share, difference.values)), *bounds)
