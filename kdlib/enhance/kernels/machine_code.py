"""Machine code that numba has made, kept for later processes, which load it with LLVM alone.

Importing numba and preparing its compiler takes longer than everything else that ``kdlib enhance`` does before the
first photo. The object code of a compiled function needs neither: llvmlite, the part of numba that wraps LLVM, links it
into memory, and ctypes calls it. That is what numba does with its own cache, and the code is the same.

A file of machine code lies beside the bytecode of the function's module, as in numba's cache, or in the user's cache
folder if the installation is read-only. It is used only if it is undamaged and was made from the same sources, for the
same types and the same CPU, by the same versions. In all other cases, and where this is untested (:func:`usable`), the
function runs through numba as usual.
"""

import ctypes
import hashlib
import os
import platform
import struct
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

Signature = tuple[Any, ...]
"""For each argument LLVM's name of a number's type, or of an array its dtype, number of dimensions, order of memory and
whether it is writable."""
# Numbers among the arguments: LLVM's name of the type, and that of ctypes.
_NUMBERS: dict[type, tuple[str, Any]] = {
    bool: ("i8", ctypes.c_int8),
    int: ("i64", ctypes.c_int64),
    float: ("double", ctypes.c_double),
    np.float32: ("float", ctypes.c_float),
}
_CTYPES = dict(_NUMBERS.values())
_LONGEST = 2**63
_DTYPES = {"|u1", "<u2", "<i4", "<i8", "<f4", "<f8"}
_FLAGS = 0x0001 | 0x0002 | 0x0100 | 0x0400  # NumPy's bits for contiguous in C's and Fortran's order, aligned, writable
# Bytes from the beginning of a NumPy array, as Python object, to its pointers.
DATA, SHAPE, STRIDES = 16, 32, 40
_HARMLESS = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS"}  # settings of numba that do not change the code
_lock = Lock()
_loaded: dict[str, tuple[Any, int]] = {}  # key → LLVM's engine, which holds the code, and the function's address


@cache
def usable() -> bool:
    """Whether machine code is kept here: on Linux with x86-64, if numba has no settings that may change it."""
    special = {name for name in os.environ if name.startswith("NUMBA_")} - _HARMLESS
    tested = (sys.platform, platform.machine(), sys.implementation.name) == ("linux", "x86_64", "cpython")
    return tested and _arrays_known() and not special and not os.path.lexists(".numba_config.yaml")


def _arrays_known() -> bool:
    """Whether the pointers of an array are where they are expected."""
    array = np.zeros((3, 5), np.float32)
    data, shape, strides = (ctypes.c_size_t.from_address(id(array) + place).value for place in (DATA, SHAPE, STRIDES))
    if data != array.ctypes.data or 0 in (shape, strides):
        return False
    pair = ctypes.c_ssize_t * 2
    return (*pair.from_address(shape), *pair.from_address(strides)) == (3, 5, 20, 4)


