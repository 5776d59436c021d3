"""The paper's table of interpretability: perception field, mapping complexity and losses of six learned optimizers."""

from __future__ import annotations

from pathlib import Path

from closedform._files import finite, read_json, write_json
from closedform._options import check_count
from closedform._progress import Progress
from closedform.errors import OptionError
from closedform.reproduce._base import measured_on, save
from closedform.reproduce._interpretability_measures import Measured, measured
from closedform.reproduce._interpretability_models import MODELS
from closedform.reproduce._interpretability_plan import Plan, full_plan, quick_plan
from closedform.reproduce._interpretability_result import InterpretabilityResult


def interpretability(
    seeds: int = 3,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    data_dir: str | Path | None = None,
    quick: bool = False,
    time_limit: float = 20.0,
) -> InterpretabilityResult:
    """Meta-train the paper's six models, measure them, and test what it says about them.

    An interrupted run goes on from its files.

    Args:
        seeds: Networks of each model.
        out: Folder to write ``reproduce_interpretability.md`` and ``.json`` to, and in its folder ``interpretability``
            the networks, recordings, halls of fame and evaluations.
        progress: Called before every network.
        data_dir: Folder of the data files.
        quick: Digits alone, short episodes, two seeds.
        time_limit: Seconds of a distillation.

    Raises:
        OptionError: ``seeds`` is not a whole number of at least 1, or ``out`` holds a run with other options.
        DataError: a task's data are missing; the message says how to get them.
    """
    check_count("seeds", seeds)
    plan = quick_plan() if quick else full_plan(seeds, time_limit, data_dir)
    folder = _folder(plan, Path(out)) if out is not None else None
    found: list[Measured] = []
    names = [(seed, name) for seed in range(plan.seeds) for name in MODELS]
    for index, (seed, name) in enumerate(names):
        if progress is not None:
            progress(index, len(names), f"{name}, seed {seed}")
        found.append(measured(name, seed, plan, folder / name / str(seed) if folder is not None else None))
    ordered = sorted(found, key=lambda one: list(MODELS).index(one.model))
    result = InterpretabilityResult.of(ordered, plan, measured_on())
    if out is not None:
        save(result, Path(out), "interpretability")
    return result


def _folder(plan: Plan, out: Path) -> Path:
    """Where networks are kept; another plan's files there are not mixed with this one's."""
    folder, told = out / "interpretability", finite(plan.describe())
    path = folder / "plan.json"
    if path.exists() and read_json(path, what="plan of a reproduction") != told:
        raise OptionError(f"{folder} holds a run with other options: choose another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, told)
    return folder
