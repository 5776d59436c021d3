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

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from closedform.lang._c_functions import CHUNK, Functions
from closedform.lang._c_names import TYPES, Storage, reductions
from closedform.lang._lowering import Plan
from closedform.lang._program import Kind

__all__ = ["CHUNK", "TYPES", "Layout", "Storage", "c_source", "layout", "math_header"]


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
    sums = max((len(reductions(plan, level)) for level in range(1, _depth(plan) + 1)), default=0)
    return Layout(sum(ring.depth for ring in plan.rings), scalars, sums)


def c_source(plan: Plan, storage: Storage) -> str:
    """C source of ``int cf_step(const cf_call *)`` for a plan with the one output ``update``."""
    functions = Functions(plan, storage)
    before, after = _driver()
    levels = range(_depth(plan) + 1)
    scalars = [f"    cf_each(c, u, cf_scalars_{level});\n" if functions.scalar else "" for level in levels]
    passes = "".join(f"    cf_run(c, u, cf_pass_{level});\n{scalars[level]}" for level in levels[1:])
    keeps = any(ring.kind is not Kind.ELEMENTWISE for ring in plan.rings)
    keep = "    cf_each(c, u, cf_keep);\n" if keeps else ""
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
            "static void cf_passes(const cf_call *c, const double *u) {",
            f"{scalars[0]}{passes}    cf_run(c, u, cf_store);\n{keep}}}\n",
            after,
        ]
    )


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
