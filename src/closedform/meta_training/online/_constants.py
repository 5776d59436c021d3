"""The constants of one rule as the tuner moves them: their coordinates, their rails, and the rule that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.learned_optimizers import Role, SymbolicOptimizer, constant_roles, lift_literals
from closedform.meta_training.online._config import TunerConfig
from closedform.meta_training.online._rails import Pace, Rails
from closedform.rules import Rule

LR = "lr"


class Constants:
    """What is tuned of one rule. The learning rate is a factor on the scheduled one, 1 at first.

    Args:
        text: The rule, as an optimizer's groups hold it.
        trainable: Names of the constants to tune; None: ``lr`` and all but floors.
        config: The tuner's options.

    Raises:
        OptionError: the rule's constants cannot be tuned on a subset of coordinates.
        UnknownNameError: a name is not a constant of the rule.
    """

    def __init__(self, text: str, trainable: Sequence[str] | None, config: TunerConfig) -> None:
        self.text = text
        rule = lift_literals(Rule.from_json(text))
        self._lr = rule.lr
        self.symbolic = SymbolicOptimizer(_with_lr(rule, 1.0), trainable)
        self.names = self.symbolic.trainable
        self.others = [name for name in self.names if name != LR]
        if self.others:
            _check_tunable(rule, self.symbolic.coordinatewise)
        roles = {LR: Role.POSITIVE, **constant_roles(rule.program.live)}
        self._rails = Rails([roles[name] for name in self.names], config.limit)
        self._pace = Pace([name == LR for name in self.names], config)

    @property
    def factor(self) -> float:
        """What the scheduled learning rate is multiplied by."""
        return self.symbolic.rule().lr

    def rule(self, lr: float | None = None) -> Rule:
        """The rule as it is now; its ``lr`` is the untuned rule's, or the factor times a scheduled ``lr``."""
        rule = self.symbolic.rule()
        return _with_lr(rule, self._lr if lr is None else lr * rule.lr)

    @torch.no_grad()
    def move(self, cosines: Tensor) -> None:
        """Move against the cosines of gradient and sensitivity at some steps, [K, steps]."""
        x = self.symbolic.coordinates
        x.copy_(self._rails.moved(x, self._pace.of(cosines), cosines.shape[1]))

    @torch.no_grad()
    def brake(self, by: float) -> None:
        """Divide the learning rate."""
        x = self.symbolic.coordinates
        moved = x.clone()
        moved[self.names.index(LR)] -= torch.tensor(by, dtype=x.dtype).log()
        x.copy_(self._rails.inside(moved))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and text alone."""
        return {
            "rule": self.text,
            "trainable": list(self.names),
            "coordinates": self.symbolic.coordinates.detach().clone(),
            "pace": self._pace.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume; these constants are of the saved rule."""
        self._pace.load_state_dict(saved["pace"])
        with torch.no_grad():
            self.symbolic.coordinates.copy_(saved["coordinates"])


def _with_lr(rule: Rule, lr: float) -> Rule:
    return Rule(rule.name, rule.program, lr, rule.provenance, rule.results)


def _check_tunable(rule: Rule, coordinatewise: bool) -> None:
    if not coordinatewise:
        raise OptionError(
            f'rule "{rule.name}" looks at whole parameter tensors, and its constants cannot be tuned on a subset of '
            'coordinates; its learning rate can: trainable=["lr"]'
        )
    if {*rule.program.live.state} != {*rule.program.merged.state}:
        raise OptionError(
            f'rule "{rule.name}" has states that are equal for now and are kept as one: tune trainable=["lr"], or '
            "give their constants different values"
        )
