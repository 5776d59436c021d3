"""One run: one optimizer, one learning rate, one task, one seed."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import torch

from closedform._document import Many, Name, Seconds, Within
from closedform.errors import DivergenceError
from closedform.evaluation._contenders import CONSTANT, Contender, Run
from closedform.evaluation._statistics import MOST_POINTS, finite
from closedform.tasks import Task

REPORT, TUNE = "report", "tune"
"""Streams of seeds: seed 0 of one has nothing in common with seed 0 of the other, nor with meta-training's."""
_VERSION = "closedform.evaluation/1"


@dataclass(frozen=True)
class Spec:
    """What to run.

    Attributes:
        contender, task: Positions in the lists that are being evaluated.
        lr: Learning rate; None is the optimizer's own.
        stream: Which seeds: `REPORT` or `TUNE`.
        seed: Which of the stream's seeds; decides start and batches, whatever the optimizer.
        steps: Length of the episode.
        tail: The final loss is the mean minibatch loss of the last ``tail`` steps.
        points: Points that the loss curve is reduced to.
        schedule: What multiplies the learning rate; None is the contender's own.
    """

    contender: int
    task: int
    lr: float | None
    stream: str
    seed: int
    steps: int
    tail: int
    points: int
    schedule: str | None = None


@dataclass(frozen=True)
class Record:
    """What a run gave.

    Attributes:
        final_loss: Mean minibatch training loss of the last steps; None if the run diverged.
        diverged_at: Step at which the loss or a parameter stopped being finite; None if none.
        curve: Mean loss of each bin of steps (`curve_steps`); empty for tuning runs, None after divergence.
        full_loss: Loss on the whole data that it trained on, at the end; None if it diverged or was not measured.
        test: Metrics on held-out data at the end, by name; empty if it diverged or they were not measured.
        step_seconds: Median time of the optimizer's own part of a step, without the gradient.
    """

    final_loss: float | None
    diverged_at: Annotated[int, Within(0, 2**53)] | None
    curve: Annotated[tuple[float | None, ...], Many(MOST_POINTS)]
    full_loss: float | None
    test: Annotated[Mapping[Name, float | None], Many(100)]
    step_seconds: Seconds | None

    def __post_init__(self) -> None:
        if (self.final_loss is None) != (self.diverged_at is not None):
            raise ValueError("a run either has a final loss or diverged")
        if self.final_loss is None and (self.full_loss is not None or self.test):
            raise ValueError("a run that diverged has nothing measured at its end")

    def fits(self, spec: Spec) -> bool:
        """Whether it can be what the run gave."""
        points = len(curve_steps(spec.steps, spec.points)) if spec.stream == REPORT else 0
        return len(self.curve) == points and (self.diverged_at or 0) <= spec.steps


def seeded(stream: str, seed: int) -> torch.Generator:
    """The generator that draws a run's start and batches."""
    digest = hashlib.sha256(f"closedform.evaluation/{stream}/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def run_key(spec: Spec, contender: Contender, task: Task) -> str:
    """Hash of everything that decides a run's result: the same key means the same run."""
    lr = contender.lr if spec.lr is None else spec.lr
    parts: list[Any] = [_VERSION, contender.fingerprint, lr, _task_identity(task), spec.stream, spec.seed]
    schedule = _schedule(spec, contender)
    parts += [schedule] if schedule != CONSTANT else []  # keys are those of the time before there were schedules
    text = json.dumps([*parts, spec.steps, spec.tail, spec.points])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def run_episode(spec: Spec, contender: Contender, task: Task) -> Record:
    """Train the task's optimizee with the contender, on the task's ``eval`` data."""
    generator = seeded(spec.stream, spec.seed)
    run = contender.start(task.init(generator), spec.lr, _schedule(spec, contender), spec.steps)
    losses: list[float] = []
    seconds: list[float] = []
    try:
        diverged_at = _train(run, task, generator, spec.steps, losses, seconds)
    except DivergenceError:
        diverged_at = len(losses)
    final = None if diverged_at else finite(_mean(losses[-spec.tail :]))
    if final is None:
        diverged_at = diverged_at or spec.steps
    reporting = spec.stream == REPORT
    measured = reporting and final is not None
    return Record(
        final,
        diverged_at,
        _binned(losses, spec) if reporting else (),
        finite(task.metrics(run.params, task.full("eval"))["loss"]) if measured else None,
        _test_metrics(run, task) if measured else {},
        median(seconds[min(5, len(seconds) - 1) :]) if seconds else None,  # the first steps create state
    )


def _schedule(spec: Spec, contender: Contender) -> str:
    return spec.schedule or contender.schedule


def curve_steps(steps: int, points: int) -> tuple[int, ...]:
    """Last step of each bin of a loss curve: all steps if they are few, else ``points`` bins of equal length."""
    count = min(steps, points)
    return tuple(round((index + 1) * steps / count) for index in range(count))


def _train(
    run: Run, task: Task, generator: torch.Generator, steps: int, losses: list[float], seconds: list[float]
) -> int | None:
    """Train; append each step's loss and the optimizer's time. Returns the step that diverged, if one did."""
    cuda = task.device.type == "cuda"
    for _ in range(steps):
        loss, grads = task.loss_and_grad(run.params, task.batch("eval", generator))
        losses.append(float(loss))
        if not math.isfinite(losses[-1]):
            return len(losses)
        if cuda:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        run.step(grads)
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    whole = all(bool(torch.isfinite(value).all()) for value in run.params.values())
    return None if whole else steps


def _test_metrics(run: Run, task: Task) -> dict[str, float | None]:
    return {name: finite(value) for name, value in task.metrics(run.params, task.full("test")).items()}


def _binned(losses: Sequence[float], spec: Spec) -> tuple[float | None, ...]:
    """Mean loss of every bin of steps; None for bins that the run did not finish."""
    means: list[float | None] = []
    first = 0
    for last in curve_steps(spec.steps, spec.points):
        means.append(finite(_mean(losses[first:last])) if last <= len(losses) else None)
        first = last
    return tuple(means)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # may be infinite, where statistics.fmean raises


def _task_identity(task: Task) -> list[str]:
    options = getattr(task, "options", None)
    return [task.name, repr(options), repr(sorted(task.shapes.items())), str(task.dtype), task.device.type]
