"""`MetaTuner`: a rule's constants tuned online, while the network trains with it, in the user's own loop.

    optimizer = cf.RuleOptimizer(model.parameters(), "adam")
    tuner = cf.MetaTuner(optimizer)
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss(model(inputs), labels).backward()
        tuner.step()

Before each step the new gradient says, on a random subset of coordinates, whether the step's loss would be lower had
the constants been larger: h = <g, A>, A the sensitivity of the parameters to the constants. Every few steps each
constant's coordinate x moves against the cosines of g and A, which have no units, over their own root mean square:

    x <- x - rate * sum over the steps of c / rms(c),    c = <g, A> / (|g| |A|),

within guard rails. The learning rate is tuned as a factor on what the schedule says, applied during the step alone, so
that schedulers never see it. (Almeida et al. 1999; Franceschi et al. 2017, forward mode; Baydin et al. 2018, online.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from closedform._options import with_options
from closedform.errors import CheckpointError, OptionError
from closedform.meta_training.online._config import TunerConfig
from closedform.meta_training.online._constants import LR
from closedform.meta_training.online._part import Part
from closedform.optim import RuleOptimizer
from closedform.rules import Rule


class MetaTuner:
    """Tune the constants of a `RuleOptimizer`'s rules online, in place of ``optimizer.step()``.

    Groups with the same rule share their constants. A learning-rate scheduler is given the optimizer, and works as
    ever. Constants are written into the optimizer's groups as they move, the factor of the learning rate is not:
    ``rule`` and ``constants`` have both. Save and load the tuner in place of the optimizer.

    Args:
        optimizer: The optimizer, before its first step or after a few; its parameters stay the same from now on.
        trainable: Names of the constants to tune, ``"lr"`` among them if wanted; None: ``lr`` and all but floors.
        config: All other options; by default ``TunerConfig()``.
        options: Fields of `TunerConfig` by name, in place of ``config``'s.

    Raises:
        OptionError: an option makes no sense, or a rule looks at whole parameter tensors and more than its ``lr`` is to
            be tuned; or the optimizer is ``capturable``, or not a `RuleOptimizer`.
        UnknownNameError: a name is not a constant of a rule.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = RuleOptimizer(layer.parameters(), "sgd")
        >>> tuner = MetaTuner(optimizer, every=1)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     layer(torch.ones(1, 2)).square().sum().backward()
        ...     tuner.step()
        >>> sorted(tuner.constants)
        ['lr']
    """

    def __init__(
        self,
        optimizer: RuleOptimizer,
        trainable: Sequence[str] | None = None,
        *,
        config: TunerConfig | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(optimizer, RuleOptimizer):
            raise OptionError(f"MetaTuner tunes the rule of a RuleOptimizer, and {type(optimizer).__name__} is none")
        self.optimizer = optimizer
        self.config = with_options(config or TunerConfig(), options, "option of MetaTuner")
        self._generator = torch.Generator().manual_seed(self.config.seed)
        self._parts = _parts(optimizer, trainable, self.config)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups; so ``torch.amp.GradScaler`` takes the tuner for the optimizer."""
        return self.optimizer.param_groups

    @property
    def rule(self) -> Rule:
        """The rule of the first group with its constants as they are now.

        Its learning rate is that of the next step or, where a scheduler moves it, the one that the schedule begins at,
        times what was tuned: a schedule's end would leave a rule that stands still.
        """
        group = self.param_groups[0]
        return self._parts[0].constants.rule(float(group.get("initial_lr", group["lr"])))

    @property
    def constants(self) -> dict[str, float]:
        """What is tuned of the first group's rule, as it is now; ``lr`` is that of the next step."""
        constants = self._parts[0].constants
        rule, names = constants.rule(float(self.param_groups[0]["lr"])), constants.names
        return {name: rule.lr if name == LR else rule.constants[name] for name in names}

    @property
    def hypergradients(self) -> dict[str, float]:
        """Derivatives of the summed losses of the last ``every`` steps by the first group's coordinates of constants.

        By a rate they are by its logarithm. With ``rate=0`` the tuner only measures them.
        """
        part = self._parts[0]
        return dict(zip(part.constants.names, part.hypergradient.tolist(), strict=True))

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step of the optimizer, carry the sensitivities along, and move the constants when it is time.

        Args:
            closure: Re-evaluates the model and returns the loss; called once.

        Returns:
            The closure's loss, or None.

        Raises:
            OptionError: no parameter has a gradient; or as for ``RuleOptimizer.step``.
            DivergenceError: a gradient is NaN or infinite; the parameters are as before.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not any(part.has_gradients for part in self._parts):
            raise OptionError("no parameter has a gradient: call loss.backward() before tuner.step()")
        for part in self._parts:
            part.before(self._generator)
        with self._rates():
            self.optimizer.step()
        for part in self._parts:
            part.after()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, the optimizer's state included; loads under ``weights_only=True``."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "parts": [part.state_dict() for part in self._parts],
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume, bit for bit; loads the optimizer's state too.

        Raises:
            CheckpointError: it is damaged, or of other rules, constants or parameters.
            RuleError: the optimizer's states belong to a rule that keeps other states.
        """
        generator = torch.Generator()
        try:
            saved = state_dict["parts"]
            for part, own in zip(self._parts, saved, strict=True):
                part.check(own)
            generator.set_state(state_dict["generator"])
            optimizer = state_dict["optimizer"]
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"the tuner's state_dict is damaged, or of another optimizer: {error}") from error
        self.optimizer.load_state_dict(optimizer)
        for part, own in zip(self._parts, saved, strict=True):
            part.load_state_dict(own)
        self._generator = generator

    @contextmanager
    def _rates(self) -> Iterator[None]:
        """The learning rates as tuned, for one step."""
        scheduled = [group["lr"] for group in self.param_groups]
        for part in self._parts:
            factor = part.constants.factor
            for group in part.groups:
                group["lr"] = group["lr"] * factor
        try:
            yield
        finally:
            for group, lr in zip(self.param_groups, scheduled, strict=True):
                group["lr"] = lr


def _parts(optimizer: RuleOptimizer, trainable: Sequence[str] | None, config: TunerConfig) -> list[Part]:
    by_rule: dict[str, list[int]] = {}
    for place, group in enumerate(optimizer.param_groups):
        if group["capturable"]:
            raise OptionError("MetaTuner counts steps on the host: make the RuleOptimizer without capturable=True")
        by_rule.setdefault(group["rule"], []).append(place)
    return [Part(optimizer, places, trainable, config) for places in by_rule.values()]
