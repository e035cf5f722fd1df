"""Compiling Python functions for the CPU, with a cache that all processes share."""

import hashlib
from collections.abc import Callable
from functools import cache, update_wrapper
from pathlib import Path
from threading import RLock
from types import CellType, FunctionType
from typing import Any

from kdlib.enhance.kernels import machine_code

_lock = RLock()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function with numba so that it runs without the interpreter lock.

    The machine code is cached beside the source file, or in the user's cache folder if the installation is read-only.
    If neither can be written, the function is compiled again in each process. A function without a result, whose
    arguments are arrays and numbers, starts without numba once it has been compiled for them
    (:mod:`kdlib.enhance.kernels.machine_code`).

    Multiplications and additions may be fused, which rounds once, not twice; no other optimisation affects results.

    Returns:
        A :class:`Compiled`, which other compiled functions may call.
    """
    return Compiled(function)


class Compiled:
    """A function that is compiled for the types of its arguments when it is first called with them.

    Args:
        function: takes positional arguments.
    """

    def __init__(self, function: Any) -> None:
        update_wrapper(self, function)
        self._function: FunctionType = function
        self._dispatcher: Any = None
        self._runs: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        kinds = machine_code.kinds_of(arguments)
        run = self._runs.get(kinds)
        if run is None:
            run = self._runs[kinds] = self._prepared(arguments)
        return run(*arguments)

    def __reduce__(self) -> Any:
        """As part of the key of numba's cache, which pickles the closures of functions that call this one."""
        return str, (repr((self._function.__qualname__, machine_code.constants_of(self._function))),)

    @property
    def dispatcher(self) -> Any:
        """The function as numba compiles it. The first use imports numba."""
        with _lock:
            if self._dispatcher is None:
                self._dispatcher = _dispatcher(self._function)
            return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        """What numba takes this object for in a function that it compiles."""
        return self.dispatcher._numba_type_

    def _prepared(self, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        """Return what runs the function for arguments of these types."""
        signature = machine_code.signature_of(arguments)
        if signature is None or not machine_code.usable():
            return self.dispatcher
        run = machine_code.load(self._function, _sources(), signature)
        if run is None:
            import numba

            from kdlib.enhance.kernels import object_code

            types = tuple(map(numba.typeof, arguments))
            self.dispatcher.compile(types)
            object_code.save(self._function, _sources(), signature, self.dispatcher.overloads[types])
            # What numba runs in the process that compiles may round otherwise than what it loads from its cache.
            run = machine_code.load(self._function, _sources(), signature)
        if run is None:
            return self.dispatcher

        def either(*arguments: Any) -> None:
            if run(*arguments):
                # There was no memory for the first array, so that nothing has been written; numba says it in words.
                self.dispatcher(*arguments)

        return either


def _dispatcher(function: FunctionType) -> Any:
    import numba

    _register_wide_vectors()
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


def wide_vectors() -> None:
    """Let the calling function, which is compiled, use vectors of 512 bits where the CPU has them.

    LLVM stops at 256 bits on the CPUs of Intel, because the early ones with AVX-512 lowered their clock. It has an
    attribute of functions for this, for which llvmlite has no name yet.
    """


@cache
def _register_wide_vectors() -> None:
    """Tell numba what to make of :func:`wide_vectors`."""
    from numba.core import types
    from numba.extending import lower_builtin, type_callable

    @type_callable(wide_vectors)
    def typed(_context: Any) -> Any:
        return lambda: types.void

    @lower_builtin(wide_vectors)
    def mark(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()
