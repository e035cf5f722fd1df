"""Compiling Python functions for the CPU, with a cache that all processes share."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CellType, FunctionType
from typing import Any

import numba
from numba.core import types
from numba.extending import intrinsic


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with numba so that it runs without the interpreter lock.

    The machine code is cached beside the source file, or in the user's cache folder if the installation is read-only.
    If neither can be written, the function is compiled again in each process.

    Multiplications and additions may be fused, which rounds once, not twice; no other optimisation affects results.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(_with_sources(function))
    except RuntimeError:  # numba found no writable folder for its cache
        return numba.njit(**options)(function)


def _with_sources(function: Any) -> FunctionType:
    """Return the function with one more closure variable, which it does not read: a digest of all that it may call.

    Numba notices when the module of a function changes, but not when a function or a constant from another module does,
    and would keep using the old machine code. Closure variables are part of the key of its cache.
    """
    code = function.__code__
    code = code.replace(co_freevars=(*code.co_freevars, "_sources"))
    cells = (*(function.__closure__ or ()), CellType(_sources()))
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, cells)


@cache
def _sources() -> str:
    """Return a digest of the kernels and of the modules at the top of the package, which hold shared constants."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *here.parents[1].glob("*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _wide_vectors(typing_context: Any) -> Any:
    """Let the calling function use vectors of 512 bits where the CPU has them.

    LLVM stops at 256 bits on the CPUs of Intel, because the early ones with AVX-512 lowered their clock. It has an
    attribute of functions for this, for which llvmlite has no name yet.
    """

    def mark(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), mark


wide_vectors: Any = intrinsic(_wide_vectors)  # numba's type for it asks callers for the typing context, too
