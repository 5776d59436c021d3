"""Names and texts of a plan's values in generated C."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from closedform.codegen._plan import Node, Plan, Ring
from closedform.lang import OPERATORS, Kind

TYPES = {"float32": "float", "float64": "double", "bfloat16": "cf_bf16"}
"""Storage types."""
_TEMPLATES = {"reciprocal": "(1 / {0})", "pow_half": "cf_pow_half({0})"}


@dataclass(frozen=True)
class Storage:
    """Types in memory, keys of `TYPES`.

    Attributes:
        param, grad, state: Of parameters, gradients and elementwise states.
        stochastic: Round bfloat16 states stochastically, so that small changes are kept on average.
    """

    param: str
    grad: str
    state: str
    stochastic: bool = False

    @property
    def real(self) -> str:
        """The C type that elementwise values are computed in."""
        return "double" if self.param == "float64" else "float"


class Names:
    """What each value of a plan is called where, and how buffers are read and written.

    Elementwise values are locals ``n7`` of a loop; uniform ones are ``u[3]``, those of one tensor ``s[2]``, in double,
    until a pass takes them over as ``n7`` too. Buffers are pointers ``b0``, ``b1``, ... Results of matrix operators,
    which the caller computes between two passes, are read from work buffers ``o0``, ``o1``, ...
    """

    def __init__(self, plan: Plan, storage: Storage) -> None:
        self.plan = plan
        self.storage = storage
        self.uniform = self._places(Kind.UNIFORM)
        self.scalar = self._places(Kind.PER_TENSOR)
        self.base: dict[str, int] = {}
        slots = 0
        for ring in plan.rings:
            self.base[ring.name] = slots
            slots += ring.depth
        self.slots = slots
        self.work = {index: place for place, index in enumerate(matrix_nodes(plan))}

    def _places(self, kind: Kind) -> dict[int, int]:
        own = (
            index
            for index, found in enumerate(self.plan.kinds)
            if found is kind and self.plan.nodes[index].op != "number"
        )
        return {index: place for place, index in enumerate(own)}

    def elementwise(self, roots: list[int]) -> list[int]:
        kinds = self.plan.kinds
        return [index for index in self.plan.needed(roots, self.ready) if kinds[index] is Kind.ELEMENTWISE]

    def fixed(self, roots: list[int]) -> list[int]:
        """Uniform and per-tensor values that a pass uses, literals aside."""
        used: Iterable[int] = self.plan.needed(roots, self.ready)
        return [index for index in used if index in self.uniform or index in self.scalar]

    def ready(self, index: int) -> bool:
        """Whether a pass finds the value computed."""
        return self.plan.kinds[index] is not Kind.ELEMENTWISE or index in self.work

    def call(self, node: Node, operands: Callable[[int], str]) -> str:
        template = _TEMPLATES.get(node.op) or OPERATORS[node.op].c
        if node.op == "where" and not self.plan.kinds[node.args[0]].varies:
            template = "cf_select({0}, {1}, {2})"
        return template.format(*map(operands, node.args))

    def operand(self, index: int) -> str:
        """A value where elementwise values are computed."""
        value = self.plan.nodes[index].number
        return f"n{index}" if value is None else literal(value, self.storage.real)

    def fixed_operand(self, index: int) -> str:
        """A uniform or per-tensor value where those are computed, in double."""
        value = self.plan.nodes[index].number
        return self.place(index) if value is None else literal(value, "double")

    def place(self, index: int) -> str:
        return f"u[{self.uniform[index]}]" if index in self.uniform else f"s[{self.scalar[index]}]"

    def ring(self, node: Node) -> Ring:
        return next(ring for ring in self.plan.rings if ring.name == node.name)

    def slot(self, ring: Ring, lag: int, tensor: str) -> str:
        return f"cf_slot(c, {tensor}, {self.base[ring.name] + lag - 1})"

    def pointer(self, ring: Ring, lag: int) -> str:
        return f"b{self.base[ring.name] + lag - 1}"

    def loaded(self, text: str, stored: str) -> str:
        return f"cf_load_bf16({text})" if stored == "bfloat16" else text

    def stored(self, text: str, stored: str, bits: str | None = None) -> str:
        if stored != "bfloat16":
            return text
        value = text if self.storage.real == "float" else f"(float)({text})"
        return f"cf_store_bf16({value})" if bits is None else f"cf_cut_bf16({value}, {bits})"


def reductions(plan: Plan, level: int) -> list[int]:
    """Nodes of a level that are sums over a tensor."""
    return [
        index
        for index, node in enumerate(plan.nodes)
        if plan.levels[index] == level and node.op in OPERATORS and OPERATORS[node.op].over == "tensor"
    ]


def matrix_nodes(plan: Plan) -> list[int]:
    """Nodes that are matrix operators, in order of levels."""
    found = [index for index, node in enumerate(plan.nodes) if node.op in OPERATORS and OPERATORS[node.op].late]
    return sorted(found, key=lambda index: plan.levels[index])


def literal(value: float, real: str) -> str:
    if real == "float" and math.isfinite(value):
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = math.copysign(math.inf, value)
    if math.isnan(value):
        return f"(({real})NAN)"
    if math.isinf(value):
        return f"(({'-' if value < 0 else ''}({real})INFINITY))"
    return f"({value.hex()}{'f' if real == 'float' else ''})"
