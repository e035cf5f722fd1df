"""Compiling Python functions for the CPU, with a cache that all processes share."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with numba so that it runs without the interpreter lock.

    The machine code is cached beside the source file, or in the user's cache folder if the installation is read-only.
    If neither can be written, the function is compiled again in each process.

    Multiplications and additions may be fused, which rounds once, not twice; no other optimisation affects results.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no writable folder for its cache
        return numba.njit(**options)(function)
