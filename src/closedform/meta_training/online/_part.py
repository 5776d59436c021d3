"""What the tuner does for one rule: the groups that train with it, the subset of their coordinates, its constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from closedform.errors import DivergenceError, OptionError
from closedform.meta_training.online._config import TunerConfig
from closedform.meta_training.online._constants import LR, Constants
from closedform.meta_training.online._rails import BRAKE, Brake
from closedform.meta_training.online._sensitivities import Observed, Seen, Sensitivities
from closedform.meta_training.online._subset import Subset, draw
from closedform.optim import RuleOptimizer


class Part:
    """One rule, its groups and its constants.

    Args:
        optimizer: The optimizer.
        places: Which of its groups have that rule.
        trainable: Names of the constants to tune; None: all but floors.
        config: The tuner's options.
    """

    def __init__(
        self, optimizer: RuleOptimizer, places: list[int], trainable: Sequence[str] | None, config: TunerConfig
    ) -> None:
        self.optimizer, self.places, self.config = optimizer, places, config
        self.params: list[Tensor] = [param for group in self.groups for param in group["params"]]
        _check_plain(self.params)
        double = all(param.dtype is torch.float64 for param in self.params)
        self.dtype = torch.float64 if double else torch.float32
        self.constants = Constants(self.groups[0]["rule"], trainable, config)
        self.hypergradient = torch.zeros(len(self.constants.names), dtype=torch.float64)
        self._brake = Brake()
        self._subset: Subset | None = None
        self._sensitivities: Sensitivities | Observed | None = None
        self._seen: list[Seen] = []
        self._now: Seen | None = None
        self._last: Tensor | None = None

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups as they are: loading an optimizer's state makes new ones."""
        return [self.optimizer.param_groups[place] for place in self.places]

    @property
    def has_gradients(self) -> bool:
        """Whether there is anything to step with."""
        return any(param.grad is not None and param.grad.numel() > 0 for param in self.params)

    def before(self, generator: torch.Generator) -> None:
        """Look at the gradients of the step that comes.

        Raises:
            DivergenceError: one is NaN or infinite.
        """
        self._now = None
        if not self.has_gradients:
            return
        grads = [param.grad for param in self.params]
        if self._subset is None:
            self._begin(grads, generator)
        assert self._subset is not None
        now = self._look(grads)
        length = self._sum(now.g.double().square()) ** 0.5
        if not math.isfinite(length):
            raise DivergenceError(
                "a gradient is NaN or infinite: the loss has diverged, or a batch is damaged; the parameters are as "
                "before this step. Load a checkpoint, and give MetaTuner a smaller limit or the optimizer a smaller lr"
            )
        uphill = self._last is not None and self._sum(now.g * (now.w - self._last)) > 0
        if self._brake.hit(length, uphill) and LR in self.constants.names and self.config.rate:
            self.constants.brake(BRAKE)
        self._now, self._last = now, now.w

    def _sum(self, terms: Tensor) -> float:
        """A sum over all coordinates, estimated from its terms at the subset."""
        assert self._subset is not None
        return float((self._subset.factors * terms).sum())

    def after(self) -> None:
        """The step was taken: carry on, and move the constants when it is time."""
        if self._now is None:
            return
        assert self._subset is not None
        if isinstance(self._sensitivities, Observed):
            self._now = Observed.seen(self._now, self._subset.of(self.params, self.dtype))
        self._seen.append(self._now)
        if len(self._seen) == self.config.every:
            seen, self._seen = self._seen, []
            self._move(seen)

    def _begin(self, grads: Sequence[Tensor | None], generator: torch.Generator) -> None:
        self._subset = draw(grads, self.config.coordinates, self.config.sampling, generator)
        self._sensitivities = self._fresh(self._subset)
        if isinstance(self._sensitivities, Sensitivities):
            self._sensitivities.state |= self._taken(self._sensitivities.state)

    def _fresh(self, subset: Subset) -> Sensitivities | Observed:
        """Sensitivities of zero at a subset."""
        symbolic, w = self.constants.symbolic, subset.of(self.params, self.dtype)
        if not symbolic.coordinatewise:
            return Observed(w, self.config.memory)
        return Sensitivities(symbolic, w, self.groups[0]["total_steps"], self.config.memory)

    def _taken(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """The optimizer's state at the subset, if it has taken steps before."""
        assert self._subset is not None
        states = [self.optimizer.state.get(param) or {} for param in self.params]
        steps = max((int(state.get("step", 0)) for state in states), default=0)
        if not steps:
            return {}
        found = {"t": torch.tensor(float(steps), dtype=torch.float64)}
        for key in (key for key in fresh if key.startswith("rule.")):
            tensors = [state.get(key[5:]) for state in states]
            if fresh[key].dim():
                found[key] = self._subset.of(tensors, self.dtype)
            else:
                found[key] = next(value for value in tensors if value is not None).to(fresh[key])
        return found

    def _look(self, grads: Sequence[Tensor | None]) -> Seen:
        assert self._subset is not None
        g, w = self._subset.of(grads, self.dtype), self._subset.of(self.params, self.dtype)
        active = None
        if any(grad is None for grad in grads):
            active = self._spread([grad is not None for grad in grads]).bool()
        per_param = [group for group in self.groups for _ in group["params"]]
        sign = self._spread([-1.0 if group["maximize"] else 1.0 for group in per_param])
        lr = self._spread([float(group["lr"]) for group in per_param])
        decay = self._spread([float(group["weight_decay"]) for group in per_param])
        return Seen(sign * g, w, lr, decay, active)

    def _spread(self, values: Sequence[float]) -> Tensor:
        """One number a tensor as one a coordinate, [n]; as a scalar where all are the same."""
        assert self._subset is not None
        device = self._subset.factors.device
        if len({*values}) == 1:
            return torch.tensor(float(values[0]), dtype=self.dtype, device=device)
        counts = torch.tensor([len(places) for places in self._subset.picked], device=device)
        return torch.tensor(values, dtype=self.dtype, device=device).repeat_interleave(counts)

    @torch.no_grad()
    def _move(self, seen: list[Seen]) -> None:
        assert self._subset is not None
        assert self._sensitivities is not None
        path, factors = self._sensitivities.advance(seen).double(), self._subset.factors
        g = torch.stack([step.g for step in seen]).double()
        products = torch.einsum("n,sn,ksn->ks", factors, g, path)
        self.hypergradient = products.sum(1).cpu()
        if self.config.rate:
            sizes = (factors * g.square()).sum(-1) * (factors * path.square()).sum(-1)
            self.constants.move(torch.where(sizes > 0, products / sizes.sqrt(), 0.0).cpu())
            self.write()

    def write(self) -> None:
        """The constants as they are now, into the optimizer's groups."""
        if self.constants.others:
            text = self.constants.rule().to_json()
            for group in self.groups:
                group["rule"] = text
                group["open_constants"] = list(self.constants.others)

    # ------------------------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text alone."""
        subset, carried = self._subset, self._sensitivities
        return {
            "constants": self.constants.state_dict(),
            "hypergradient": self.hypergradient.clone(),
            "brake": vars(self._brake).copy(),
            "last": self._last,
            "subset": None if subset is None else {"picked": list(subset.picked), "factors": subset.factors},
            "sensitivities": None if carried is None else carried.state_dict(),
            "seen": [vars(step).copy() for step in self._seen],
        }

    def check(self, saved: dict[str, Any]) -> None:
        """Refuse what is not this part's.

        Raises:
            ValueError: says why; or KeyError, TypeError for what is no state at all.
        """
        constants = Constants(saved["constants"]["rule"], saved["constants"]["trainable"], self.config)
        own = self.constants
        if constants.symbolic.name != own.symbolic.name or constants.names != own.names:
            raise ValueError(
                f"it tunes {list(constants.names)} of {constants.symbolic.name!r}, "
                f"not {list(own.names)} of {own.symbolic.name!r}"
            )
        if saved["subset"] is not None:
            picked = saved["subset"]["picked"]
            ends = [int(places.max()) + 1 if len(places) else 0 for places in picked]
            sizes = [param.numel() for param in self.params]
            if len(ends) != len(sizes) or any(end > size for end, size in zip(ends, sizes, strict=True)):
                raise ValueError("its parameters are of other sizes")

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume, after the optimizer has."""
        self.constants = Constants(saved["constants"]["rule"], saved["constants"]["trainable"], self.config)
        self.constants.load_state_dict(saved["constants"])
        self.hypergradient = saved["hypergradient"].clone()
        vars(self._brake).update(saved["brake"])
        here, last = self.params[0].device, saved["last"]
        self._last = None if last is None else last.to(here)
        self._subset = self._sensitivities = None
        if saved["subset"] is not None:
            picked = [places.to(here) for places in saved["subset"]["picked"]]
            self._subset = Subset(picked, saved["subset"]["factors"].to(here))
            self._sensitivities = self._fresh(self._subset)
            self._sensitivities.load_state_dict(saved["sensitivities"])
        self._seen = [Seen.on(here, step) for step in saved["seen"]]
        self.write()


def _check_plain(params: Sequence[Tensor]) -> None:
    for param in params:
        if type(param) not in (Tensor, nn.Parameter):
            raise OptionError(f"MetaTuner works on plain parameters, and one is a {type(param).__name__}")
