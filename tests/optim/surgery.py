"""Random surgery on an optimizer between its steps, and the same on torch's own: both must go on alike.

    python tests/optim/surgery.py [SEQUENCES] [SEED]      # 2000 sequences from seed 0 unless said otherwise

A sequence is some ten steps. Before each, parameters are cut down, grown (also into a buffer allocated before),
transposed, converted, swapped and flattened into one buffer, with their states; states are changed and dropped;
gradients come in other strides and types, or not at all; parameters and groups come and go. Now and then a parameter is
changed and its states or gradients are not: then the step must be refused, and must change nothing.
"""

from __future__ import annotations

import copy
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from closedform import Rule, RuleOptimizer
from closedform.errors import OptionError

LAGS = Rule.parse("lags", "-m - 0.5*lag(g, 2) - 0.25*lag(m, 2)", state={"m": "0.9*m + 0.1*g"})
LR = 0.01
PAIRS: dict[str, tuple[str | Rule, Callable[[list[nn.Parameter]], Optimizer], dict[str, str]]] = {
    "adam": ("adam", lambda p: Adam(p, lr=LR), {"m": "exp_avg", "v": "exp_avg_sq"}),
    "adamw": ("adamw", lambda p: AdamW(p, lr=LR), {"m": "exp_avg", "v": "exp_avg_sq"}),
    "momentum": ("momentum", lambda p: SGD(p, lr=LR, momentum=0.9), {"m": "momentum_buffer"}),
    "sgd": ("sgd", lambda p: SGD(p, lr=LR), {}),
    "rmsprop": ("rmsprop", lambda p: RMSprop(p, lr=LR), {"v": "square_avg"}),
    "muon": ("muon", lambda p: RuleOptimizer(p, "muon", lr=LR, backend="reference"), {}),
    "lags": (LAGS, lambda p: RuleOptimizer(p, LAGS, lr=LR, backend="reference"), {"m": "m"}),
}
"""Rule, its counterpart, and what that calls its states; torch has no matrix rule for all shapes and none with lags."""
BACKENDS = ("default", "eager", "default", "reference")
"""The default is the compiled one; parameters with gaps between their elements it leaves to the eager one."""


