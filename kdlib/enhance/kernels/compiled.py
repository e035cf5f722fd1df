"""Compile a Python function for the CPU, once for all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function with numba so that it runs without the interpreter's lock, fast, and is compiled once.

    The machine code is stored beside the source file, or in the user's cache folder where the install is read-only.
    Where neither can be written, it is compiled anew in each process.

    Multiplications and additions may be fused (which rounds once instead of twice); no other liberty is taken with
    floating point.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder for its cache
        return numba.njit(**options)(function)
