"""The threads that native code computes with: torch's own."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch

ALONE = 1 << 15
"""A step over fewer elements stays on the calling thread: waking another one costs more than it saves."""


def threads_for(elements: int) -> int:
    """How many threads share so many elements."""
    return 1 if elements < ALONE else torch.get_num_threads()


@lru_cache(maxsize=1)
def openmp_parallel() -> int | None:
    """The address of GOMP_parallel in the very OpenMP runtime that torch runs on, or None.

    A second runtime would bring a second set of threads, which spin while torch's own compute.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        function = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
