"""The target ``python``: one self-contained file with a `torch.optim.Optimizer`."""

from __future__ import annotations

import textwrap

from closedform.export._body import Body, bracketed, one_step, string_tuple
from closedform.export._dialects import TORCH
from closedform.export._header import header, title
from closedform.export._identifiers import class_name
from closedform.export._printer import INDENT, WIDTH
from closedform.export._target import Exporter
from closedform.lang import Kind
from closedform.rules import Rule

_TAKEN = frozenset(
    (
        "torch scalar plain one_step self params state g w t update defaults weight_decay maximize "
        # entries that torch and its schedulers put in parameter groups
        "param_names initial_lr max_lr min_lr max_momentum base_momentum swa_lr foreach capturable differentiable "
        "fused decoupled_weight_decay overran begins"
    ).split()
)
_OF_A_TENSOR = (Kind.PER_TENSOR, Kind.ROWWISE, Kind.COLUMNWISE)
_MOVES = "w <- w + lr*(update - weight_decay*w)"


def write_python(rule: Rule) -> str:
    """A file with a torch optimizer, without closedform."""
    body = Body(rule, TORCH, _TAKEN)
    scalar = [TORCH.helpers["scalar"]] if body.keys(Kind.UNIFORM) and "scalar" not in body.printer.helpers else []
    imports = "import warnings\n\nimport torch\n" if body.needs_total_steps else "import torch\n"
    start = header(body, "a torch optimizer", _MOVES, []) + f"\n{imports}"
    return "\n\n".join([start, _PLAIN, *scalar, *body.helpers, one_step(body), _class(body)])


def _class(body: Body) -> str:
    name = class_name(body.rule.name)
    methods = [_constructor(body), _STEP, _step_tensor(body)]
    if body.needs_total_steps:
        methods.insert(0, f"{INDENT}overran = False\n")
    if body.keys(*_OF_A_TENSOR):
        methods.append(_load_state_dict(body))
    return f"class {name}(torch.optim.Optimizer):\n{_class_docstring(body)}\n" + "\n".join(methods)


def _class_docstring(body: Body) -> str:
    described = [
        "params: Parameters, named parameters or parameter groups.",
        "lr: Learning rate.",
        *([f"{', '.join(body.constants)}: Constants of the rule; a group may set its own."] if body.constants else []),
        *(
            ["total_steps: Number of all steps; past it progress stays 1, with one warning."]
            if body.needs_total_steps
            else []
        ),
        "weight_decay: Decoupled weight decay.",
        "maximize: Ascend instead of descend.",
    ]
    lines = [f'"""{title(body.rule, "a torch optimizer")}', "", "Args:"]
    for entry in described:
        lines += textwrap.wrap(entry, WIDTH - 8, initial_indent=INDENT, subsequent_indent=INDENT * 2)
    return textwrap.indent("\n".join([*lines, '"""']), INDENT) + "\n"


def _constructor(body: Body) -> str:
    defaults = {"lr": body.rule.lr} | body.constants
    arguments = [f"{name}={float(value)!r}" for name, value in defaults.items()]
    horizon = ["total_steps"] if body.needs_total_steps else []
    options = [*horizon, "weight_decay", "maximize"]
    groups = [f'"{name}": {name}' for name in [*defaults, *options]]
    signature = ["self", "params", *arguments, "*", *horizon, "weight_decay=0.0", "maximize=False"]
    return f"""{bracketed("def __init__(", signature, "):", INDENT)}
        if lr < 0:
            raise ValueError(f"lr must not be negative, got {{lr}}")
        if weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {{weight_decay}}")
{_CHECK_HORIZON if horizon else ""}{bracketed("defaults = {", groups, "}", INDENT * 2)}
        super().__init__(params, defaults)
"""


_CHECK_HORIZON = """\
        if total_steps < 1:
            raise ValueError(f"total_steps must be 1 or more, got {total_steps}")
"""
_OVERRUN = """\
if state["step"] > group["total_steps"] and not self.overran:
    self.overran, limit = True, group["total_steps"]
    warnings.warn(f"past total_steps={limit}: progress stays 1", stacklevel=2)
""".splitlines()
_PLAIN = '''
def plain(value):
    """A rate as a number or a scalar tensor; one element of any shape is enough."""
    if isinstance(value, torch.Tensor):
        return value.detach().reshape(())
    return float(value)
'''.lstrip()
_STEP = '''    @torch.no_grad()
    def step(self, closure=None):
        """Advance every parameter that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups, found = self.param_groups, []
        for group in groups:
            found += [(p, group) for p in group["params"] if p.grad is not None]
        # torch.distributed.checkpoint creates states by a step of rate 0 on zero
        # gradients: that moves nothing
        begins = not self.state and all(plain(group["lr"]) == 0 for group in groups)
        begins = begins and all(param.grad.abs().sum() == 0 for param, _ in found)
        for param, group in found:
            self._step_tensor(param, group, begins)
        return loss
'''


