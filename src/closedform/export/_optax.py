"""The target ``optax``: a function that makes an `optax.GradientTransformation`."""

from __future__ import annotations

from closedform.export._body import Body, bracketed, one_step, string_tuple
from closedform.export._dialects import JAX
from closedform.export._header import header, title
from closedform.export._identifiers import function_name
from closedform.export._printer import INDENT
from closedform.export._target import Exporter
from closedform.lang import Kind
from closedform.rules import Rule

_TAKEN = frozenset(
    (
        "jax jnp optax NamedTuple State one_step wide init update updates params state count rate leaf leaves tree "
        "math weights memory moved change g w t p i old new name value weight_decay decays"
    ).split()
)
_NOTES = [
    "Learning rate: give lr, a number or an optax schedule (a function of the steps taken so far). To scale the update "
    "by other means, give lr=1.0 and chain what follows. The sign is optax's: optax.apply_updates adds.",
    "Powers of decays such as beta**t are computed in jax's default float type: float32 unless jax_enable_x64 is set.",
]
_AT_THE_END = ["total_steps is the number of all steps. Past it progress stays 1; compiled steps cannot warn of it."]


def write_optax(rule: Rule) -> str:
    """A file with a function that returns a gradient transformation."""
    body = Body(rule, JAX, _TAKEN)
    notes = [*_NOTES, *(_AT_THE_END if body.needs_total_steps else [])]
    start = header(body, "an optax gradient transformation", "w <- w + lr*(update - weight_decay*w)", notes)
    imports = _IMPORTS if "math." in f"{body.helpers} {_leaf(body)}" else _IMPORTS.replace("import math\n", "")
    return "\n\n".join([start + imports, _STATE, *body.helpers, _WIDE, one_step(body), _transformation(body)])


_IMPORTS = """
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
"""
_STATE = '''class State(NamedTuple):
    """Steps taken, and the rule's states: name -> a tree like the parameters."""

    count: jax.Array
    memory: dict
'''
_WIDE = '''def wide(x):
    """At least single precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
'''


def _transformation(body: Body) -> str:
    name = function_name(body.rule.name, _TAKEN)
    constants = [f"{key}={value!r}" for key, value in body.constants.items()]
    horizon = ["total_steps"] if body.needs_total_steps else []
    signature = [f"lr={float(body.rule.lr)!r}", *constants, "*", *horizon, "weight_decay=0.0"]
    check = _CHECK_HORIZON if horizon else ""
    return f'''{bracketed(f"def {name}(", signature, "):")}
    """{title(body.rule, "a transformation; lr is a number or a schedule")}"""
{check}    decays = not isinstance(weight_decay, (int, float)) or weight_decay != 0

{_init(body)}
{_update(body)}
    return optax.GradientTransformation(init, update)
'''


_CHECK_HORIZON = """\
    if isinstance(total_steps, (int, float)) and total_steps < 1:
        raise ValueError(f"total_steps must be 1 or more, got {total_steps}")
"""


def _init(body: Body) -> str:
    zeros = {
        Kind.ELEMENTWISE: "jnp.zeros_like",
        Kind.PER_TENSOR: "lambda p: wide(jnp.zeros((), p.dtype))",
        Kind.ROWWISE: "lambda p: wide(row_zeros(p))",
        Kind.COLUMNWISE: "lambda p: wide(col_zeros(p))",
        Kind.UNIFORM: "lambda p: jnp.zeros(())",
    }
    lines = ["def init(params):", INDENT + "memory = {}"]
    for kind, zero in zeros.items():
        keys = body.keys(kind)
        if keys:
            lines.append(bracketed("for name in (", string_tuple(keys), "):", INDENT))
            lines.append(f"{INDENT * 2}memory[name] = jax.tree.map({zero}, params)")
    lines.append(INDENT + "return State(jnp.zeros((), jnp.int32), memory)")
    return "\n".join(INDENT + line for text in lines for line in text.split("\n")) + "\n"


def _update(body: Body) -> str:
    reads_w = "w" in body.arguments
    lines = [
        "def update(updates, state, params=None):",
        f"    if {'params is None' if reads_w else 'decays and params is None'}:",
        '        raise ValueError("give params: update(gradients, state, params)")',
        "    leaves, tree = jax.tree.flatten(updates)",
        f"    weights = {'' if reads_w else 'leaves if params is None else '}tree.flatten_up_to(params)",
        "    memory = {}",
        *(_READ_MEMORY if body.memory else []),
        "    rate = lr(state.count) if callable(lr) else lr",
        "    rate = jnp.reshape(rate, ()) if jnp.ndim(rate) else rate",
        *(["    t = jnp.asarray(state.count + 1, float)"] if body.reads_t else []),
        *(f"    {name} = {text}" for name, text in _HORIZON.items() if name in body.arguments),
        "    moved = []",
        "    for i, leaf in enumerate(leaves):",
        *_leaf(body),
        *(_WRITE_MEMORY if body.memory else []),
        "    return tree.unflatten(moved), State(state.count + 1, memory)",
    ]
    return "".join(f"{INDENT}{line}\n" for line in lines)


_READ_MEMORY = [
    "    for name, value in state.memory.items():",
    "        memory[name] = tree.flatten_up_to(value)",
]
_WRITE_MEMORY = [
    "    for name, value in memory.items():",
    "        memory[name] = tree.unflatten(value)",
]


_HORIZON = {"T": "jnp.asarray(total_steps, float)", "progress": "jnp.minimum(t / total_steps, 1.0)"}
_SHAPES = {
    "numel": "leaf.size",
    "ndim": "leaf.ndim",
    "fan_in": "math.prod(leaf.shape[1:])",
    "fan_out": "math.prod(leaf.shape[:1])",
}
"""How inputs of format 2 are computed."""


def _leaf(body: Body) -> list[str]:
    """What happens to one leaf of the tree."""
    given = [{"state": "old"}.get(name, name) for name in body.arguments] + list(body.constants)
    results = "change, new" if body.memory else "change"
    lines = ["g, w = wide(leaf), wide(weights[i])"]
    lines += [f"{name} = jnp.asarray({text}, float)" for name, text in _SHAPES.items() if name in body.arguments]
    if body.memory:
        lines.append("old = {name: wide(value[i]) for name, value in memory.items()}")
    call = bracketed(f"{results} = one_step(", given, ")", INDENT * 3)
    lines += [line.removeprefix(INDENT * 3) for line in call.split("\n")]
    lines += ["if decays:", "    change = change - weight_decay * w"]
    if body.update_kind is not Kind.ELEMENTWISE:
        lines.append("change = jnp.broadcast_to(change, leaf.shape)")
    lines.append("moved.append((rate * change).astype(leaf.dtype))")
    if body.memory:
        lines += ["for name, value in new.items():", "    memory[name][i] = jnp.asarray(value, memory[name][i].dtype)"]
    return [INDENT * 2 + line for line in lines]


OPTAX = Exporter("optax", ".py", "jax and optax", "a function returning an optax.GradientTransformation", write_optax)
