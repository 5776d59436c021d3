"""What ``closedform train`` and ``closedform tune`` share: one table of options, and how progress is kept.

A new option of meta-training is a line in ``CONFIG_OPTIONS``, under the name of its field of `MetaTrainConfig`; a new
option of an estimator is one in ``ESTIMATOR_OPTIONS``, under the name of its argument.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from closedform import tasks
from closedform._names import lookup
from closedform.cli._app import RANK, DataDir, Device, JsonFlag, Out, Resume, Seed, TaskName
from closedform.cli._given import given_to
from closedform.cli._progress import bar
from closedform.errors import OptionError
from closedform.meta_training import (
    ESTIMATORS,
    NORMALISATIONS,
    OBJECTIVES,
    Estimator,
    Imitation,
    MetaTrainConfig,
    OnRecord,
    TruncatedBPTT,
    tensorboard_writer,
)
from closedform.rules import load_rule
from closedform.tasks import Task


def _option(kind: Any, text: str, *flags: str) -> Any:
    return Annotated[kind, typer.Option(*flags, help=text)]


CONFIG_OPTIONS: dict[str, Any] = {
    "steps": _option(int, "Meta-steps."),
    "lr": _option(float, "The meta-optimizer's learning rate."),
    "final_lr": _option(float, "Learning rate at the end, as a share of --lr."),
    "warmup": _option(int, "Meta-steps over which the learning rate rises."),
    "horizon": _option(int | None, "Steps of an episode; the task's own by default."),
    "curriculum": _option(str | None, "Horizons of first stages, growing, comma-separated: 100,200."),
    "curriculum_patience": _option(int, "Validations in a row without progress that end a stage."),
    "batch": _option(int, "Episodes whose meta-gradients are averaged."),
    "side_by_side": _option(int, "Optimizees of an episode, trained in step."),
    "objective": _option(str, f"The meta-loss: {', '.join(OBJECTIVES)}."),
    "normalise": _option(str, f"Weigh several tasks against each other: {', '.join(NORMALISATIONS)}."),
    "random_scaling": _option(float, "Multiply each parameter by exp(U(-s, s)); 0: not at all."),
    "clip": _option(float, "Largest norm of a meta-gradient."),
    "validate_every": _option(int, "Meta-steps between validations; 0: never."),
    "validation_episodes": _option(int, "Episodes of a validation, of each task."),
    "checkpoint_every": _option(int, "Meta-steps between checkpoints."),
    "time_limit": _option(float | None, "Stop early after so many seconds."),
    "seed": Seed,
}
ESTIMATOR_OPTIONS: dict[str, Any] = {
    "unroll": _option(int | None, "Estimator: steps of a window."),
    "std": _option(float | None, "Estimator: size of perturbations."),
    "pairs": _option(int | None, "Estimator: perturbations, each with its opposite."),
    "coordinates": _option(int | None, "Estimator: random coordinates that the gradient goes through."),
    "second_order": _option(bool, "Estimator: include how updates change later gradients.", "--second-order"),
}
IMITATION_OPTIONS: dict[str, Any] = {
    "imitation": _option(str | None, "Imitate a rule at first: a library rule or a rule file."),
    "imitation_weight": _option(float, "Share of imitation at the first meta-step, from 0 to 1."),
    "imitation_until": _option(int | None, "Meta-steps over which that share falls to 0; it stays, if left out."),
}
_FIRST: dict[str, Any] = {
    "task": TaskName,
    "out": Out,
    "estimator": _option(str, f"How meta-gradients are estimated: {', '.join(ESTIMATORS)}."),
}
_LAST: dict[str, Any] = {
    "data_dir": DataDir,
    "device": Device,
    "tensorboard": _option(bool, "Write metrics to OUT/tensorboard as well.", "--tensorboard"),
    "resume": Resume,
    "json": JsonFlag,
}


@dataclass(frozen=True)
class Training:
    """What the shared options ask for."""

    tasks: list[Task]
    estimator: Estimator
    config: MetaTrainConfig
    out: Path
    device: str
    resume: bool
    tensorboard: bool
    json: bool

    @contextmanager
    def followed(self, title: str) -> Iterator[dict[str, Any]]:
        """What to tell a training to call: a bar on the screen, and what writes for TensorBoard if asked."""
        wanted = self.tensorboard and not RANK
        scalars = tensorboard_writer(self.out / "tensorboard") if wanted else nullcontext(None)
        with scalars as write, bar(title) as progress:
            yield {"progress": progress, "on_record": _both(progress.record, write)}


def _both(first: OnRecord, second: OnRecord | None) -> OnRecord:
    """What calls both, if there are two."""

    def call(record: Mapping[str, Any]) -> None:
        first(record)
        if second is not None:
            second(record)

    return call


def training_options(
    defaults: MetaTrainConfig, estimator: Estimator, out: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options, and its argument ``training`` what they ask for.

    Args:
        defaults: Where the options of meta-training start from.
        estimator: The one used by default, truncated BPTT, with its options.
        out: The default folder.
    """
    initial = {"task": ["mlp-digits"], "out": Path(out), "estimator": estimator.name, "device": "cpu"}
    initial |= {name: getattr(defaults, name) for name in CONFIG_OPTIONS}
    initial |= {"curriculum": None, "imitation_weight": 1.0}
    initial |= dict.fromkeys(("second_order", "tensorboard", "resume", "json"), False)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=initial.get(name), annotation=kind)
        for name, kind in {**_FIRST, **ESTIMATOR_OPTIONS, **IMITATION_OPTIONS, **CONFIG_OPTIONS, **_LAST}.items()
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "training"]

        def run(**values: Any) -> None:
            mine = {one.name: values.pop(one.name) for one in own}
            command(**mine, training=_training(defaults, estimator, values))

        run.__doc__, run.__name__ = command.__doc__, command.__name__
        parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _training(defaults: MetaTrainConfig, usual: Estimator, values: dict[str, Any]) -> Training:
    values["curriculum"] = _horizons(values["curriculum"])
    config = replace(defaults, **{name: values[name] for name in CONFIG_OPTIONS})
    estimator = _estimator(values["estimator"], usual, {name: values[name] for name in ESTIMATOR_OPTIONS})
    device = own_device(values["device"])
    return Training(
        estimator=_with_teacher(estimator, values),
        config=config,
        tasks=[tasks.get(name, data_dir=values["data_dir"]).to(device) for name in values["task"]],
        device=device,
        **{name: values[name] for name in ("out", "resume", "tensorboard", "json")},
    )


def own_device(name: str) -> str:
    """Under torchrun each process of a machine has a GPU of its own, if it is to have one and none is named."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if name == "cuda" and local else name


def _estimator(name: str, usual: Estimator, options: dict[str, Any]) -> Estimator:
    """The estimator of that name; what is not given is as in the usual one, or as the estimator itself has it."""
    make = lookup("estimator", name, ESTIMATORS)
    given = given_to(make, f"the estimator {name}", **options)
    return replace(usual, **given) if name == usual.name and isinstance(usual, TruncatedBPTT) else make(**given)


def _with_teacher(estimator: Estimator, values: Mapping[str, Any]) -> Estimator:
    """The estimator, a share of which is imitation if a rule was named."""
    until, name = values["imitation_until"], values["imitation"]
    if name is None:
        if until is not None or values["imitation_weight"] != 1:
            raise OptionError("--imitation-weight and --imitation-until need the rule to imitate: --imitation RULE")
        return estimator
    return Imitation(estimator, load_rule(name), values["imitation_weight"], until, values["coordinates"])


def _horizons(text: str | None) -> tuple[int, ...]:
    """What ``--curriculum`` asks for."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise OptionError(f"--curriculum takes whole numbers, comma-separated, such as 100,200; not {text!r}") from None
