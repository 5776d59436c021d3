"""Generated C: a plan as source text of one function that advances many parameter tensors by one step.

The source is plain C11 (GNU builtins, no OpenMP runtime): a loop over elements that compilers vectorise, called on
chunks of tensors by however many threads the caller brings. Constants are baked in; ``t``, ``lr``, ``weight_decay``
and the sign of the gradient are arguments. Names of the program never reach the text.

A step runs in passes. Reductions (``mean rms norm``) need a pass each that only reads; the last pass stores:

    uniform values (double)  ->  [reducing pass  ->  one number a tensor (double)] ...  ->  storing pass

Elementwise values are computed in float, or in double for float64 parameters. bfloat16 is widened on loading; on
storing, parameters are rounded to nearest and states, if asked for, stochastically.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from closedform.lang._lowering import Node, Plan, Ring
from closedform.lang._operators import OPERATORS
from closedform.lang._program import Kind
from closedform.lang._staging import Stage, stages

CHUNK = 1 << 15
"""Elements that one thread takes at a time."""
BLOCK = 512
"""Elements after which a loop in stages starts again."""
TYPES = {"float32": "float", "float64": "double", "bfloat16": "cf_bf16"}
"""Storage types."""
_TEMPLATES = {"reciprocal": "(1 / {0})", "pow_half": "cf_pow_half({0})"}
_SUMMAND = {"mean": "{0}", "rms": "{0} * {0}", "norm": "{0} * {0}"}
_REDUCED = {"mean": "{0} / count", "rms": "sqrt({0} / count)", "norm": "sqrt({0})"}


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


@dataclass(frozen=True)
class Layout:
    """How a caller must lay out the arguments of ``cf_step`` (the C struct of the same name documents them).

    Attributes:
        slots: Memory buffers a tensor.
        scalars: Doubles of work space a tensor.
        sums: Doubles of work space a chunk.
    """

    slots: int
    scalars: int
    sums: int


def layout(plan: Plan) -> Layout:
    """The layout that `c_source` of the same plan expects."""
    scalars = sum(kind is Kind.PER_TENSOR for kind in plan.kinds)
    sums = max((len(_reductions(plan, level)) for level in range(1, _depth(plan) + 1)), default=0)
    return Layout(sum(ring.depth for ring in plan.rings), scalars, sums)


def c_source(plan: Plan, storage: Storage) -> str:
    """C source of ``int cf_step(const cf_call *)`` for a plan with the one output ``update``."""
    return _Writer(plan, storage).text()


@lru_cache(maxsize=1)
def math_header() -> str:
    """The text of cf_math.h, on which all generated source rests."""
    return Path(__file__).with_name("cf_math.h").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _driver() -> tuple[str, str]:
    text = Path(__file__).with_name("cf_step.h").read_text(encoding="utf-8")
    before, after = text.split("/* GENERATED */\n")
    return before, after


def _depth(plan: Plan) -> int:
    return max(plan.levels, default=0)


def _reductions(plan: Plan, level: int) -> list[int]:
    return [
        index
        for index, node in enumerate(plan.nodes)
        if plan.levels[index] == level and node.op in OPERATORS and OPERATORS[node.op].reduces
    ]


class _Writer:
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

    def _places(self, kind: Kind) -> dict[int, int]:
        own = (
            index
            for index, found in enumerate(self.plan.kinds)
            if found is kind and self.plan.nodes[index].op != "number"
        )
        return {index: place for place, index in enumerate(own)}

    def text(self) -> str:
        before, after = _driver()
        levels = range(_depth(self.plan) + 1)
        scalars = [f"    cf_each(c, u, cf_scalars_{level});\n" if self.scalar else "" for level in levels]
        passes = "".join(f"    cf_run(c, u, cf_pass_{level});\n{scalars[level]}" for level in levels[1:])
        keep = (
            "    cf_each(c, u, cf_keep);\n"
            if any(ring.kind is not Kind.ELEMENTWISE for ring in self.plan.rings)
            else ""
        )
        return "\n".join(
            [
                math_header(),
                f"#define CF_CHUNK {CHUNK}\n#define CF_SLOTS {self.slots}\n"
                f"#define CF_SCALARS {max(1, len(self.scalar))}\n#define CF_SUMS {max(1, layout(self.plan).sums)}\n"
                f"#define CF_UNIFORMS {max(1, len(self.uniform))}\ntypedef {self.storage.real} cf_real;\n",
                before,
                *self.uniforms(),
                *(line for level in levels for line in self.scalars(level) if self.scalar),
                *(line for level in levels[1:] for line in self.reducing_pass(level)),
                *self.storing_pass(),
                *(self.keep() if keep else ()),
                "static void cf_passes(const cf_call *c, const double *u) {\n"
                f"{scalars[0]}{passes}    cf_run(c, u, cf_store);\n{keep}}}\n",
                after,
            ]
        )

    # ------------------------------------------------------------------------------------- one number a step or tensor

    def uniforms(self) -> Iterator[str]:
        yield "static void cf_uniforms(const cf_call *c, double *u) {"
        yield "    (void)c, (void)u;"
        for index in self.uniform:
            yield f"    u[{self.uniform[index]}] = {self.number(index, tensor='0')};"
        yield "}\n"

    def scalars(self, level: int) -> Iterator[str]:
        yield f"static void cf_scalars_{level}(const cf_call *c, const double *u, int64_t tensor) {{"
        yield "    double *s = c->scalars + tensor * CF_SCALARS;"
        yield "    double count = (double)c->sizes[tensor];"
        yield "    (void)u, (void)s, (void)count;"
        for place, index in enumerate(_reductions(self.plan, level)):
            total = f"cf_total(c, tensor, {place})"
            yield f"    s[{self.scalar[index]}] = {_REDUCED[self.plan.nodes[index].op].format(total)};"
        for index in self.scalar:
            node = self.plan.nodes[index]
            if self.plan.levels[index] == level and node.op not in _REDUCED:
                yield f"    s[{self.scalar[index]}] = {self.number(index, tensor='tensor')};"
        yield "}\n"

    def keep(self) -> Iterator[str]:
        yield "static void cf_keep(const cf_call *c, const double *u, int64_t tensor) {"
        yield "    const double *s = c->scalars + tensor * CF_SCALARS;"
        yield "    (void)u, (void)s;"
        for ring in self.plan.rings:
            if ring.kind is not Kind.ELEMENTWISE:
                value = self.fixed_operand(self.plan.stores[ring.name])
                yield f"    *({self.scalar_type(ring)} *){self.slot(ring, ring.depth, 'tensor')} = {value};"
        yield "}\n"

    def number(self, index: int, tensor: str) -> str:
        """A uniform or per-tensor node as a C expression in doubles."""
        node = self.plan.nodes[index]
        if node.op == "input":
            return "c->t"
        if node.op == "past":
            ring = self.ring(node)
            return f"*({self.scalar_type(ring)} *){self.slot(ring, node.lag, tensor)}"
        return self.call(node, self.fixed_operand)

    def scalar_type(self, ring: Ring) -> str:
        return "double" if ring.kind is Kind.UNIFORM else self.storage.real

    # --------------------------------------------------------------------------------------------------- passes

    def reducing_pass(self, level: int) -> Iterator[str]:
        targets = _reductions(self.plan, level)
        roots = [self.plan.nodes[index].args[0] for index in targets]
        names = ", ".join(f"r{place}" for place in range(len(targets)))
        yield from self.opening(f"cf_pass_{level}", roots, writes=False)
        yield f"    double {', '.join(f'r{place} = 0' for place in range(len(targets)))};"
        yield f'    _Pragma("omp simd reduction(+:{names})")'
        yield "    for (int64_t i = 0; i < count; i++) {"
        yield from self.body(self.elementwise(roots))
        for place, (index, root) in enumerate(zip(targets, roots, strict=True)):
            yield f"        const double a{place} = {self.operand(root)};"
            yield f"        r{place} += {_SUMMAND[self.plan.nodes[index].op].format(f'a{place}')};"
        yield "    }"
        for place in range(len(targets)):
            yield f"    c->sums[chunk * CF_SUMS + {place}] = r{place};"
        yield "}\n"

    def storing_pass(self) -> Iterator[str]:
        rings = [ring for ring in self.plan.rings if ring.kind is Kind.ELEMENTWISE]
        update = self.plan.outputs["update"]
        roots = [*(self.plan.stores[ring.name] for ring in rings), update]
        noise = self.storage.stochastic and self.storage.state == "bfloat16"
        yield from self.opening("cf_store", roots, writes=True)
        yield "    const cf_real lr = (cf_real)c->lr, decay = (cf_real)(c->lr * c->weight_decay);"
        if noise:
            yield "    const uint32_t key = cf_key(c->seed, (uint64_t)chunk);"
        found = stages(self.plan, self.elementwise(roots), roots[:-1], update)
        yield from self.blocks(found)
        done: set[int] = set()
        for stage in found:
            final = stage is found[-1]
            ready = [ring for ring in rings if self.plan.stores[ring.name] in stage.nodes or final]
            yield '        _Pragma("omp simd")'
            yield "        for (int64_t i = start; i < stop; i++) {"
            yield from self.body(stage.nodes, stage.incoming)
            yield from (f"            x{index}[i - start] = n{index};" for index in stage.outgoing)
            yield from self.states([ring for ring in ready if self.base[ring.name] not in done], rings, noise=noise)
            done |= {self.base[ring.name] for ring in ready}
            if final:
                yield from self.parameter(update)
            yield "        }"
        yield "    }\n}\n"

    def blocks(self, found: list[Stage]) -> Iterator[str]:
        """The loop over blocks: one block, unless stages hand values to each other."""
        size = BLOCK if len(found) > 1 else CHUNK
        yield f"    for (int64_t start = 0; start < count; start += {size}) {{"
        yield f"        const int64_t stop = count - start < {size} ? count : start + {size};"
        yield from (f"        cf_real x{index}[{size}];" for stage in found for index in stage.outgoing)

    def states(self, ready: list[Ring], rings: list[Ring], *, noise: bool) -> Iterator[str]:
        hashed: set[int] = set()
        for ring in ready:
            place = rings.index(ring)
            pair, bits = place // 2, None
            if noise:
                if pair not in hashed:
                    yield f"            const uint32_t h{pair} = cf_hash(key + (uint32_t)i + {pair * CHUNK}u);"
                hashed.add(pair)
                bits = f"h{pair} >> 16" if place % 2 else f"h{pair} & 0xffffu"
            value = self.stored(self.operand(self.plan.stores[ring.name]), self.storage.state, bits)
            yield f"            {self.pointer(ring, ring.depth)}[i] = {value};"

    def parameter(self, update: int) -> Iterator[str]:
        yield f"            const cf_real old = {self.loaded('w[i]', self.storage.param)};"
        yield "            const cf_real kept = decay != 0 ? decay * old : 0;"
        yield f"            w[i] = {self.stored(f'old + (lr * {self.operand(update)} - kept)', self.storage.param)};"

    def opening(self, name: str, roots: list[int], *, writes: bool) -> Iterator[str]:
        yield (
            f"static void {name}(const cf_call *c, const double *u, int64_t tensor, int64_t chunk, "
            "int64_t begin, int64_t count) {"
        )
        const = "" if writes else "const "
        param, grad, state = (TYPES[name] for name in (self.storage.param, self.storage.grad, self.storage.state))
        yield f"    {const}{param} *restrict w = ({param} *)c->params[tensor] + begin;"
        yield f"    const {grad} *restrict g = (const {grad} *)c->grads[tensor] + begin;"
        yield "    const double *s = c->scalars + tensor * CF_SCALARS;"
        yield "    const cf_real sign = (cf_real)c->sign;"
        yield "    (void)u, (void)w, (void)g, (void)s, (void)sign, (void)chunk;"
        for ring, lag in self.buffers(roots, writes=writes):
            start = f"({state} *){self.slot(ring, lag, 'tensor')} + begin"
            yield f"    {const}{state} *restrict {self.pointer(ring, lag)} = {start};"
        for index in self.fixed(roots):
            yield f"    const cf_real n{index} = (cf_real){self.place(index)};"

    def buffers(self, roots: list[int], *, writes: bool) -> list[tuple[Ring, int]]:
        """Elementwise buffers that a pass touches: each ring's lags read, and its oldest one if it stores."""
        found: dict[tuple[Ring, int], None] = {}
        for index in self.elementwise(roots):
            node = self.plan.nodes[index]
            if node.op == "past":
                found[self.ring(node), node.lag] = None
        if writes:
            found |= {(ring, ring.depth): None for ring in self.plan.rings if ring.kind is Kind.ELEMENTWISE}
        return list(found)

    def body(self, nodes: Iterable[int], incoming: Iterable[int] = ()) -> Iterator[str]:
        for index in incoming:
            yield f"            const cf_real n{index} = x{index}[i - start];"
        for index in nodes:
            yield f"            const cf_real n{index} = {self.element(self.plan.nodes[index])};"

    def element(self, node: Node) -> str:
        if node.op == "input":
            stored = self.storage.param if node.name == "w" else self.storage.grad
            value = self.loaded(f"{node.name}[i]", stored)
            return value if node.name == "w" else f"sign * {value}"
        if node.op == "past":
            return self.loaded(f"{self.pointer(self.ring(node), node.lag)}[i]", self.storage.state)
        return self.call(node, self.operand)

    # ---------------------------------------------------------------------------------------------------- pieces

    def elementwise(self, roots: list[int]) -> list[int]:
        kinds = self.plan.kinds
        return [
            index
            for index in self.plan.needed(roots, lambda index: kinds[index] is not Kind.ELEMENTWISE)
            if kinds[index] is Kind.ELEMENTWISE
        ]

    def fixed(self, roots: list[int]) -> list[int]:
        """Uniform and per-tensor values that a pass uses, literals aside."""
        used: Iterable[int] = self.plan.needed(roots, lambda index: self.plan.kinds[index] is not Kind.ELEMENTWISE)
        return [index for index in used if index in self.uniform or index in self.scalar]

    def call(self, node: Node, operands: Callable[[int], str]) -> str:
        template = _TEMPLATES.get(node.op) or OPERATORS[node.op].c
        return template.format(*map(operands, node.args))

    def operand(self, index: int) -> str:
        """A value where elementwise values are computed."""
        value = self.plan.nodes[index].number
        return f"n{index}" if value is None else _literal(value, self.storage.real)

    def fixed_operand(self, index: int) -> str:
        """A uniform or per-tensor value where those are computed, in double."""
        value = self.plan.nodes[index].number
        return self.place(index) if value is None else _literal(value, "double")

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


def _literal(value: float, real: str) -> str:
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
