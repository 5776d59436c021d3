"""Damaged state_dicts: each is refused in one line and changes nothing, or is one that an optimizer can go on from.

python tests/optim/damaged_states.py [FILES] [SEED]      # 3000 from seed 0 unless said otherwise
"""

from __future__ import annotations

import copy
import math
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from closedform import RuleOptimizer
from closedform.errors import ClosedFormError
from closedform.lang import memory_kinds
from closedform.optim._rules import program_of

RULES = ("adam", "lion", "momentum", "adafactor", "muon", "cf1", "ademamix")
SHAPES = ((4, 3), (3,), ())
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**63, 10**400, 0.0, 0.5, -0.5, 1e308, math.nan, math.inf, -math.inf, 1j, b"w"),
    *("", "m", "step", "adam", "x" * 10_000, "a\nb", "\x1b[31m", "\ud800", '{"format": "closedform.rule/1"}'),
    *([], {}, (), set(), [1, 2], {"m": 1}, [[]], {"a": {"b": {}}}, object(), len, RuleOptimizer, ValueError("x")),
    *(np.float32(0.1), np.int64(3), np.ones(2), np.float64("nan")),
]


def junk(rng: Random) -> Any:
    """Something that may not belong where it is put."""
    if rng.random() < 0.6:
        return copy.copy(rng.choice(VALUES))
    shape = rng.choice([(), (1,), (3,), (4, 3), (3, 4), (0,), (2, 2, 2)])
    dtype = rng.choice([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
    tensor = torch.full(
        shape, rng.choice([0.0, 1.0, -1.0, math.nan, 2.5]) if dtype.is_floating_point else 1, dtype=dtype
    )
    turn = rng.random()
    if turn < 0.1:
        return tensor.to_sparse()
    if turn < 0.2:
        return tensor.to("meta")
    return tensor.requires_grad_() if turn < 0.25 and dtype.is_floating_point else tensor


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """All containers in a tree, with each of their keys."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield tree, key
            yield from places(value)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield tree, index
            yield from places(value)


def damage(rng: Random, good: dict[str, Any], other: dict[str, Any]) -> Any:
    """A copy with one to three changes; ``other`` is a state_dict of another rule or of other parameters."""
    found: Any = copy.deepcopy(good)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not (choices := list(places(found))):
            return junk(rng)
        inside, key = rng.choice(choices)
        kind = rng.random()
        if kind < 0.2:
            del inside[key]
        elif kind < 0.6:
            inside[key] = junk(rng)
        elif kind < 0.7:
            inside[key] = copy.deepcopy(rng.choice(choices)[0])
        elif kind < 0.8 and (theirs := list(places(other))):
            their, place = rng.choice(theirs)
            inside[key] = copy.deepcopy(their[place])
        elif kind < 0.9 and isinstance(inside, dict):
            inside[rng.choice(["m", "step", "params", 0, 7, "lr", (1, 2), None, "x\ny"])] = inside.pop(key)
        elif isinstance(inside, list):
            inside.insert(rng.randint(0, len(inside)), junk(rng))
    return found if rng.random() > 0.02 else junk(rng)


def optimizer_of(rule: str, shapes: tuple[tuple[int, ...], ...] = SHAPES, **options: object) -> RuleOptimizer:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.5}]
    optimizer = RuleOptimizer(groups, rule, total_steps=9, **options)
    for _ in range(2):
        take_a_step(optimizer)
    return optimizer


def take_a_step(optimizer: RuleOptimizer) -> None:
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.full_like(param, 0.25)
    optimizer.step()


def sure(holds: object, what: str) -> None:
    """Raises AssertionError, also under -O, which a test script may not be run with."""
    if not holds:
        raise AssertionError(what)


def check_usable(optimizer: RuleOptimizer) -> None:
    """What was accepted makes sense: options are numbers, states fit, and a step can be taken."""
    for group in optimizer.param_groups:
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        sure(math.isfinite(lr) and lr >= 0 and math.isfinite(decay) and decay >= 0, f"lr {lr}, weight decay {decay}")
        sure(type(group["maximize"]) is bool, "maximize is no bool")
        kinds = memory_kinds(program_of(group["rule"]))
        for param in group["params"]:
            state = optimizer.state.get(param, {})
            if state:
                sure(float(state["step"]) >= 0 and float(state["step"]).is_integer(), f"step {state['step']}")
                for key in kinds:
                    sure(isinstance(state[key], Tensor) and state[key].is_floating_point(), f"{key} is no state")
    copy.deepcopy(optimizer.state_dict())
    take_a_step(optimizer)


def everything(optimizer: RuleOptimizer) -> list[Any]:
    """A copy of all that a load could change."""
    groups = [{key: copy.copy(value) for key, value in group.items()} for group in optimizer.param_groups]
    states = [
        {key: value.clone() if isinstance(value, Tensor) else value for key, value in optimizer.state[param].items()}
        for group in optimizer.param_groups
        for param in group["params"]
    ]
    weights = [param.detach().clone() for group in optimizer.param_groups for param in group["params"]]
    return [groups, states, weights]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a is b or (isinstance(b, Tensor) and torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def fuzz(count: int, seed: int = 0) -> Counter[str]:
    """What became of them; the first that should not have been raises AssertionError with its number."""
    draw, done = Random(seed), Counter[str]()
    for number in range(count):
        rng = Random(draw.getrandbits(64))
        rule, options = rng.choice(RULES), rng.choice([{}, {}, {"state_dtype": torch.bfloat16}, {"backend": "eager"}])
        optimizer = optimizer_of(rule, **options)
        other = optimizer_of(rng.choice(RULES), rng.choice([SHAPES, ((3, 4), (2,), (1,))])).state_dict()
        damaged = damage(rng, optimizer.state_dict(), other)
        before = everything(optimizer)
        try:
            optimizer.load_state_dict(damaged)
        except ClosedFormError as error:
            sure(str(error).isprintable() and len(str(error)) < 1000, f"{number}: message {str(error)[:500]!r}")
            sure(same(everything(optimizer), before), f"{number}: a failed load has changed the optimizer")
            take_a_step(optimizer)
            done["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{number} ({rule}): {error!r:.500}") from error
        else:
            try:
                check_usable(optimizer)
            except Exception as error:
                raise AssertionError(f"{number} ({rule}) was accepted: {error!r:.500}") from error
            done["accepted"] += 1
    return done


if __name__ == "__main__":
    torch.set_num_threads(1)
    for what, found in fuzz(*map(int, sys.argv[1:] or ["3000"])).items():
        sys.stdout.write(f"{found:7d} {what}\n")
