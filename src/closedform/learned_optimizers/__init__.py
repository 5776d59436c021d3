"""Learned optimizers: networks, and rules with trainable constants, behind one pure interface.

``LEARNED_OPTIMIZERS`` is the table of networks. A new one is a subclass of ``LearnedOptimizer`` in a file of its own,
and a line here for each size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from closedform._names import lookup
from closedform.learned_optimizers._base import LearnedOptimizer, Sizes, State, UpdateFunction
from closedform.learned_optimizers._constants import Role, constant_roles, lift_literals
from closedform.learned_optimizers._dm import DM, DM_SIZES
from closedform.learned_optimizers._mlp import MLP
from closedform.learned_optimizers._recurrent import RecurrentOptimizer, RecurrentSize
from closedform.learned_optimizers._rnnprop import RNNPROP_SIZES, RNNprop, RNNpropSize
from closedform.learned_optimizers._storage import load_network, load_symbolic, save_learned_optimizer
from closedform.learned_optimizers._symbolic import SymbolicOptimizer

LEARNED_OPTIMIZERS: dict[str, Callable[..., LearnedOptimizer]] = {
    **{name: partial(DM, name, size) for name, size in DM_SIZES.items()},
    **{name: partial(RNNprop, name, size) for name, size in RNNPROP_SIZES.items()},
    "mlp": partial(MLP, "mlp"),
}
"""Name -> function of ``generator``, and of the member's options, that makes a new one."""


def get(name: str, *, generator: torch.Generator | None = None, **options: Any) -> LearnedOptimizer:
    """A new learned optimizer, not meta-trained yet.

    Args:
        name: A name in ``LEARNED_OPTIMIZERS``.
        generator: Draws its initial weights; torch's global one by default.
        options: The member's own options: ``scale`` of DM and RNNprop (in RNNprop the largest update), ``width`` of
            the MLP (units of its hidden layers).

    Raises:
        UnknownNameError: there is no such learned optimizer; the message suggests the nearest.
        OptionError: an option's value makes no sense.
    """
    return lookup("learned optimizer", name, LEARNED_OPTIMIZERS)(generator=generator, **options)


def load_learned_optimizer(path: str | Path) -> LearnedOptimizer:
    """Read what ``save_learned_optimizer`` wrote: a network, or a rule as a `SymbolicOptimizer`.

    Raises:
        CheckpointError: the file is missing, damaged, or of a model that this version does not have.
        RuleError: it is a rule file, and malformed.
    """
    path = Path(path)
    return load_symbolic(path) if _is_text(path) else load_network(path, LEARNED_OPTIMIZERS)


def _is_text(path: Path) -> bool:
    """Tell JSON from safetensors, which opens with the length of its header in eight bytes, the last of them zero."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return start.lstrip().startswith(b"{") and b"\0" not in start


__all__ = [
    "DM",
    "LEARNED_OPTIMIZERS",
    "MLP",
    "LearnedOptimizer",
    "RNNprop",
    "RNNpropSize",
    "RecurrentOptimizer",
    "RecurrentSize",
    "Role",
    "Sizes",
    "State",
    "SymbolicOptimizer",
    "UpdateFunction",
    "constant_roles",
    "get",
    "lift_literals",
    "load_learned_optimizer",
    "save_learned_optimizer",
]
