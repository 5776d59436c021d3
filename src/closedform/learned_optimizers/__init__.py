"""Learned optimizers: networks, and rules with trainable constants, behind one pure interface.

``LEARNED_OPTIMIZERS`` is the table of networks. A new one is a subclass of ``LearnedOptimizer`` in a file of its own,
and a line here for each size. Weights that ship with the package are in ``PRETRAINED``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from closedform._names import lookup
from closedform._plugins import member, plugins
from closedform.errors import OptionError, UnknownNameError
from closedform.learned_optimizers._base import LearnedOptimizer, Sizes, State, UpdateFunction, fresh_state
from closedform.learned_optimizers._black_box import BlackBox, Factory, black_box, is_dotted
from closedform.learned_optimizers._celo import SEEN as CELO_SEEN
from closedform.learned_optimizers._celo import Celo
from closedform.learned_optimizers._constant_roles import Role, constant_roles, lift_literals
from closedform.learned_optimizers._dm import DM, DM_SIZES
from closedform.learned_optimizers._mlp import MLP
from closedform.learned_optimizers._outside_mlp import OutsideMLP, load_outside_mlp
from closedform.learned_optimizers._outside_module import ModuleOptimizer, from_module
from closedform.learned_optimizers._pretrained import PRETRAINED, pretrained_file
from closedform.learned_optimizers._recurrent import CLOCKS, RecurrentOptimizer, RecurrentSize
from closedform.learned_optimizers._rnnprop import RNNPROP_SIZES, RNNprop, RNNpropSize
from closedform.learned_optimizers._storage import (
    check_weights,
    load_network,
    load_recipe,
    load_symbolic,
    load_weights,
    save_learned_optimizer,
)
from closedform.learned_optimizers._symbolic import SymbolicOptimizer
from closedform.rules import Rule, library_names, load_rule

LEARNED_OPTIMIZERS: dict[str, Callable[..., LearnedOptimizer]] = {
    **{name: partial(DM, name, size) for name, size in DM_SIZES.items()},
    **{name: partial(RNNprop, name, size) for name, size in RNNPROP_SIZES.items()},
    "mlp": partial(MLP, "mlp"),
    "celo": partial(Celo, "celo"),
}
"""Name -> function of ``generator``, and of the member's options, that makes a new one."""


GROUP = "closedform.learned_optimizers"
"""Entry points through which other packages bring some."""


def get(
    name: str, *, generator: torch.Generator | None = None, pretrained: bool = False, **options: Any
) -> LearnedOptimizer:
    """A learned optimizer: a new one, or one whose weights ship with the package.

    Args:
        name: A name in ``LEARNED_OPTIMIZERS``, or of a plug-in (entry points ``closedform.learned_optimizers``); with
            ``pretrained`` also one in ``PRETRAINED``.
        generator: Draws its initial weights; torch's global one by default.
        pretrained: Take the shipped weights, and the options that they were meta-trained with.
        options: The member's own options: ``scale`` (in RNNprop the largest update), and of the MLP ``width``, units
            of its hidden layers.

    Raises:
        UnknownNameError: there is no such learned optimizer; the message suggests the nearest.
        OptionError: an option's value makes no sense, or no weights ship for this one.
    """
    if not pretrained:
        return member("learned optimizer", GROUP, name, LEARNED_OPTIMIZERS)(generator=generator, **options)
    if options:
        raise OptionError(f"shipped weights come with their options; leave out {', '.join(options)}")
    return load_learned_optimizer(name)


def load_learned_optimizer(source: str | Path) -> LearnedOptimizer:
    """Load a learned optimizer.

    Args:
        source: A name in ``PRETRAINED`` ("rp-si"), or the path of a file that ``save_learned_optimizer`` wrote: a
            network, or a rule as a `SymbolicOptimizer`.

    Raises:
        CheckpointError: the file is missing, damaged, or of a model that this version does not have.
        RuleError: it is a rule file, and malformed.
        UnknownNameError: not a path, and no learned optimizer of that name; suggests the nearest.
        OptionError: no weights ship for this one.
    """
    path = _network_path(source)
    if _is_text(path):
        return load_symbolic(path)
    others = {name: _from_plugin(name) for name in plugins(GROUP, LEARNED_OPTIMIZERS)}
    return load_network(path, {**LEARNED_OPTIMIZERS, **others})


