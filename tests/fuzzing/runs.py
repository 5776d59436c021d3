"""What runs leave behind and go on from: checkpoints, metrics, finished runs, evolutions, run folders."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from closedform import pipeline
from closedform.evaluation import EvaluationOptions, evaluate, steps_to_target
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, lift_literals
from closedform.meta_training import (
    PES,
    Estimator,
    EvolveConfig,
    ForwardAccumulation,
    MetaTrainConfig,
    TruncatedBPTT,
    evolve,
    meta_train,
    read_metrics,
)
from closedform.meta_training._checkpoint import restore_checkpoint
from closedform.meta_training._trainer import Trainer
from closedform.pipeline._folder import Folder
from closedform.rules import load_rule
from fuzzing.documents import network, printed, quadratic, sure
from fuzzing.harness import Kind
from fuzzing.mutations import spoil_json, spoil_lines, spoil_safetensors

OPTIONS = EvaluationOptions(tuning_seeds=2, tail=2, points=4, resamples=19, workers=1, extensions=0)


SHORT = MetaTrainConfig(steps=3, batch=2, checkpoint_every=1, validate_every=2, validation_episodes=1)


def checkpoints(folder: Path) -> Kind:
    """Of meta-training a network."""
    scaled = dataclasses.replace(SHORT, random_scaling=1.0, side_by_side=2)
    return _checkpoints(folder, network, [(TruncatedBPTT(2), SHORT), (PES(2, std=0.1, pairs=1), scaled)])


def tuning(folder: Path) -> Kind:
    """Of meta-tuning a rule."""

    def rule() -> LearnedOptimizer:
        return SymbolicOptimizer(lift_literals(load_rule("adam")))

    return _checkpoints(folder, rule, [(TruncatedBPTT(2), SHORT), (ForwardAccumulation(2), SHORT)])


def _checkpoints(
    folder: Path, made: Callable[[], LearnedOptimizer], ways: list[tuple[Estimator, MetaTrainConfig]]
) -> Kind:
    places = [folder / str(index) / "checkpoint.safetensors" for index in range(len(ways))]
    for place, (estimator, config) in zip(places, ways, strict=True):
        meta_train(made(), [quadratic()], estimator=estimator, config=config, out=place.parent)

    def check(path: Path) -> None:
        estimator, config = ways[places.index(path)]
        trainer = Trainer(made(), [quadratic()], estimator, config)
        before = trainer.weights()
        try:
            restore_checkpoint(path, trainer)
        except Exception:
            same = all(bool((value == before[key]).all()) for key, value in trainer.weights().items())
            sure(same and trainer.step == 0, "a refused checkpoint changed the trainer")
            raise
        trainer.advance()

    return Kind([(place.read_bytes(), spoil_safetensors) for place in places], check, places)


def metrics(folder: Path) -> Kind:
    config = MetaTrainConfig(steps=6, batch=1, validate_every=2, validation_episodes=1)
    meta_train(network(), [quadratic()], estimator=TruncatedBPTT(2), config=config, out=folder / "good")

    def check(path: Path) -> None:
        for row in read_metrics(path):
            sure(
                row["step"] >= 0 and all(value is None or abs(value) < float("inf") for value in row.values()),
                "numbers",
            )

    return Kind([((folder / "good" / "metrics.jsonl").read_bytes(), spoil_lines)], check, folder / "metrics.jsonl")


def finished_runs(folder: Path) -> Kind:
    def again() -> None:
        found = evaluate({"mine": "momentum"}, [quadratic()], seeds=2, baselines=("sgd",), options=OPTIONS, out=folder)
        sure(len(found.entries) == 2, "another number of entries")
        printed(found)

    again()
    path = folder / "runs.jsonl"
    return Kind([(path.read_bytes(), spoil_lines)], lambda _: again(), path)


def unseen(folder: Path) -> Kind:
    """As the table of unseen tasks goes on: runs of several lengths in one file."""

    def again() -> None:
        steps_to_target("sgd", quadratic(8), 0.5, fractions=(1.5,), slower=(1.5,), seeds=2, options=OPTIONS, out=folder)

    again()
    path = folder / "runs.jsonl"
    return Kind([(path.read_bytes(), spoil_lines)], lambda _: again(), path)


def evolution(folder: Path) -> Kind:
    config = EvolveConfig(generations=3, population=4, tasks=2, validate_every=2)

    def again() -> None:
        rule = evolve(
            load_rule("momentum"), [quadratic(), quadratic(8)], [quadratic(8)], config=config, out=folder, resume=True
        )
        sure(all(abs(value) < float("inf") for value in rule.constants.values()), "constants that are not finite")

    again()
    path = folder / "evolution.json"
    return Kind([(path.read_bytes(), spoil_json)], lambda _: again(), path)


def reports(folder: Path) -> Kind:
    """A finished run that is resumed, which writes its report anew."""
    return _finished(folder, contextlib.nullcontext)


def folders(folder: Path) -> Kind:
    """As `reports`, where the report's numbers and plots, which take long, are not made of what was read."""
    return _finished(folder, _unreported)


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    module = pipeline._report
    with (
        mock.patch.object(module, "response_curves", return_value=()),
        mock.patch.object(module, "write_report"),
    ):
        yield


def _finished(folder: Path, around: Callable[[], contextlib.AbstractContextManager[None]]) -> Kind:
    config = pipeline.preset("smoke")
    config = dataclasses.replace(config, task="quadratic", optimizer="rp-s")
    pipeline.run(config, folder)
    files = {
        "config.json": spoil_json,
        "stages.json": spoil_json,
        "hall_of_fame.json": spoil_json,
        "choice.json": spoil_json,
        "rule.json": spoil_json,
        "rule_distilled.json": spoil_json,
        "rule_tuned.json": spoil_json,
        "trajectories.safetensors": spoil_safetensors,
        "evaluation/evaluation.json": spoil_json,
        "rule_scheduled.json": spoil_json,
        "meta_training/metrics.jsonl": spoil_lines,
        "meta_training/model.safetensors": spoil_safetensors,
        "tuning/chosen/evolution.json": spoil_json,
    }

    def check(_: Path) -> None:
        opened = Folder(folder, config.to_dict(), resume=True, overwrite=False)
        if all(map(opened.done, pipeline.STAGES)):  # else it would do the stage again, which is right, and takes long
            with around():
                pipeline.run(config, folder, resume=True)

    return Kind(
        [((folder / name).read_bytes(), way) for name, way in files.items()], check, [folder / name for name in files]
    )
