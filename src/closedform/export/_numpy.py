"""The target ``numpy``: the rule as two pure functions, a reference to translate into other languages."""

from __future__ import annotations

from closedform.export._body import Body, bracketed
from closedform.export._dialects import NUMPY as DIALECT
from closedform.export._header import header
from closedform.export._printer import INDENT
from closedform.export._target import Exporter
from closedform.lang import Kind
from closedform.rules import Rule

_TAKEN = frozenset("np math warnings init update state g w t LR".split())
_NOTES = [
    "A step is: result, state = update(g, w, state); w = w + lr * result, with lr = LR unless you know better. "
    "A parameter that is several tensors has a state for each. Everything is computed in float64; numpy warns of "
    "divisions by zero and invalid values, which give infinity and NaN."
]
_HORIZON = [
    "update(g, w, state, total_steps) takes the number of all steps besides; past it progress stays 1, and the first "
    "step there warns."
]


def write_numpy(rule: Rule) -> str:
    """A file with ``init(w)`` and ``update(g, w, state)``."""
    body = Body(rule, DIALECT, _TAKEN, result="result")
    notes = [*_NOTES, *(_HORIZON if body.needs_total_steps else [])]
    needs_math = any("math." in source for source in body.helpers) or {"fan_in", "fan_out"} & {*body.arguments}
    builtin = [*(["math"] if needs_math else []), *(["warnings"] if body.needs_total_steps else [])]
    imports = "".join(f"import {name}\n" for name in builtin) + ("\n" if builtin else "") + "import numpy as np\n"
    start = (
        header(body, "a reference in numpy", "w <- w + lr*update", notes) + f"\n{imports}\nLR = {float(rule.lr)!r}\n"
    )
    return "\n\n".join([start, *body.helpers, _init(body), _update(body)])


def _init(body: Body) -> str:
    def zero(kind: Kind) -> str:
        zeros = {
            Kind.ELEMENTWISE: "np.zeros(np.shape(w))",
            Kind.ROWWISE: "row_zeros(np.asarray(w, dtype=np.float64))",
            Kind.COLUMNWISE: "col_zeros(np.asarray(w, dtype=np.float64))",
        }
        return zeros.get(kind, "np.float64(0)")

    items = ['"step": 0', *(f'"{key}": {zero(kind)}' for key, kind in body.memory.items())]
    return f'''def init(w):
    """The state before the first step of a parameter w, an array of any shape."""
{bracketed("return {", items, "}", INDENT)}
'''


_LATE = {
    "T": "np.float64(total_steps)",
    "progress": "np.minimum(t / total_steps, 1.0)",
    "numel": "np.float64(g.size)",
    "ndim": "np.float64(g.ndim)",
    "fan_in": "np.float64(math.prod(g.shape[1:]))",
    "fan_out": "np.float64(math.prod(g.shape[:1]))",
}
"""How inputs of format 2 are computed."""


_CHECK_HORIZON = """\
if total_steps < 1:
    raise ValueError(f"total_steps must be 1 or more, got {total_steps}")
if state["step"] == total_steps:
    warnings.warn(f"past total_steps={total_steps}: progress stays 1", stacklevel=2)
""".splitlines()


def _update(body: Body) -> str:
    constants = [f"{name}={value!r}" for name, value in body.constants.items()]
    horizon = ["total_steps"] if body.needs_total_steps else []
    signature = ["g", "w", "state", *horizon, *(["*", *constants] if constants else [])]
    lines = [
        bracketed("def update(", signature, "):"),
        f'{INDENT}"""The update and the new state; g is the gradient at w, of the same shape."""',
        f"{INDENT}g = np.asarray(g, dtype=np.float64)",
    ]
    if horizon:
        lines += [INDENT + line for line in _CHECK_HORIZON]
    if "w" in body.arguments:
        lines.append(f"{INDENT}w = np.asarray(w, dtype=np.float64)")
    if body.reads_t:
        lines.append(f'{INDENT}t = np.float64(state["step"] + 1)')
    lines += [f"{INDENT}{name} = {text}" for name, text in _LATE.items() if name in body.arguments]
    lines += [INDENT + line for line in body.lines]
    if body.update_kind is not Kind.ELEMENTWISE:
        lines.append(f"{INDENT}result = np.full_like(g, result)")
    lines.append(bracketed("return result, {", ['"step": state["step"] + 1', *body.stores], "}", INDENT))
    return "\n".join(lines) + "\n"


NUMPY = Exporter("numpy", ".py", "numpy", "init and update as pure functions, a reference", write_numpy)
