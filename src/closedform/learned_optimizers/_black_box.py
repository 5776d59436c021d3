"""Anybody's `torch.optim.Optimizer` behind the pure interface, so that all that reads optimizers can read it.

The real optimizer runs on real parameters, in double precision: an update is a difference of parameters, of which
single precision would leave few digits. What it keeps between steps, in ``state`` and in numbers of its groups or its
own, goes into the `State` and is put back from there where a state is not the one that it gave last; so a run can be
cut anywhere and gone on with. No code is read from files: a dotted path is imported as the user's own import would be.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from closedform._names import unknown_name_message
from closedform.errors import OptionError, UnknownNameError
from closedform.learned_optimizers._base import LearnedOptimizer, Sizes, State, UpdateFunction
from closedform.learned_optimizers._kept import Makers, put_back, taken

Factory: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
_SIDE, _TRIED = 8, 24
"""Of the parameter that is tried, and steps."""
_NEAR = 1e-9
_DRIFT = 2.0
"""Added to others' gradients where a coordinate must not see them: what looks at norms, signs or progress shows."""


class BlackBox(LearnedOptimizer):
    """Somebody else's optimizer, seen from outside.

    Whether it treats coordinates alone (``coordinatewise``), draws random numbers (``random``) and how many buffers it
    keeps are found by trying it on an 8 x 8 parameter.

    Args:
        factory: Makes the optimizer of a list of parameters.
        name: What it is called.
        options: Its options, for provenance.

    Raises:
        OptionError: it cannot be made or stepped, needs a closure, changes the parameters' number or shape, gives
            what is not finite, or remembers something that is not in its ``state``, its groups or its own numbers.
    """

    opaque = True
    source = "imported"

    def __init__(self, factory: Factory, name: str, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.name, self.features = name, ("g", "w")
        self._factory, self._options = factory, dict(options or {})
        self._live: _Live | None = None
        self._makers: Makers = {}
        self.coordinatewise, self.random, self.state_cost = True, False, 0
        self._try()

    def __deepcopy__(self, memo: dict[int, Any]) -> BlackBox:
        return self  # it has no weights, and every state is whole by itself

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        given: Sizes = [w.numel()] if sizes is None else sizes
        shapes = [(size,) if isinstance(size, int) else tuple(size) for size in given]
        self._live = _Live(self._factory, self.name, w, shapes, self._makers)
        return self._live.state()

    def bind(self) -> UpdateFunction:
        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            if self._live is None:
                raise OptionError(f"{self.name} was not begun: call init_state first")
            moved, after = self._live.step(g.detach(), w.detach(), state)
            return moved.to(g.dtype), after

        return update

    def describe(self) -> dict[str, Any]:
        factory = getattr(self._factory, "__module__", "?")
        return {"name": self.name, "module": factory, "options": {key: repr(v) for key, v in self._options.items()}}

    def _try(self) -> None:
        count = _SIDE * _SIDE
        generator = torch.Generator().manual_seed(0)
        gradients = torch.randn(_TRIED, 2 * count, generator=generator, dtype=torch.float64)
        w = torch.randn(2 * count, generator=generator, dtype=torch.float64)
        first, state = self._run(gradients, w, seed=0)
        if not bool(torch.isfinite(first).all()):
            raise OptionError(f"{self.name} gives updates that are not finite for normal gradients")
        self.random = not torch.equal(first, self._run(gradients, w, seed=1)[0])
        if not self.random and not torch.equal(first, self._run(gradients, w, seed=0, cut=True)[0]):
            raise OptionError(
                f"{self.name} remembers something outside its state, groups and numbers: it cannot be read"
            )
        kept = sum(value.numel() for key, value in state.items() if key.startswith("p0.") and value.numel() > 1)
        self.state_cost = round(kept / count)
        sizes = 10 ** (2 * torch.rand(_TRIED, 1, generator=generator, dtype=torch.float64) - 1)
        others = sizes * gradients + _DRIFT
        others[:, 0] = gradients[:, 0]
        if not self.random:
            change = (self._run(others, w, seed=0)[0] - first)[:, 0].abs().max()
            self.coordinatewise = bool(change <= _NEAR * first.abs().max())

    def _run(self, gradients: Tensor, w: Tensor, seed: int, cut: bool = False) -> tuple[Tensor, State]:
        """Updates of two matrices; with ``cut`` every state is put back into a new optimizer."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shape = (_SIDE, _SIDE)
            live = _Live(self._factory, self.name, w, [shape, shape], self._makers)
            state, found = live.state(), []
            for g in gradients:
                live = _Live(self._factory, self.name, w, [shape, shape], self._makers) if cut else live
                update, state = live.step(g, w, state)
                w = w + update
                found.append(update)
        return torch.stack(found), state


class _Live:
    """The real optimizer at work, and the state that it gave last."""

    def __init__(
        self,
        factory: Factory,
        name: str,
        w: Tensor,
        shapes: list[tuple[int, ...]],
        makers: Makers,
    ) -> None:
        self.factory, self.name, self.shapes = factory, name, shapes
        self.sizes = [int(torch.Size(shape).numel()) for shape in shapes]
        self.makers = makers
        self.last: State | None = None
        self._make(w)

    def _make(self, w: Tensor) -> None:
        parts = w.detach().to(torch.float64).split(self.sizes)
        self.leaves = [nn.Parameter(p.reshape(s).clone()) for p, s in zip(parts, self.shapes, strict=True)]
        try:
            self.optimizer = self.factory(self.leaves)
        except Exception as error:
            raise OptionError(f"{self.name} cannot be made: {_line(error)}") from None
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise OptionError(f"{self.name} made a {type(self.optimizer).__name__}, which is no torch.optim.Optimizer")
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()  # Schedule-Free has two modes

    def state(self) -> State:
        """What it keeps, flat, and the step."""
        t = torch.zeros((), dtype=torch.float64) if self.last is None else self.last["t"] + 1
        self.last = {"t": t, **taken(self.optimizer, self.leaves, self.name, self.makers)}
        return self.last

    def step(self, g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
        if state is not self.last:
            self._restore(w, state)
        before = w.to(torch.float64)
        with torch.no_grad():
            for leaf, part, grad in zip(
                self.leaves, before.split(self.sizes), g.to(torch.float64).split(self.sizes), strict=True
            ):
                leaf.copy_(part.reshape(leaf.shape))
                leaf.grad = grad.reshape(leaf.shape).clone()
        try:
            with torch.enable_grad():
                self.optimizer.step()
        except Exception as error:
            hint = " (it seems to need a closure)" if "closure" in str(error) else ""
            raise OptionError(f"{self.name} cannot take a step: {_line(error)}{hint}") from None
        shapes = [tuple(leaf.shape) for group in self.optimizer.param_groups for leaf in group["params"]]
        if shapes != self.shapes:
            raise OptionError(f"{self.name} changes the number or the shapes of its parameters")
        after = torch.cat([leaf.detach().reshape(-1) for leaf in self.leaves])
        return after - before, self.state()

    def _restore(self, w: Tensor, state: State) -> None:
        self._make(w)
        put_back(self.optimizer, self.leaves, state, self.makers)
        self.last = state


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}"[:200] if text else type(error).__name__


def is_dotted(source: str) -> bool:
    """Whether a name is ``module:Class``."""
    return source.count(":") == 1 and not source.startswith("hub:") and "/" not in source


def black_box(path: str, **options: Any) -> BlackBox:
    """Somebody's optimizer by its dotted path, with its own defaults.

        cf.learned_optimizers.black_box("pytorch_optimizer:AdaBelief", lr=1e-3)

    Args:
        path: ``module:Class``.
        options: Options of the class, by name.

    Raises:
        UnknownNameError: there is no such module or class; the nearest is suggested.
        OptionError: it is no optimizer, an option is not one of its, or it cannot be read; see `BlackBox`.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownNameError(f"module {module_name!r} of {path!r} cannot be imported: {_line(error)}") from None
    known = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }
    if name not in known:
        if hasattr(module, name):
            raise OptionError(f"{path!r} is no torch.optim.Optimizer")
        raise UnknownNameError(unknown_name_message(f"optimizer of {module_name}", name, known))
    made = known[name]
    accepted = inspect.signature(made).parameters
    if wrong := [key for key in options if key not in accepted and "kwargs" not in accepted]:
        told = ", ".join(key for key in accepted if key != "params")
        raise OptionError(f"{path} has no option {wrong[0]!r}; it has {told}")
    return BlackBox(lambda parameters: made(parameters, **options), path, options)
