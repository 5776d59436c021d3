"""Parameter groups from one line: matrices by one rule, everything else by another, no decay where it does harm."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from closedform.errors import OptionError
from closedform.lang import matrix_shape
from closedform.rules import Rule, load_rule

_TABLES = (nn.Embedding, nn.EmbeddingBag)
_DECAY = "weight_decay"
"""Rules such as AdamW bring a constant of this name, and do then what the option of the same name does."""


def parameter_groups(
    model: nn.Module,
    rule: Rule | str | Path,
    *,
    vectors: Rule | str | Path | None = None,
    lr: float | None = None,
    vectors_lr: float | None = None,
    weight_decay: float | None = None,
    heads: str | Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of a model by rule: one line for what Muon, and training with weight decay, ask for.

    There are up to three groups, of the model's parameters that require a gradient:

    ========  ========================================================================  ===========  ============
    group     its parameters                                                            rule         weight decay
    ========  ========================================================================  ===========  ============
    matrices  weights of linear layers, convolutions, recurrent and attention layers    ``rule``     yes
    tables    embeddings, the output layer, weights of a single row or column           ``vectors``  yes
    vectors   biases, all parameters of normalisation layers, vectors, scalars          ``vectors``  none
    ========  ========================================================================  ===========  ============

    An embedding is a table of vectors, of which a step touches few, and the output layer's rows belong to one class
    each: as matrices they would be taken for what they are not (Jordan et al. 2024 give both to AdamW). An embedding is
    found by its layer, or by "embed" in its name; the output layer is the last `torch.nn.Linear` of the model, also
    where it shares the embedding's weight.

    Args:
        model: The model.
        rule: Of matrices: a library name, a path to a rule file, or a `Rule`.
        vectors: Rule of tables and vectors; that of the matrices if None.
        lr: Learning rate of the matrices (units of parameter per unit of update); if None, what `RuleOptimizer` is
            given, or else the rule's own.
        vectors_lr: Learning rate of tables and vectors, in the same way.
        weight_decay: Decoupled weight decay of matrices and tables (update per unit of parameter). A rule with a
            constant ``weight_decay`` of its own, such as AdamW, gives that up for it. If None: what `RuleOptimizer` is
            given, and the rule's own constant. Vectors have none in any case.
        heads: Names of the output layers, or their first parts ("head" stands for "head.weight"), if they are not the
            last linear layer; () if there is none.

    Returns:
        Groups to give to `RuleOptimizer`, each with its rule, with named parameters.

    Raises:
        OptionError: the model has no parameter to train, or a name in ``heads`` is none of the model's.
        RuleError, UnknownNameError: a rule cannot be loaded.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))
        >>> groups = parameter_groups(model, "muon", vectors="adamw", lr=0.02, vectors_lr=3e-4, weight_decay=0.1)
        >>> [[name for name, _ in group["params"]] for group in groups]
        [['0.weight'], ['2.weight'], ['0.bias', '1.weight', '1.bias', '2.bias']]
        >>> optimizer = RuleOptimizer(groups)
    """
    matrix_rule = load_rule(rule)
    vector_rule = matrix_rule if vectors is None else load_rule(vectors)
    vectors_lr = lr if vectors is None and vectors_lr is None else vectors_lr
    roles: dict[str, list[tuple[str, Tensor]]] = {"matrices": [], "tables": [], "vectors": []}
    for name, param, role in _roles(model, heads):
        roles[role].append((name, param))
    groups = [
        _group(roles["matrices"], matrix_rule, lr, weight_decay),
        _group(roles["tables"], vector_rule, vectors_lr, weight_decay),
        _group(roles["vectors"], _without_decay(vector_rule), vectors_lr, 0.0),
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise OptionError(f"{type(model).__name__} has no parameter that requires a gradient")
    return groups


def _group(
    params: list[tuple[str, Tensor]], rule: Rule, lr: float | None, weight_decay: float | None
) -> dict[str, Any]:
    group: dict[str, Any] = {"params": params, "rule": rule if weight_decay is None else _without_decay(rule)}
    options = {"lr": lr, "weight_decay": weight_decay}
    return group | {name: value for name, value in options.items() if value is not None}


def _without_decay(rule: Rule) -> Rule:
    return rule.with_constants(**{_DECAY: 0.0}) if _DECAY in rule.constants else rule


def _roles(model: nn.Module, heads: str | Iterable[str] | None) -> Iterator[tuple[str, Tensor, str]]:
    """Every parameter to train, once, with its name and what it is."""
    outputs = _last_linear(model) if heads is None else _named(model, [heads] if isinstance(heads, str) else [*heads])
    tables = {id(module.weight) for module in model.modules() if isinstance(module, _TABLES)} | outputs
    seen: set[int] = set()
    for path, module in model.named_modules():
        for own, param in module.named_parameters(recurse=False):
            if param.requires_grad and id(param) not in seen:
                seen.add(id(param))
                name = f"{path}.{own}" if path else own
                yield name, param, _role(name, param, module, tables)


def _role(name: str, param: Tensor, owner: nn.Module, tables: set[int]) -> str:
    own = name.rpartition(".")[2]
    if param.dim() < 2 or "Norm" in type(owner).__name__ or own == "bias":
        return "vectors"
    table = id(param) in tables or "embed" in own.lower() or 1 in matrix_shape(param.shape)
    return "tables" if table else "matrices"


def _last_linear(model: nn.Module) -> set[int]:
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    return {id(module.weight) for module in last}


def _named(model: nn.Module, heads: list[str]) -> set[int]:
    params = dict(model.named_parameters(remove_duplicate=False))
    found: set[int] = set()
    for head in heads:
        own = {id(param) for name, param in params.items() if name == head or name.startswith(f"{head}.")}
        if not own:
            near = difflib.get_close_matches(head, params, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"heads: the model has no parameter or layer {head!r} to train{hint}")
        found |= own
    return found