def _step_tensor(body: Body) -> str:
    elementwise, uniform, per_tensor = (body.keys(kind) for kind in (Kind.ELEMENTWISE, Kind.UNIFORM, Kind.PER_TENSOR))
    rows, columns = body.keys(Kind.ROWWISE), body.keys(Kind.COLUMNWISE)
    one, two, three = (INDENT * depth for depth in (1, 2, 3))
    given = [{"state": "old"}.get(name, name) for name in body.arguments]
    given += [f'group["{name}"]' for name in body.constants]
    lines = [
        f"{one}def _step_tensor(self, param, group, begins):",
        *(two + line for line in _START),
        *_loop("state[name] = torch.zeros_like(param)", elementwise, three),
        *_loop("state[name] = torch.zeros((), dtype=dtype, device=param.device)", per_tensor, three),
        *_loop("state[name] = row_zeros(param).to(dtype)", rows, three),
        *_loop("state[name] = col_zeros(param).to(dtype)", columns, three),
        *_loop("state[name] = 0.0", uniform, three),
        f"{two}if begins:",
        f"{three}return",
        *(two + line for line in _INPUTS),
        *(two + line for line in (_OVERRUN if body.needs_total_steps else [])),
        *([f'{two}t = torch.tensor(float(state["step"]), dtype=torch.float64)'] if body.reads_t else []),
        *(f"{two}{name} = {text}" for name, text in _LATE.items() if name in body.arguments),
        *([f"{two}old = {{}}"] if body.memory else []),
        *_loop("old[name] = state[name].to(dtype)", [*elementwise, *per_tensor, *rows, *columns], two),
        *_loop("old[name] = scalar(state[name])", uniform, two),
        bracketed(f"update{', new' if body.memory else ''} = one_step(", given, ")", two),
        *_loop("state[name] = new[name].to(param.dtype, copy=True)", elementwise, two),
        *_loop("state[name] = new[name].to(dtype, copy=True)", [*per_tensor, *rows, *columns], two),
        *_loop("state[name] = float(new[name])", uniform, two),
        *(two + line for line in _MOVE),
    ]
    return "\n".join(lines) + "\n"


def _loop(action: str, keys: list[str], indent: str) -> list[str]:
    """The action for every key: a statement if there is one key, else a loop."""
    if len(keys) == 1:
        return [indent + action.replace("[name]", f'["{keys[0]}"]')]
    return [bracketed("for name in (", string_tuple(keys), "):", indent), indent + INDENT + action] if keys else []


_LATE = {
    "T": 'torch.tensor(float(group["total_steps"]), dtype=torch.float64)',
    "progress": '(t / group["total_steps"]).clamp(max=1.0)',
    "numel": "torch.tensor(float(param.numel()), dtype=torch.float64)",
    "ndim": "torch.tensor(float(param.dim()), dtype=torch.float64)",
    "fan_in": "torch.tensor(float(param.shape[1:].numel()), dtype=torch.float64)",
    "fan_out": "torch.tensor(float(param.shape[:1].numel()), dtype=torch.float64)",
}
"""How inputs of format 2 are computed."""
_START = """\
\"\"\"Advance one parameter, in single precision at least.\"\"\"
if param.grad.layout != torch.strided:
    raise RuntimeError("sparse gradients are not supported")
if param.is_complex():
    raise RuntimeError("complex parameters are not supported")
dtype = torch.promote_types(param.dtype, torch.float32)
state = self.state[param]
if not state:
    state["step"] = 0
""".splitlines()
_INPUTS = """\
state["step"] += 1
g, w = param.grad.to(dtype), param.to(dtype)
if group["maximize"]:
    g = -g
""".splitlines()
_MOVE = """\
decay = plain(group["weight_decay"])
if decay != 0:
    update = update - decay * w
param.copy_(w + plain(group["lr"]) * update)
""".splitlines()


def _load_state_dict(body: Body) -> str:
    names = bracketed("for name in (", string_tuple(body.keys(*_OF_A_TENSOR)), "):", INDENT * 3)
    return f'''    def load_state_dict(self, state_dict):
        """Resume; torch would cast numbers kept for a whole tensor to the tensor's type."""
        super().load_state_dict(state_dict)
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for index, param in zip(indices, params):
            saved = state_dict["state"].get(index, {{}})
{names}
                if name in saved:
                    self.state[param][name] = saved[name].to(param.device, copy=True)
'''


PYTHON = Exporter("python", ".py", "torch", "a torch.optim.Optimizer in one file", write_python)
