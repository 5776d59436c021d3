"""The six networks of the table of interpretability, and how each is meta-trained: alike, so that they can be compared.

The plain ones learn from the loss alone, by truncated backpropagation over episodes of one length. CL lets episodes
grow; IL adds a teacher, Adam, whose share falls to nothing over the run (Chen et al. 2020, Training Stronger Baselines
for Learning to Optimize). All have the same number of meta-steps, windows, episodes side by side and learning rates,
and none is told how far an episode is: they read what the paper's read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from closedform import learned_optimizers
from closedform.meta_training import Imitation, MetaTrainConfig, MetaTrainResult, TruncatedBPTT, meta_train
from closedform.reproduce._shipped import reported
from closedform.rules import load_rule
from closedform.tasks import Task

CLOCK = "own"
"""Inputs are the paper's alone; a unit of each layer starts as a clock. See ``learned_optimizers.CLOCKS``."""


@dataclass(frozen=True)
class Model:
    """One column of the paper's table.

    Attributes:
        network: Its name in ``LEARNED_OPTIMIZERS``.
        taught: Whether with curriculum and imitation.
        tpf: What the paper reports: the temporal perception field of each input feature, in steps.
        mc: Its mapping complexity.
        numerical, distilled: Its loss after about 620 steps and its deviation, of the network and of its rule.
    """

    network: str
    taught: bool
    tpf: tuple[float, ...]
    mc: float
    numerical: tuple[float, float]
    distilled: tuple[float, float]


def _model(name: str, network: str, tpf: tuple[float, ...], mc: float) -> Model:
    """A column, with the losses that the paper reports of it."""
    told = reported(network)
    return Model(network, name.endswith("+CL+IL"), tpf, mc, told.losses[name], told.distilled[name])


MODELS: Mapping[str, Model] = {
    name: _model(name, network, tpf, mc)
    for name, network, tpf, mc in (
        ("DM", "dm", (25.2,), 182.9),
        ("DM+CL+IL", "dm", (27.4,), 220.6),
        ("RP", "rp", (5.3, 2.4), 104.7),
        ("RP+CL+IL", "rp", (5.7, 3.1), 121.4),
        ("RP_s", "rp-s", (5.5, 2.2), 80.3),
        ("RP_si", "rp-si", (4.6, 2.0, 4.1), 67.0),
    )
}
"""Name in the paper -> the model, with what the paper's table (interpretability and performance) reports."""


@dataclass(frozen=True)
class Training:
    """How all six are meta-trained.

    Attributes:
        task: The optimizee, with the length of its episodes.
        config: The meta-training of the plain ones; its seed is set here.
        curriculum: Lengths of the first episodes with CL.
        unroll: Steps of a window.
        coordinates: Of each optimizee, those that the meta-gradient goes through; None: all.
        teacher_lr: Adam's learning rate in IL.
    """

    task: Task
    config: MetaTrainConfig
    curriculum: tuple[int, ...]
    unroll: int = 20
    coordinates: int | None = None
    teacher_lr: float = 0.01

    def of(self, model: Model, seed: int) -> tuple[MetaTrainConfig, TruncatedBPTT | Imitation]:
        """Options and estimator of one network."""
        base = TruncatedBPTT(self.unroll, coordinates=self.coordinates)
        config = replace(self.config, seed=seed)
        if not model.taught:
            return config, base
        teacher = replace(load_rule("adam"), lr=self.teacher_lr)
        taught = Imitation(base, teacher, weight=1.0, until=config.steps, coordinates=self.coordinates)
        return replace(config, curriculum=self.curriculum, curriculum_patience=1), taught


def trained(model: Model, training: Training, seed: int, out: Path | None) -> MetaTrainResult:
    """A network of a seed, meta-trained; from its files, as far as they go."""
    optimizer = learned_optimizers.get(model.network, generator=torch.Generator().manual_seed(seed), clock=CLOCK)
    config, estimator = training.of(model, seed)
    return meta_train(optimizer, [training.task], estimator=estimator, config=config, out=out, resume=out is not None)
