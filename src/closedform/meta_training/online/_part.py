"""What the tuner does for one rule: the groups that train with it, the subset of their coordinates, its constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from closedform.errors import OptionError
from closedform.learned_optimizers import Role, SymbolicOptimizer, constant_roles, lift_literals
from closedform.meta_training.online._config import TunerConfig
from closedform.meta_training.online._rails import Brake, Pace, Rails
from closedform.meta_training.online._sensitivities import Observed, Seen, Sensitivities
from closedform.meta_training.online._subset import Subset, draw
from closedform.optim import RuleOptimizer
from closedform.rules import Rule

LR = "lr"


class Part:
    """One rule, its groups and its constants.

    Args:
        optimizer: The optimizer.
        groups: Its groups with that rule.
        trainable: Names of the constants to tune; None: all but floors.
        config: The tuner's options.
    """

    def __init__(
        self,
        optimizer: RuleOptimizer,
        groups: list[dict[str, Any]],
        trainable: Sequence[str] | None,
        config: TunerConfig,
    ) -> None:
        self.optimizer, self.groups, self.config = optimizer, groups, config
        self.params: list[Tensor] = [param for group in groups for param in group["params"]]
        _check_plain(self.params)
        double = all(param.dtype is torch.float64 for param in self.params)
        self.dtype = torch.float64 if double else torch.float32
        self._tune(groups[0]["rule"], trainable)
        self.hypergradient = torch.zeros(len(self.names), dtype=torch.float64)
        self._pace = Pace(len(self.names), config)
        self._brake = Brake()
        self._subset: Subset | None = None
        self._sensitivities: Sensitivities | Observed | None = None
        self._seen: list[Seen] = []
        self._now: Seen | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that are tuned."""
        return self.symbolic.trainable

    @property
    def factor(self) -> float:
        """What the schedule's learning rate is multiplied by."""
        return self.symbolic.rule().lr

    def rule(self) -> Rule:
        """The rule as it is now."""
        rule = self.symbolic.rule()
        return Rule(rule.name, rule.program, float(self.groups[0]["lr"]) * rule.lr, rule.provenance, rule.results)

    def constants(self) -> dict[str, float]:
        """The tuned constants as they are now."""
        now = self.rule()
        return {name: now.lr if name == LR else now.constants[name] for name in self.names}

    def before(self, generator: torch.Generator) -> None:
        """Look at the gradients of the step that comes."""
        grads = [param.grad for param in self.params]
        if all(grad is None or not grad.numel() for grad in grads):
            self._now = None
            return
        if self._subset is None:
            self._begin(grads, generator)
        assert self._subset is not None
        self._now = self._look(grads)
        if LR in self.names and self.config.rate:
            length = float((self._subset.factors * self._now.g.double().square()).sum().sqrt())
            if self._brake.hit(length):
                self._halve()

    def after(self) -> bool:
        """The step was taken: carry on, and move the constants when it is time; whether all numbers were finite."""
        if self._now is None:
            return True
        assert self._subset is not None
        if isinstance(self._sensitivities, Observed):
            self._now = Observed.seen(self._now, self._subset.of(self.params, self.dtype))
        self._seen.append(self._now)
        if len(self._seen) < self.config.every:
            return True
        seen, self._seen = self._seen, []
        return self._move(seen)

    def _tune(self, text: str, trainable: Sequence[str] | None) -> None:
        self._text = text
        rule = lift_literals(Rule.from_json(text))
        self._lr = rule.lr
        rule = Rule(rule.name, rule.program, 1.0, rule.provenance, rule.results)
        self.symbolic = SymbolicOptimizer(rule, trainable)
        if not self.symbolic.coordinatewise and self.names != (LR,):
            raise OptionError(
                f'rule "{rule.name}" looks at whole parameter tensors, and its constants cannot be tuned on a subset of '
                'coordinates; its learning rate can: trainable=["lr"]'
            )
        program = rule.program
        if self.names != (LR,) and {*program.live.state} != {*program.merged.state}:
            raise OptionError(
                f'rule "{rule.name}" has states that are equal for now and are kept as one: tune trainable=["lr"], or '
                "give their constants different values"
            )
        roles = {LR: Role.POSITIVE, **constant_roles(rule.program.live)}
        self._rails = Rails([roles[name] for name in self.names], self.config.limit)

    def _begin(self, grads: Sequence[Tensor | None], generator: torch.Generator) -> None:
        self._subset = draw(grads, self.config.coordinates, self.config.sampling, generator)
        w = self._subset.of(self.params, self.dtype)
        if not self.symbolic.coordinatewise:
            self._sensitivities = Observed(w, self.config.memory)
            return
        found = Sensitivities(self.symbolic, w, self.groups[0]["total_steps"], self.config.memory)
        found.state |= self._taken(found.state)
        self._sensitivities = found

    def _taken(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """The optimizer's state at the subset, if it has taken steps before."""
        assert self._subset is not None
        states = [self.optimizer.state.get(param) or {} for param in self.params]
        steps = max((int(state.get("step", 0)) for state in states), default=0)
        if not steps:
            return {}
        found = {"t": torch.tensor(float(steps), dtype=torch.float64)}
        for key in fresh:
            if key.startswith("rule."):
                tensors = [state.get(key[5:]) for state in states]
                if fresh[key].dim():
                    found[key] = self._subset.of(tensors, self.dtype)
                else:
                    found[key] = next(value for value in tensors if value is not None).to(fresh[key])
        return found

    def _look(self, grads: Sequence[Tensor | None]) -> Seen:
        assert self._subset is not None
        of = self._subset.of
        g, w, active = of(grads, self.dtype), of(self.params, self.dtype), None
        if any(grad is None for grad in grads):
            active = self._spread([grad is not None for grad in grads]).bool()
        per_group = [group for group in self.groups for _ in group["params"]]
        if any(group["maximize"] for group in self.groups):
            g = g * self._spread([-1.0 if group["maximize"] else 1.0 for group in per_group])
        lr = self._spread([float(group["lr"]) for group in per_group])
        decay = self._spread([float(group["weight_decay"]) for group in per_group])
        return Seen(g, w, lr, decay, active)

    def _spread(self, values: Sequence[float]) -> Tensor:
        """One number a tensor as one a coordinate, [n]; as a scalar where all are the same."""
        assert self._subset is not None
        device = self._subset.factors.device
        if len({*values}) == 1:
            return torch.tensor(float(values[0]), dtype=self.dtype, device=device)
        counts = torch.tensor([len(places) for places in self._subset.picked], device=device)
        return torch.tensor(values, dtype=self.dtype, device=device).repeat_interleave(counts)

    @torch.no_grad()
    def _move(self, seen: list[Seen]) -> bool:
        assert self._subset is not None and self._sensitivities is not None
        path = self._sensitivities.advance(seen)
        g, factors = torch.stack([step.g for step in seen]).double(), self._subset.factors
        path = path.double()
        products = torch.einsum("n,sn,ksn->ks", factors, g, path)
        sizes = (factors * g.square()).sum(-1) * (factors * path.square()).sum(-1)
        if not products.isfinite().all():
            self._sensitivities.forget()
            return False
        self.hypergradient = products.sum(1).cpu()
        if self.config.rate:
            cosines = torch.where(sizes > 0, products / sizes.sqrt(), 0.0).cpu()
            self._set(self._rails.moved(self.symbolic.coordinates.detach(), self._pace.of(cosines), len(seen)))
        return True

    def _halve(self) -> None:
        """Halve the learning rate."""
        x = self.symbolic.coordinates.detach().clone()
        x[self.names.index(LR)] -= math.log(2)
        self._set(torch.maximum(x, self._rails.low))

    def _set(self, x: Tensor) -> None:
        with torch.no_grad():
            self.symbolic.coordinates.copy_(x)
        self._write()

    def _write(self) -> None:
        """The constants as they are now, into the optimizer's groups."""
        rule = self.symbolic.rule()
        if any(name != LR for name in self.names):
            text = Rule(rule.name, rule.program, self._lr, rule.provenance, rule.results).to_json()
            for group in self.groups:
                group["rule"] = text
                group["open_constants"] = [name for name in self.names if name != LR]

    # ------------------------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text alone."""
        subset, carried = self._subset, self._sensitivities
        return {
            "rule": self._text,
            "trainable": list(self.names),
            "coordinates": self.symbolic.coordinates.detach().clone(),
            "hypergradient": self.hypergradient.clone(),
            "subset": None if subset is None else {"picked": list(subset.picked), "factors": subset.factors},
            "sensitivities": None if carried is None else carried.state_dict(),
            "seen": [vars(step).copy() for step in self._seen],
        }

    def check(self, saved: dict[str, Any]) -> None:
        """Refuse what is not this part's.

        Raises:
            ValueError: says why; or KeyError, TypeError for what is no state at all.
        """
        rule = Rule.from_json(saved["rule"])
        if rule.name != self.symbolic.name or list(self.names) != list(saved["trainable"]):
            raise ValueError(
                f"it tunes {saved['trainable']} of {rule.name!r}, not {list(self.names)} of {self.symbolic.name!r}"
            )
        if saved["subset"] is not None:
            picked = saved["subset"]["picked"]
            fits = len(picked) == len(self.params)
            if not fits or any(
                len(own) and int(own.max()) >= p.numel() for own, p in zip(picked, self.params, strict=True)
            ):
                raise ValueError("its parameters are of other sizes")

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume."""
        self._tune(saved["rule"], saved["trainable"])
        self.hypergradient = saved["hypergradient"].clone()
        self._subset = self._sensitivities = None
        if saved["subset"] is not None:
            device = self.params[0].device
            picked = [places.to(device) for places in saved["subset"]["picked"]]
            self._subset = Subset(picked, saved["subset"]["factors"].to(device))
            w = self._subset.of(self.params, self.dtype)
            if self.symbolic.coordinatewise:
                self._sensitivities = Sensitivities(self.symbolic, w, self.groups[0]["total_steps"], self.config.memory)
            else:
                self._sensitivities = Observed(w, self.config.memory)
            self._sensitivities.load_state_dict(saved["sensitivities"])
        self._seen = [Seen(**step) for step in saved["seen"]]
        self._set(saved["coordinates"])


def _check_plain(params: Sequence[Tensor]) -> None:
    for param in params:
        if type(param) not in (Tensor, nn.Parameter):
            raise OptionError(f"MetaTuner works on plain parameters, and one is a {type(param).__name__}")
