"""Generated C: a plan as source text of one function that advances many parameter tensors by one step.

The source is plain C11 (GNU builtins, no OpenMP runtime): a loop over elements that compilers vectorise, called on
chunks of tensors by however many threads the caller brings. Constants are baked in, but for those that the plan
leaves open; they, ``t``, ``lr``, ``weight_decay`` and the sign of the gradient are arguments. Names of the program
never reach the text.

A step runs in passes. Reductions (``mean rms norm``) need a pass each that only reads; the last pass stores:

    uniform values (double)  ->  [reducing pass  ->  one number a tensor (double)] ...  ->  storing pass

Matrix operators are the caller's: a pass leaves their arguments in work buffers, ``cf_step`` returns, the caller puts
the results there, and calls the next stage.

Elementwise values are computed in float, or in double for float64 parameters. bfloat16 is widened on loading; on
storing, parameters are rounded to nearest and states, if asked for, stochastically.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from closedform.codegen._c_functions import CHUNK, Functions
from closedform.codegen._c_names import TYPES, Storage, matrix_nodes, reductions
from closedform.codegen._plan import Plan
from closedform.lang import Kind

__all__ = ["CHUNK", "TYPES", "Layout", "Storage", "c_source", "layout", "math_header"]


@dataclass(frozen=True)
class Layout:
    """How a caller must lay out the arguments of ``cf_step`` (the C struct of the same name documents them).

    Attributes:
        slots: Memory buffers a tensor.
        scalars: Doubles of work space a tensor.
        sums: Doubles of work space a chunk.
        handed: For each stage but the last, the matrix operators that the caller must put work buffers through; a
            tensor's slots end with those of work buffers, in this order.
    """

    slots: int
    scalars: int
    sums: int
    handed: tuple[tuple[str, ...], ...] = ()


def layout(plan: Plan) -> Layout:
    """The layout that `c_source` of the same plan expects."""
    scalars = sum(kind is Kind.PER_TENSOR for kind in plan.kinds)
    sums = max((len(reductions(plan, level)) for level in range(1, _depth(plan) + 1)), default=0)
    buffers, works = sum(ring.depth for ring in plan.rings), matrix_nodes(plan)
    by_level = [
        tuple(plan.nodes[index].op for index in works if plan.levels[index] == level)
        for level in range(1, _depth(plan) + 1)
    ]
    return Layout(buffers + len(works), scalars, sums, tuple(filter(None, by_level)))


def c_source(plan: Plan, storage: Storage) -> str:
    """C source of ``int cf_step(const cf_call *)`` for a plan with the one output ``update``.

    Its kinds know no rows and columns (`closedform.codegen._plan.spread`). What the caller does for its matrix
    operators is said by `Layout`.
    """
    functions = Functions(plan, storage)
    before, after = _driver()
    levels = range(_depth(plan) + 1)
    keeps = any(ring.kind is not Kind.ELEMENTWISE for ring in plan.rings)
    return "\n".join(
        [
            math_header(),
            _definitions(functions, layout(plan)),
            before,
            *functions.uniforms(),
            *(line for level in levels for line in functions.scalars(level) if functions.scalar),
            *(line for level in levels[1:] for line in functions.reducing_pass(level)),
            *functions.storing_pass(),
            *(functions.keep() if keeps else ()),
            *_passes(functions, levels, keeps=keeps),
            after,
        ]
    )


def _passes(functions: Functions, levels: range, *, keeps: bool) -> Iterator[str]:
    """The order of passes; a stage ends where the caller has something to do."""
    stage = 0
    yield "static void cf_passes(const cf_call *c, const double *u) {\n    switch (c->stage) {\n    case 0:"
    for level in levels:
        if level > 0:
            yield f"        cf_run(c, u, cf_pass_{level});"
            if any(functions.plan.levels[index] == level for index in functions.work):
                stage += 1
                yield f"        break;\n    case {stage}:"
        if functions.scalar:
            yield f"        cf_each(c, u, cf_scalars_{level});"
    yield "        cf_run(c, u, cf_store);"
    if keeps:
        yield "        cf_each(c, u, cf_keep);"
    yield "    }\n}\n"


def _definitions(functions: Functions, shape: Layout) -> str:
    sizes = {
        "CHUNK": CHUNK,
        "SLOTS": shape.slots,
        "SCALARS": max(1, shape.scalars),
        "SUMS": max(1, shape.sums),
        "UNIFORMS": max(1, len(functions.uniform)),
    }
    lines = [f"#define CF_{name} {size}" for name, size in sizes.items()]
    return "\n".join([*lines, f"typedef {functions.storage.real} cf_real;", ""])


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