@dataclass
class Sequence:
    """One optimizer under random surgery beside its counterpart; all is drawn from the seed."""

    seed: int
    name: str = ""
    backend: str = ""
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.name = self.name or self.rng.choice(list(PAIRS))
        self.backend = self.backend or BACKENDS[self.seed % len(BACKENDS)]
        rule, make, self.names = PAIRS[self.name]
        values = [self.noise(self.shape()) for _ in range(self.rng.randint(1, 4))]
        backend = None if self.backend == "default" else self.backend
        self.mine: Optimizer = RuleOptimizer(self.parameters(values), rule, lr=LR, backend=backend)
        self.theirs = make(self.parameters(values))

    def run(self, steps: int = 10) -> Counter[str]:
        """Raises AssertionError where the two differ."""
        for _ in range(steps):
            for _ in range(self.rng.randint(0, 2)):
                surgery = self.rng.choice(SURGERIES)
                if surgery(self):
                    self.done[surgery.__name__.strip("_")] += 1
            self.gradients()
            if self.rng.random() < 0.15 and self.spoil():
                self.done["refused"] += 1
            self.mine.step()
            self.theirs.step()
            self.done["steps"] += 1
            self.compare()
        return self.done

    # ------------------------------------------------------------------------------------------------------- drawing

    def noise(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(self.rng.getrandbits(40))
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def shape(self) -> tuple[int, ...]:
        return tuple(self.rng.choice((0, 1, 2, 3, 4, 5, 8)) for _ in range(self.rng.randint(0, 3)))

    def parameters(self, values: list[Tensor]) -> list[nn.Parameter]:
        return [nn.Parameter(value.clone()) for value in values]

    def pick(self) -> list[tuple[Optimizer, nn.Parameter]]:
        """The same parameter of both."""
        number = self.rng.randrange(len(self.mine.param_groups))
        place = self.rng.randrange(len(self.mine.param_groups[number]["params"]))
        return [(side, side.param_groups[number]["params"][place]) for side in (self.mine, self.theirs)]

    def change(
        self, picked: list[tuple[Optimizer, nn.Parameter]], how: Callable[[Tensor], Tensor], *, states: bool = True
    ) -> bool:
        """Change a parameter in place, and its states with it."""
        copied = self.rng.random() < 0.5
        for side, param in picked:
            param.grad, param.data = None, how(param.data)
            for key, value in side.state[param].items() if states and param in side.state else ():
                if key != "step" and isinstance(value, Tensor):
                    changed = how(value)
                    side.state[param][key] = changed.clone() if copied else changed
        return True

    def gradients(self) -> None:
        """New gradients: of any strides and, where torch allows it for ours, of another type; some are missing."""
        for own, other in zip(self.mine.param_groups, self.theirs.param_groups, strict=True):
            for param, twin in zip(own["params"], other["params"], strict=True):
                grad = self.noise(tuple(param.shape), param.dtype)
                kind = self.rng.random()
                if kind < 0.1:
                    param.grad = twin.grad = None
                    continue
                twin.grad = grad.clone()
                if kind < 0.2:
                    grad = torch.stack([grad, grad], -1)[..., 0]
                elif kind < 0.3 and grad.dim() == 2:
                    grad = grad.t().contiguous().t()
                param.grad = grad
                if 0.3 < kind < 0.4 and param.dtype is torch.float32:
                    param.grad.data = grad.double()

    # ------------------------------------------------------------------------------------------------------ checking

    def spoil(self) -> bool:
        """Change a parameter or state alone: the step must be refused and change nothing. All is put back."""
        [(side, param), _] = self.pick()
        if param.dim() == 0 or param.shape[0] < 2 or param.grad is None:
            return False
        states = [key for key in side.state.get(param, {}) if key != "step"]
        data, grad, kept = param.data, param.grad, dict(side.state.get(param, {}))
        what = self.rng.choice(["parameter", "gradient", *(["state"] if states else [])])
        if what == "parameter":
            param.data = data[:1]
        elif what == "gradient":
            param.grad.data = grad.data[1:]
        else:
            key = self.rng.choice(states)
            side.state[param][key] = kept[key][:1]
        before = self.snapshot()
        try:
            side.step()
        except OptionError:
            pass
        else:
            raise AssertionError(f"a {what} alone was cut, and the step was taken")
        for found, expected in zip(self.snapshot(), before, strict=True):
            assert torch.equal(found, expected), "a refused step has changed something"
        param.data = data
        param.grad = None
        param.grad = self.noise(tuple(param.shape), param.dtype)
        self.twin(param).grad = param.grad.clone()
        if kept:
            side.state[param].update(kept)
        return True

    def twin(self, param: nn.Parameter) -> nn.Parameter:
        for own, other in zip(self.mine.param_groups, self.theirs.param_groups, strict=True):
            for mine, theirs in zip(own["params"], other["params"], strict=True):
                if mine is param:
                    return theirs
        raise AssertionError("no such parameter")

    def snapshot(self) -> list[Tensor]:
        found = [param.detach().clone() for group in self.mine.param_groups for param in group["params"]]
        for group in self.mine.param_groups:
            for param in group["params"]:
                state = self.mine.state.get(param, {})
                # a state may have been created, at its beginning, for a step that was refused
                found += [torch.as_tensor(state.get("step", 0))]
                if state.get("step"):
                    found += [state[key].clone() for key in sorted(state) if key != "step"]
        return found

    def compare(self) -> None:
        # what has been in single precision keeps its rounding
        tolerance = {"rtol": 2e-4, "atol": 2e-5} if self.done["convert"] else {"rtol": 1e-9, "atol": 1e-11}
        for own, other in zip(self.mine.param_groups, self.theirs.param_groups, strict=True):
            for param, twin in zip(own["params"], other["params"], strict=True):
                assert param.dtype is twin.dtype
                torch.testing.assert_close(param.data, twin.data, **tolerance)
                for key, theirs in self.names.items():
                    if theirs in self.theirs.state.get(twin, {}):
                        torch.testing.assert_close(
                            self.mine.state[param][key], self.theirs.state[twin][theirs], msg=key, **tolerance
                        )


def _cut(self: Sequence) -> bool:
    picked = self.pick()
    shape = picked[0][1].shape
    if not shape:
        return False
    dim = self.rng.randrange(len(shape))
    start = self.rng.randint(0, shape[dim])
    length = self.rng.randint(0, shape[dim] - start)
    return self.change(picked, lambda x: x.narrow(dim, start, length))


def _grow(self: Sequence) -> bool:
    picked = self.pick()
    shape = tuple(picked[0][1].shape)
    if not shape:
        return False
    more = self.noise((self.rng.randint(1, 4), *shape[1:]))
    return self.change(picked, lambda x: torch.cat([x, more.square().to(x.dtype)]))


def _grow_into_a_buffer(self: Sequence) -> bool:
    """The parameter begins where it was: its address does not tell."""
    picked = self.pick()
    shape = tuple(picked[0][1].shape)
    if not shape:
        return False
    rows = shape[0]
    more = self.noise((3, *shape[1:])).square()
    self.change(picked, lambda x: torch.cat([x, more.to(x.dtype)])[:rows])
    self.gradients()
    self.mine.step()
    self.theirs.step()

    def whole(x: Tensor) -> Tensor:
        if not x.is_contiguous() or x.untyped_storage().nbytes() < (rows + 3) * (x[:1].numel() or 1) * x.element_size():
            return torch.cat([x, more.to(x.dtype)])
        return torch.cat([x, more.to(x.dtype)], out=x.new_empty(0)) if x.numel() == 0 else _widened(x, more)

    return self.change(picked, whole)


def _widened(x: Tensor, more: Tensor) -> Tensor:
    wide = x.as_strided((x.shape[0] + len(more), *x.shape[1:]), x.stride())
    wide[x.shape[0] :] = more.to(x.dtype)
    return wide


def _transpose(self: Sequence) -> bool:
    picked = self.pick()
    if picked[0][1].dim() < 2:
        return False
    contiguous = self.rng.random() < 0.5
    return self.change(picked, lambda x: x.transpose(0, 1).contiguous() if contiguous else x.transpose(0, 1))


def _reshape(self: Sequence) -> bool:
    return self.change(self.pick(), lambda x: x.reshape(-1))


def _convert(self: Sequence) -> bool:
    picked = self.pick()
    dtype = torch.float32 if picked[0][1].dtype is torch.float64 else torch.float64
    return self.change(picked, lambda x: x.to(dtype))


def _copy(self: Sequence) -> bool:
    return self.change(self.pick(), torch.clone)


def _flatten(self: Sequence) -> bool:
    """All parameters become parts of one buffer."""
    for side in (self.mine, self.theirs):
        params = [param for group in side.param_groups for param in group["params"]]
        for dtype in {param.dtype for param in params}:
            alike = [param for param in params if param.dtype is dtype]
            flat = torch.cat([param.data.reshape(-1) for param in alike])
            for param, part in zip(alike, flat.split([param.numel() for param in alike]), strict=True):
                param.data = part.view(param.shape)
    return True


def _zero_states(self: Sequence) -> bool:
    for side, param in self.pick():
        for key, value in side.state[param].items() if param in side.state else ():
            if key != "step" and isinstance(value, Tensor):
                value.zero_()
    return True


def _begin_anew(self: Sequence) -> bool:
    for side, param in self.pick():
        side.state.pop(param, None)
    return True


def _swap(self: Sequence) -> bool:
    """Another parameter object with the state of the old one, as densification does it."""
    picked = self.pick()
    shape = tuple(picked[0][1].shape)
    more = self.noise((2, *shape[1:])) if shape else None
    for side, param in picked:
        state = side.state.pop(param, None)
        longer = [param.data] if more is None else [param.data, more.to(param.dtype)]
        new = nn.Parameter(torch.cat(longer) if shape else param.data.clone())
        for group in side.param_groups:
            group["params"] = [new if own is param else own for own in group["params"]]
        if state:
            for key, value in state.items():
                if key != "step" and isinstance(value, Tensor):
                    extra = [] if more is None else [torch.zeros_like(more, dtype=value.dtype)]
                    state[key] = torch.cat([value, *extra]) if shape else value.clone()
            side.state[new] = state
    return True


def _add_group(self: Sequence) -> bool:
    if len(self.mine.param_groups) > 3:
        return False
    values = [self.noise(self.shape()) for _ in range(self.rng.randint(1, 2))]
    for side in (self.mine, self.theirs):
        side.add_param_group({"params": self.parameters(values), "lr": 2 * LR})
    return True


def _remove_group(self: Sequence) -> bool:
    if len(self.mine.param_groups) < 2:
        return False
    number = self.rng.randrange(len(self.mine.param_groups))
    for side in (self.mine, self.theirs):
        for param in side.param_groups.pop(number)["params"]:
            side.state.pop(param, None)
    return True


def _reorder(self: Sequence) -> bool:
    for side in (self.mine, self.theirs):
        side.param_groups.reverse()
        for group in side.param_groups:
            group["params"].reverse()
    return True


def _append(self: Sequence) -> bool:
    value = self.noise(self.shape())
    for side in (self.mine, self.theirs):
        side.param_groups[0]["params"].append(nn.Parameter(value.clone()))
    return True


def _drop(self: Sequence) -> bool:
    if len(self.mine.param_groups[0]["params"]) < 2:
        return False
    for side in (self.mine, self.theirs):
        side.state.pop(side.param_groups[0]["params"].pop(0), None)
    return True


def _change_rate(self: Sequence) -> bool:
    rate = self.rng.choice((0.5, 1, 3)) * LR
    for side in (self.mine, self.theirs):
        side.param_groups[-1]["lr"] = rate
    return True


def _copy_all(self: Sequence) -> bool:
    self.mine, self.theirs = copy.deepcopy((self.mine, self.theirs))
    return True


SURGERIES = (
    *(_cut, _cut, _grow, _grow_into_a_buffer, _transpose, _reshape, _convert, _copy, _flatten, _zero_states),
    *(_begin_anew, _swap, _add_group, _remove_group, _reorder, _append, _drop, _change_rate, _copy_all),
)


def fuzz(sequences: int, seed: int = 0) -> Counter[str]:
    """Counts of what was done; the first difference is an AssertionError that names its seed."""
    done: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(seed, seed + sequences):
            sequence = Sequence(number)
            try:
                done += sequence.run()
            except Exception as error:
                name = f"Sequence({number}) ({sequence.name}, {sequence.backend})"
                raise AssertionError(f"{name}: {error!r}") from error
            done[f"sequences, {sequence.backend}"] += 1
    return done


if __name__ == "__main__":
    torch.set_num_threads(1)
    for what, count in sorted(fuzz(*map(int, sys.argv[1:] or ["2000"])).items()):
        sys.stdout.write(f"{count:7d} {what}\n")
