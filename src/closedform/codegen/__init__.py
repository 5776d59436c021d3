"""From a program to native code: what the optimizer's compiled step and the native LSTM stand on.

A program is lowered to a `Plan`, a straight line of operations on scalars and elements; one that looks at whole tensors
or matrices is cut into stages between which torch works (`spread`). `c_source` prints a plan as C on top of
``cf_math.h`` and ``cf_step.h``; `load` compiles text once and keeps it in a cache.
"""

from closedform.codegen._build import NativeUnavailable, load
from closedform.codegen._c_source import CHUNK, TYPES, Storage, c_source, layout, math_header
from closedform.codegen._plan import Plan, lower, spread
from closedform.codegen._threads import openmp_parallel, threads_for

__all__ = [
    "CHUNK",
    "TYPES",
    "NativeUnavailable",
    "Plan",
    "Storage",
    "c_source",
    "layout",
    "load",
    "lower",
    "math_header",
    "openmp_parallel",
    "spread",
    "threads_for",
]