def _from_plugin(name: str) -> Callable[..., LearnedOptimizer]:
    return lambda **options: get(name, **options)


def load_optimizer(
    source: Rule | LearnedOptimizer | Factory | str | Path, options: Mapping[str, Any] | None = None
) -> Rule | LearnedOptimizer:
    """Load what can be recorded or evaluated: a rule as `Rule`, a network as `LearnedOptimizer`; either stays as it is.

    Args:
        source: The path of a network's file (``.safetensors``), a name in ``LEARNED_OPTIMIZERS`` or ``PRETRAINED``,
            ``module:Class`` of a `torch.optim.Optimizer` that can be imported, such a class or a function that makes
            one of a list of parameters, or anything that ``load_rule`` takes.
        options: Of an optimizer of somebody's, by name; its own defaults otherwise.

    Raises:
        CheckpointError, RuleError: the file is missing, damaged or malformed.
        UnknownNameError: no rule or network of that name; suggests the nearest.
        OptionError: no weights ship for the network of that name, or somebody's optimizer cannot be read.
    """
    given = dict(options or {})
    if isinstance(source, str) and is_dotted(source):
        return black_box(source, **given)
    if callable(source) and not isinstance(source, (Rule, LearnedOptimizer)):
        return BlackBox(partial(source, **given), _called(source), given)
    if given:
        raise OptionError(f"{source} takes no options: only optimizers that are imported do")
    if isinstance(source, (Rule, LearnedOptimizer)):
        return source
    if str(source).endswith(".safetensors") or source in {**LEARNED_OPTIMIZERS, **PRETRAINED}:
        return load_learned_optimizer(source)
    if isinstance(source, str) and not source.startswith("hub:") and not _is_path(source):
        module, _, name = source.rpartition(".")
        if module and hasattr(sys.modules.get(module), name):
            raise UnknownNameError(f"unknown rule or network {source!r}: an optimizer is named {module}:{name}")
        lookup("rule or network", source, dict.fromkeys((*library_names(), *LEARNED_OPTIMIZERS, *PRETRAINED)))
    return load_rule(source)


def _called(factory: Factory) -> str:
    name = getattr(factory, "__name__", type(factory).__name__)
    return "optimizer" if name == "<lambda>" else name


def recipe(source: str | Path) -> dict[str, Any]:
    """How a network was meta-trained, and what it was measured to do; empty if its file does not say.

    Args:
        source: A name in ``PRETRAINED``, or the path of a network's file.

    Raises:
        CheckpointError: the file is missing, damaged or no network, or its recipe is no JSON object.
        UnknownNameError, OptionError: as ``load_learned_optimizer``.
    """
    return load_recipe(_network_path(source))


def _network_path(source: str | Path) -> Path:
    if isinstance(source, Path) or _is_path(source):
        return Path(source)
    if source not in PRETRAINED:
        lookup("learned optimizer", source, LEARNED_OPTIMIZERS)
    return pretrained_file(source)


def _is_path(source: str) -> bool:
    return source.endswith((".safetensors", ".json")) or "/" in source


def _is_text(path: Path) -> bool:
    """Tell JSON from safetensors, which opens with the length of its header in eight bytes, the last of them zero."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return start.lstrip().startswith(b"{") and b"\0" not in start


__all__ = [
    "CELO_SEEN",
    "CLOCKS",
    "DM",
    "LEARNED_OPTIMIZERS",
    "MLP",
    "PRETRAINED",
    "BlackBox",
    "Celo",
    "LearnedOptimizer",
    "ModuleOptimizer",
    "OutsideMLP",
    "RNNprop",
    "RNNpropSize",
    "RecurrentOptimizer",
    "RecurrentSize",
    "Role",
    "Sizes",
    "State",
    "SymbolicOptimizer",
    "UpdateFunction",
    "black_box",
    "check_weights",
    "constant_roles",
    "fresh_state",
    "from_module",
    "get",
    "lift_literals",
    "load_learned_optimizer",
    "load_optimizer",
    "load_outside_mlp",
    "load_weights",
    "recipe",
    "save_learned_optimizer",
]
