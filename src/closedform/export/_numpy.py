"""The target ``numpy``: the rule as two pure functions, a reference to translate into other languages."""

from __future__ import annotations

from closedform.export._body import Body, bracketed
from closedform.export._dialects import NUMPY as DIALECT
from closedform.export._header import header
from closedform.export._printer import INDENT
from closedform.export._target import Exporter
from closedform.lang import Kind
from closedform.rules import Rule

_TAKEN = frozenset("np math init update state g w t LR".split())
_NOTES = [
    "A step is: result, state = update(g, w, state); w = w + lr * result, with lr = LR unless you know better. "
    "A parameter that is several tensors has a state for each. Everything is computed in float64; numpy warns of "
    "divisions by zero and invalid values, which give infinity and NaN."
]


def write_numpy(rule: Rule) -> str:
    """A file with ``init(w)`` and ``update(g, w, state)``."""
    body = Body(rule, DIALECT, _TAKEN, result="result")
    imports = "import numpy as np\n"
    if any("math." in source for source in body.helpers):
        imports = "import math\n\n" + imports
    start = (
        header(body, "a reference in numpy", "w <- w + lr*update", _NOTES) + f"\n{imports}\nLR = {float(rule.lr)!r}\n"
    )
    return "\n\n".join([start, *body.helpers, _init(body), _update(body)])


def _init(body: Body) -> str:
    def zero(kind: Kind) -> str:
        return "np.zeros(np.shape(w))" if kind is Kind.ELEMENTWISE else "np.float64(0)"

    items = ['"step": 0', *(f'"{key}": {zero(kind)}' for key, kind in body.memory.items())]
    return f'''def init(w):
    """The state before the first step of a parameter w, an array of any shape."""
{bracketed("return {", items, "}", INDENT)}
'''


def _update(body: Body) -> str:
    constants = [f"{name}={value!r}" for name, value in body.constants.items()]
    signature = ["g", "w", "state", *(["*", *constants] if constants else [])]
    lines = [
        bracketed("def update(", signature, "):"),
        f'{INDENT}"""The update and the new state; g is the gradient at w, of the same shape."""',
        f"{INDENT}g = np.asarray(g, dtype=np.float64)",
    ]
    if "w" in body.arguments:
        lines.append(f"{INDENT}w = np.asarray(w, dtype=np.float64)")
    if "t" in body.arguments:
        lines.append(f'{INDENT}t = np.float64(state["step"] + 1)')
    lines += [INDENT + line for line in body.lines]
    if body.update_kind is not Kind.ELEMENTWISE:
        lines.append(f"{INDENT}result = np.full_like(g, result)")
    lines.append(bracketed("return result, {", ['"step": state["step"] + 1', *body.stores], "}", INDENT))
    return "\n".join(lines) + "\n"


NUMPY = Exporter("numpy", ".py", "numpy", "init and update as pure functions, a reference", write_numpy)
