"""One candidate of a race: a real training run of a rule, on one worker."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from closedform.errors import ClosedFormError, one_line
from closedform.meta_training.racing._race_file import DIVERGED, DONE, FAILED
from closedform.meta_training.racing._workers import check_versions
from closedform.optim import RuleOptimizer
from closedform.rules import Rule
from closedform.tasks import Task
from closedform.unroll import generator_for

TAIL = 0.05
"""Share of a run's steps, at its end, over which its minibatch losses are averaged."""
REFUSED = "refused"
"""It cannot be run, and no other could."""


def run_candidate(task: Task, job: Mapping[str, Any]) -> dict[str, Any]:
    """Train the task's optimizee with a rule, on its split ``train``.

    Args:
        task: The task.
        job: ``rule`` (as in a rule file), ``steps``, ``seed`` (draws start and batches), ``versions``, ``threads``.

    Returns:
        ``state``, ``loss`` (mean minibatch loss of the last steps, None unless done), ``seconds``, and ``why`` there is
        no loss: it never raises, since errors do not survive every cluster.
    """
    begin = time.perf_counter()
    loss: float | None = None
    why: str | None = None
    try:
        check_versions(job["versions"])
        torch.set_num_threads(job["threads"])
        loss = _final_loss(task, Rule.from_dict(job["rule"]), job["steps"], job["seed"])
        state = DIVERGED if loss is None else DONE
    except ClosedFormError as error:
        state, why = REFUSED, str(error)
    except Exception as error:  # of the task's own code, such as a decomposition of what is not finite
        state, why = FAILED, one_line(f"{type(error).__name__}: {error}")
    return {"state": state, "loss": loss, "seconds": round(time.perf_counter() - begin, 3), "why": why}


def _final_loss(task: Task, rule: Rule, steps: int, seed: int) -> float | None:
    generator = generator_for(seed)
    leaves = {name: torch.nn.Parameter(value) for name, value in task.init(generator).items()}
    optimizer = RuleOptimizer(leaves.values(), rule, total_steps=steps)
    tail: list[float] = []
    last = steps - max(1, round(TAIL * steps))
    for step in range(steps):
        loss, grads = task.loss_and_grad(dict(leaves), task.batch("train", generator))
        if not bool(torch.isfinite(loss)):
            return None
        if step >= last:
            tail.append(float(loss))
        for name, leaf in leaves.items():
            leaf.grad = grads[name]
        optimizer.step()
    mean = sum(tail) / len(tail)
    return mean if math.isfinite(mean) else None