def kinds_of(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what tells the signature of arguments; quickly, because this runs before each call of a kernel."""
    found: list[Any] = []
    for value in arguments:
        kind = type(value)
        if kind is np.ndarray:
            found += (value.dtype, value.ndim, value.flags.num & _FLAGS)
        elif kind is int and not -_LONGEST <= value < _LONGEST:
            found.append(None)
        else:
            found.append(kind)
    return tuple(found)


def signature_of(arguments: tuple[Any, ...]) -> Signature | None:
    """Return the types of arguments as numba distinguishes them, or None if one is of a type that is unknown here."""
    found: list[Any] = []
    for value in arguments:
        kind = type(value)
        if kind is np.ndarray:
            flags, dtype = value.flags, value.dtype.str
            if dtype not in _DTYPES or not flags.aligned:
                return None
            layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
            found.append((dtype, value.ndim, layout, flags.writeable))
        elif kind in _NUMBERS and (kind is not int or -_LONGEST <= value < _LONGEST):
            found.append(_NUMBERS[kind][0])
        else:
            return None
    return tuple(found)


def load(function: FunctionType, sources: str, signature: Signature) -> Callable[..., int] | None:
    """Return the kept machine code of a function for a signature, or None if there is none that fits.

    Args:
        function: has no result.
        sources: digest of everything that the function calls.

    Returns:
        A function that takes arguments of this signature only. Its result is 0, or another number after an error.
    """
    try:
        kept = kept_of(function, sources, signature)
        with _lock:
            if kept.key not in _loaded:
                _loaded[kept.key] = _linked(kept)
    except Exception:  # nothing fits, or parts of llvmlite are missing in another version; numba works as before
        return None
    _, address = _loaded[kept.key]
    return _caller(address, signature)


class Kept(NamedTuple):
    """Where the machine code of a function is kept, and a digest of everything on which it depends."""

    paths: list[Path]
    key: str

    @property
    def symbol(self) -> str:
        return f"kdlib_{self.key}"

    def digest(self, code: bytes) -> bytes:
        return hashlib.sha256(self.key.encode() + code).digest()


def kept_of(function: FunctionType, sources: str, signature: Signature) -> Kept:
    """Return where the machine code of a function is kept, or would be; see :func:`load`.

    Raises:
        ValueError: the function also depends on variables that are no constants.
        ImportError, OSError: numba or the function's file is missing.
    """
    constants = constants_of(function)
    file = Path(function.__code__.co_filename)
    target, versions = _machine()
    # A new version of the function has a file of the same name, which thus replaces the old one.
    name = repr((str(file), function.__qualname__, constants, signature, target))
    key = repr((name, versions, sources, file.read_bytes(), function.__code__.co_firstlineno))
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        folders = [Path(chosen)]
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
        folders = [file.parent / "__pycache__", *([user / "kdlib"] if user.is_absolute() else [])]
    known = f"{function.__name__}-{hashlib.sha256(name.encode()).hexdigest()[:24]}.kdlib"
    return Kept([folder / known for folder in folders], hashlib.sha256(key.encode()).hexdigest())


def constants_of(function: FunctionType) -> list[Any]:
    """Return the values in the closure of a function: constants, and compiled functions of the same file by name.

    Raises:
        ValueError: there are others.
    """
    found: list[Any] = []
    for cell in function.__closure__ or ():
        value, inner = cell.cell_contents, getattr(cell.cell_contents, "__wrapped__", None)
        if isinstance(value, bool | int | float | str | type | np.generic):
            found.append(value)
        elif isinstance(inner, FunctionType) and inner.__code__.co_filename == function.__code__.co_filename:
            found.append((inner.__qualname__, constants_of(inner)))
        else:
            raise ValueError("a closure with variables")
    return found


@cache
def _machine() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a description of the CPU, and the versions of everything that takes part in making the code."""
    import llvmlite
    from llvmlite import binding

    numba = find_spec("numba")
    if numba is None or numba.origin is None:
        raise ImportError("numba is not installed")
    version = Path(numba.origin).with_name("_version.py").read_text(encoding="utf-8")  # without its import
    target = binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    return target, (sys.version, np.__version__, llvmlite.__version__, version)


def _linked(kept: Kept) -> tuple[Any, int]:
    """Load machine code into memory and return LLVM's engine and the function's address.

    Raises:
        ValueError: there is none that fits.
    """
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target)
    for path in kept.paths:
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if content[:32] != kept.digest(content[32:]):
            continue
        code = binding.ObjectFileRef.from_data(content[32:])
        if all(map(binding.address_of_symbol, undefined(code))):  # otherwise LLVM would end the process
            engine.add_object_file(code)
            engine.finalize_object()
            return engine, int(engine.get_function_address(kept.symbol))
    raise ValueError("no machine code")


def undefined(code: Any) -> list[str]:
    """Return the names that an object file (ELF, 64 bits) takes from elsewhere."""
    sections = {section.name(): section.data() for section in code.sections()}
    names, symbols = sections[b".strtab"], struct.iter_unpack("<IBBHQQ", sections[b".symtab"])
    starts = [start for start, _, _, section, _, _ in symbols if start and not section]
    return [names[start : names.index(b"\0", start)].decode() for start in starts]


def _caller(address: int, signature: Signature) -> Callable[..., int]:
    """Return a function that passes arguments to machine code and runs it without the interpreter lock."""
    types = (_CTYPES[kind] if isinstance(kind, str) else ctypes.py_object for kind in signature)
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address)
