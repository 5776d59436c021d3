"""The stages of a run: each is given what it needs, leaves its result in the run's folder, and gives it as read there.

So a run that was interrupted and a run that was not go on with the very same values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from closedform import learned_optimizers
from closedform._progress import shown
from closedform.distillation import Entry, HallOfFame, distill
from closedform.errors import CheckpointError
from closedform.evaluation import Evaluation, EvaluationOptions, evaluate, torch_threads, verdict
from closedform.learned_optimizers import LearnedOptimizer, RecurrentOptimizer, load_learned_optimizer
from closedform.meta_training import TruncatedBPTT, meta_train
from closedform.pipeline._choice import Chosen, choose
from closedform.pipeline._config import RunConfig
from closedform.pipeline._folder import Folder
from closedform.pipeline._forms import FORM_FILES, candidates
from closedform.pipeline._lead import lead
from closedform.pipeline._listener import Listener, Silent
from closedform.pipeline._tuning import Tuned, tune_candidates
from closedform.rules import Rule, load_rule, save_rule
from closedform.tasks import Task
from closedform.trajectories import Trajectories, load_trajectories, record, save_trajectories

MODEL, RECORDING, HALL = "meta_training/model.safetensors", "trajectories.safetensors", "hall_of_fame.json"
EVALUATION = "evaluation/evaluation.json"


@dataclass(frozen=True)
class Work:
    """What all stages share.

    Attributes:
        config: The run's options.
        task: The task, where it is meta-trained on.
        device: That place.
        folder: The run's folder.
        listener: Hears how it goes on.
    """

    config: RunConfig
    task: Task
    device: str
    folder: Folder
    listener: Listener

    @contextmanager
    def once(self, stage: str) -> Iterator[bool]:
        """Whether a stage is still to be done; if so, it is announced and timed, and finished when the block ends."""
        if self.folder.done(stage):
            yield False
        else:
            with self.always(stage):
                yield True

    @contextmanager
    def always(self, stage: str) -> Iterator[None]:
        """Announce and time a stage that is done in every run."""
        self.listener.stage(stage)
        with self.folder.stage(stage), torch_threads(self.config.threads):
            yield


@dataclass(frozen=True)
class Handed:
    """What is handed over.

    Attributes:
        chosen: What was chosen, and why.
        entry: The equation's place in the hall of fame.
        forms: Its rule as distilled, with a schedule, and tuned.
        rule: The one of these that is handed over.
    """

    chosen: Chosen
    entry: Entry
    forms: Mapping[str, Rule]
    rule: Rule

    @property
    def form(self) -> str:
        """Which form it is."""
        return self.chosen.form


def train(work: Work) -> LearnedOptimizer:
    """Meta-train the network."""
    config = work.config
    result = meta_train(
        new_network(config).to(work.device),
        [work.task.to(work.device)],
        estimator=TruncatedBPTT(config.unroll),
        config=config.train,
        out=work.folder / "meta_training",
        resume=work.folder.resume,
        progress=work.listener.progress,
        on_record=work.listener.record,
    )
    work.listener.result(f"{result.step} meta-steps; best validation {shown(result.best_validation)}")
    return read_network(work)


def read_network(work: Work) -> LearnedOptimizer:
    """The network as `train` left it."""
    return load_learned_optimizer(work.folder / MODEL)


def new_network(config: RunConfig) -> LearnedOptimizer:
    """The network before meta-training; a recurrent one is told the time as the run's options say."""
    recurrent = isinstance(learned_optimizers.get(config.optimizer), RecurrentOptimizer)
    options: dict[str, Any] = {"clock": config.clock} if recurrent else {}
    generator = torch.Generator().manual_seed(config.seed)
    return learned_optimizers.get(config.optimizer, generator=generator, **options)


def record_network(work: Work, network: LearnedOptimizer) -> Trajectories:
    """Record the network at work, no longer than the task's horizon: what follows was not trained for."""
    options = work.config.record
    options = replace(options, steps=min(options.steps, work.task.horizon))
    found = record(network, work.task, options, progress=work.listener.progress)
    save_trajectories(found, work.folder / RECORDING)
    work.listener.result(f"{len(found.updates)} rows of {', '.join(column.name for column in found.columns)}")
    return read_recording(work)


