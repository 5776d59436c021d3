"""Options that ``closedform train`` and ``closedform tune`` share, and how their progress is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from closedform._names import lookup
from closedform.cli._app import RANK
from closedform.cli._given import given_to
from closedform.cli._progress import bar
from closedform.errors import OptionError
from closedform.meta_training import ESTIMATORS, NORMALISATIONS, OBJECTIVES, Estimator

TimeLimit = Annotated[float | None, typer.Option(help="Stop early after so many seconds.")]
EstimatorName = Annotated[
    str, typer.Option("--estimator", help=f"How meta-gradients are estimated: {', '.join(ESTIMATORS)}.")
]
Unroll = Annotated[int | None, typer.Option(help="Estimator: steps of a window.")]
Std = Annotated[float | None, typer.Option(help="Estimator: size of perturbations.")]
Pairs = Annotated[int | None, typer.Option(help="Estimator: perturbations, each with its opposite.")]
Coordinates = Annotated[int | None, typer.Option(help="Estimator: random coordinates that the gradient goes through.")]
SecondOrder = Annotated[
    bool, typer.Option("--second-order", help="Estimator: include how updates change later gradients.")
]
Lr = Annotated[float, typer.Option(help="The meta-optimizer's learning rate.")]
FinalLr = Annotated[float, typer.Option(help="Learning rate at the end, as a share of --lr.")]
Warmup = Annotated[int, typer.Option(help="Meta-steps over which the learning rate rises.")]
Steps = Annotated[int, typer.Option(help="Meta-steps.")]
Horizon = Annotated[int | None, typer.Option(help="Steps of an episode; the task's own by default.")]
Batch = Annotated[int, typer.Option(help="Episodes whose meta-gradients are averaged.")]
SideBySide = Annotated[int, typer.Option(help="Optimizees of an episode, trained in step.")]
ObjectiveName = Annotated[str, typer.Option("--objective", help=f"The meta-loss: {', '.join(OBJECTIVES)}.")]
Normalise = Annotated[str, typer.Option(help=f"Weigh several tasks against each other: {', '.join(NORMALISATIONS)}.")]
RandomScaling = Annotated[float, typer.Option(help="Multiply each parameter by exp(U(-s, s)); 0: not at all.")]
Clip = Annotated[float, typer.Option(help="Largest norm of a meta-gradient.")]
ValidateEvery = Annotated[int, typer.Option(help="Meta-steps between validations; 0: never.")]
ValidationEpisodes = Annotated[int, typer.Option(help="Episodes of a validation, of each task.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write metrics to OUT/tensorboard as well.")]


def make_estimator(name: str, **given: Any) -> Estimator:
    """An estimator with the options that were given on the command line; the others keep their own defaults.

    Raises:
        UnknownNameError: there is no such estimator.
        OptionError: it has no such option, or the value makes no sense.
    """
    make = lookup("estimator", name, ESTIMATORS)
    return make(**given_to(make, f"the estimator {name}", **given))


@contextmanager
def followed(title: str, steps: int, out: Path, tensorboard: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What to call after every meta-step: shows it, and writes it for TensorBoard if asked."""
    with _scalars(out, tensorboard and not RANK) as write, bar(title) as progress:

        def follow(record: Mapping[str, Any]) -> None:
            progress.meta_step(steps, record)
            write(record)

        yield follow


@contextmanager
def _scalars(out: Path, wanted: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    if not wanted:
        yield lambda record: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise OptionError("--tensorboard needs tensorboard; install it with: pip install tensorboard") from None
    writer = SummaryWriter(str(out / "tensorboard"))

    def write(record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, (int, float)) and name != "step":
                writer.add_scalar(name, value, int(record["step"]))

    try:
        yield write
    finally:
        writer.close()
