"""The functions of a generated step, one for each thing that is done to a tensor or a chunk of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from closedform.codegen._c_names import TYPES, Names, reductions
from closedform.codegen._plan import Ring
from closedform.codegen._stages import Stage, stages
from closedform.lang import SHAPE_INPUTS, Kind

CHUNK = 1 << 15
"""Elements that one thread takes at a time."""
BLOCK = 512
"""Elements after which a loop in stages starts again."""
_SUMMAND = {"mean": "{0}", "rms": "{0} * {0}", "norm": "{0} * {0}"}
_REDUCED = {"mean": "{0} / count", "rms": "sqrt({0} / count)", "norm": "sqrt({0})"}


class Functions(Names):
    """Writes C functions for a plan; each method yields the lines of one, or some lines of it."""

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
        for place, index in enumerate(reductions(self.plan, level)):
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
            return self.fixed_input(node.name, tensor)
        if node.op == "past":
            ring = self.ring(node)
            return f"*({self.scalar_type(ring)} *){self.slot(ring, node.lag, tensor)}"
        return self.call(node, self.fixed_operand)

    def fixed_input(self, name: str, tensor: str) -> str:
        if name in SHAPE_INPUTS:
            return f"c->shapes[{tensor} * {len(SHAPE_INPUTS)} + {list(SHAPE_INPUTS).index(name)}]"
        if name in self.plan.open:
            return f"c->constants[{self.plan.open.index(name)}]"
        return {"t": "c->t", "T": "c->total", "progress": "(c->t < c->total ? c->t / c->total : 1.0)"}[name]

    def scalar_type(self, ring: Ring) -> str:
        return "double" if ring.kind is Kind.UNIFORM else self.storage.real

    # --------------------------------------------------------------------------------------------------- passes

    def reducing_pass(self, level: int) -> Iterator[str]:
        targets = reductions(self.plan, level)
        handed = [index for index in self.work if self.plan.levels[index] == level]
        roots = [self.plan.nodes[index].args[0] for index in (*targets, *handed)]
        names = ", ".join(f"r{place}" for place in range(len(targets)))
        yield from self.opening(f"cf_pass_{level}", roots, writes=False, handed=handed)
        yield from (f"    double r{place} = 0;" for place in range(len(targets)))
        yield f'    _Pragma("omp simd{f" reduction(+:{names})" if targets else ""}")'
        yield "    for (int64_t i = 0; i < count; i++) {"
        yield from self.body(self.elementwise(roots))
        for place, index in enumerate(targets):
            node = self.plan.nodes[index]
            yield f"        const double a{place} = {self.operand(node.args[0])};"
            yield f"        r{place} += {_SUMMAND[node.op].format(f'a{place}')};"
        for index in handed:
            yield f"        o{self.work[index]}[i] = {self.operand(self.plan.nodes[index].args[0])};"
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

    def opening(self, name: str, roots: list[int], *, writes: bool, handed: Iterable[int] = ()) -> Iterator[str]:
        """The signature, and pointers to what a pass reads and writes; ``handed``: matrix operators to write for."""
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
        for index, place in self.work.items():
            if index in handed or index in self.elementwise(roots):
                start = f"(cf_real *)cf_slot(c, tensor, {self.slots + place}) + begin"
                yield f"    {'' if index in handed else 'const '}cf_real *restrict o{place} = {start};"
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
            yield f"            const cf_real n{index} = {self.element(index)};"

    def element(self, index: int) -> str:
        node = self.plan.nodes[index]
        if index in self.work:
            return f"o{self.work[index]}[i]"
        if node.op == "input":
            stored = self.storage.param if node.name == "w" else self.storage.grad
            value = self.loaded(f"{node.name}[i]", stored)
            return value if node.name == "w" else f"sign * {value}"
        if node.op == "past":
            return self.loaded(f"{self.pointer(self.ring(node), node.lag)}[i]", self.storage.state)
        return self.call(node, self.operand)