def read_recording(work: Work) -> Trajectories:
    """The recording as `record_network` left it."""
    return load_trajectories(work.folder / RECORDING)


def distil(work: Work, recording: Trajectories) -> HallOfFame:
    """Distil the recording into a hall of fame."""
    hall = distill(recording, config=work.config.distill, progress=work.listener.progress)
    hall.save(work.folder / HALL)
    best = hall.choose()
    work.listener.result(
        f"R^2 {best.r2:.4f} on held-out episodes, complexity {best.complexity}, state cost {best.state_cost}"
    )
    return read_hall(work)


def read_hall(work: Work) -> HallOfFame:
    """The hall as `distil` left it."""
    return HallOfFame.load(work.folder / HALL)


def tune(work: Work, hall: HallOfFame, *, again: bool = False) -> list[Tuned]:
    """Tune candidates of several sizes; ``again``, silently from where that is done, which takes no time."""
    on_cpu = work.task.device.type == "cpu"
    brief, full = (one if on_cpu else replace(one, workers=1) for one in (work.config.screen, work.config.tune))
    return tune_candidates(
        candidates(hall, work.config.sizes),
        work.task,
        brief,
        full,
        work.folder / "tuning",
        resume=again or work.folder.resume,
        listener=Silent() if again else work.listener,
    )


def choose_form(work: Work, hall: HallOfFame) -> Handed:
    """Choose what is handed over, of all forms of all candidates, by validation."""
    found = choose(
        tune(work, hall, again=True),
        work.task,
        work.config.choose,
        work.folder / "validation",
        resume=work.folder.resume,
        progress=work.listener.progress,
    )
    for name, rule in found.rules.items():
        save_rule(rule, work.folder / FORM_FILES[name])
    save_rule(found.rules[found.form], work.folder / "rule.json")
    found.kept(work.folder.path).save(work.folder / "choice.json")
    ratio, worst = found.score, f"on {found.score.task}, where it does worst"
    work.listener.result(
        f"the {found.form}: {math.exp(ratio.mean):.3g} [{math.exp(ratio.low):.3g}, {math.exp(ratio.high):.3g}] "
        f"times the loss of the best tuned baseline {worst}"
    )
    return read_choice(work, hall)


def read_choice(work: Work, hall: HallOfFame) -> Handed:
    """The choice as `choose_form` left it.

    Raises:
        CheckpointError: a file is damaged, or the equation is not in the hall.
    """
    chosen = Chosen.load(work.folder / "choice.json")
    entry = next((entry for entry in hall.entries if entry.equation == chosen.equation), None)
    if entry is None:
        raise CheckpointError(
            f"{work.folder / 'choice.json'} names an equation that is not in hall_of_fame.json; "
            "add --overwrite to start again"
        )
    forms = {name: load_rule(work.folder / file) for name, file in FORM_FILES.items()}
    return Handed(chosen, entry, forms, load_rule(work.folder / "rule.json"))


def compare(work: Work, network: LearnedOptimizer, handed: Handed) -> Evaluation:
    """Compare the network and all forms with tuned baselines, on data that nothing was chosen on."""
    options = work.config.evaluate
    evaluate(
        {work.config.optimizer: network, **handed.forms},
        [work.task],
        seeds=options.seeds,
        baselines=options.baselines,
        config=EvaluationOptions(
            tuning_seeds=options.tuning_seeds, schedules=options.schedules, resume=work.folder.resume
        ),
        out=work.folder / "evaluation",
        progress=work.listener.progress,
    )
    found = read_evaluation(work)
    for entry in found.on(work.task.name):
        work.listener.result(f"{entry.label}: final loss {shown(entry.final_loss.mean)}")
    work.listener.result(first_line(work, handed, found))
    return found


def read_evaluation(work: Work) -> Evaluation:
    """The comparison as `compare` left it."""
    return Evaluation.load(work.folder / EVALUATION)


def first_line(work: Work, handed: Handed, evaluation: Evaluation) -> str:
    """The report's first line."""
    found = verdict(evaluation, work.task.name, handed.form)
    return lead(found, work.task.name, handed.form, won=handed.chosen.beats)
