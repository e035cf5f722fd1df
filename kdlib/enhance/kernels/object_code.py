"""Keeping the machine code of functions that numba has compiled; see :mod:`kdlib.enhance.kernels.machine_code`."""

from types import FunctionType
from typing import Any

import numpy as np

from kdlib.enhance.kernels.machine_code import DATA, SHAPE, STRIDES, Signature, kept_of, undefined
from kdlib.files import replacing

_ARRAY = ["meminfo", "parent", "nitems", "itemsize", "data", "shape", "strides"]  # how numba passes an array
_C_LIBRARY = {"ceil", "ceilf", "exp2", "floor", "floorf", "free", "ldexp", "malloc", "memcpy", "memmove", "memset"}
# The memory of arrays that a function allocates. A block begins with a count of references, which is 1; the address of
# the data is at byte 24. The code that counts is part of each function's own and calls the second function at 0.
_MEMORY = """
declare ptr @malloc(i64)
declare void @free(ptr)
define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %step = zext i32 %align to i64
  %more = add i64 %step, 64
  %total = add i64 %size, %more
  %huge = icmp ult i64 %total, %size
  br i1 %huge, label %none, label %get
get:
  %block = call ptr @malloc(i64 %total)
  %full = icmp eq ptr %block, null
  br i1 %full, label %none, label %fill
fill:
  store i64 1, ptr %block
  %first = ptrtoint ptr %block to i64
  %past = add i64 %first, %more
  %over = urem i64 %past, %step
  %start = sub i64 %past, %over
  %data = inttoptr i64 %start to ptr
  %place = getelementptr i8, ptr %block, i64 24
  store ptr %data, ptr %place
  ret ptr %block
none:
  ret ptr null
}
define void @NRT_MemInfo_call_dtor(ptr %block) {
  call void @free(ptr %block)
  ret void
}
"""


def save(function: FunctionType, sources: str, signature: Signature, overload: Any) -> None:
    """Keep the machine code of a function that numba has compiled, unless it needs numba when it runs.

    Args:
        overload: numba's result of the compilation.
    """
    try:
        kept = kept_of(function, sources, signature)
        code = _object_code(kept.symbol, signature, overload)
    except Exception:  # parts of numba that a later version may not have; its own cache serves as before
        return
    for path in kept.paths:
        try:
            with replacing(path) as partial:
                partial.write_bytes(kept.digest(code) + code)
            return
        except OSError:
            continue


def _object_code(symbol: str, signature: Signature, overload: Any) -> bytes:
    """Return the code that numba has optimised, without the part that Python calls, as an object file.

    Raises:
        ValueError: the function has a result, takes its arguments in another way, or needs more than the C library.
    """
    from llvmlite import binding
    from numba.core import types
    from numba.core.runtime import nrtdynmod

    models = [overload.target_context.data_model_manager[kind] for kind in overload.signature.args]
    arrays = [list(model._fields) for model in models if isinstance(model.fe_type, types.Array)]
    block = str(nrtdynmod._meminfo_struct_type).replace("i8*", "ptr")
    if overload.signature.return_type != types.none or any(fields != _ARRAY for fields in arrays):
        raise ValueError("a result, or arrays of another form")
    if block != "{i64, ptr, ptr, ptr, i64}":
        raise ValueError("memory of another form")
    module = overload.library._get_module_for_linking().clone()
    function = module.get_function(overload.fndesc.llvm_func_name)
    entry, taken = _entry(symbol, signature)
    if str(function.global_value_type) != f"i32 ({', '.join(taken)})":
        raise ValueError("arguments of another form")
    function.name = "of_numba"
    module.link_in(binding.parse_assembly(_MEMORY + entry))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration:
            value.linkage = "external" if value.name == symbol else "internal"
    machine = overload.library.codegen._tm
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options()))
    code: bytes = machine.emit_object(module)
    if not _C_LIBRARY.issuperset(undefined(binding.ObjectFileRef.from_data(code))):
        raise ValueError("code of numba's or Python's")
    return code


def _entry(symbol: str, signature: Signature) -> tuple[str, list[str]]:
    """Return LLVM code that takes arrays as Python objects, and the types that numba's function takes in their place.

    The first two are addresses for a result, of which there is none, and for the description of an error.
    """
    lines = ["%result = alloca ptr", "%error = alloca ptr", "store ptr null, ptr %result"]
    values = ["ptr %result", "ptr %error"]

    def load(kind: str, name: str, start: str, place: int) -> str:
        lines.append(f"{name}.at = getelementptr i8, ptr {start}, i64 {place}")
        lines.append(f"{name} = load {kind}, ptr {name}.at")
        return f"{kind} {name}"

    for n, kind in enumerate(signature):
        if isinstance(kind, str):
            values.append(f"{kind} %a{n}")
            continue
        data = load("ptr", f"%a{n}.data", f"%a{n}", DATA)
        sides, size = [], f"%a{n}.size"
        for what, place in (("shape", SHAPE), ("strides", STRIDES)):
            load("ptr", f"%a{n}.{what}", f"%a{n}", place)
            sides += [load("i64", f"%a{n}.{what}{k}", f"%a{n}.{what}", 8 * k) for k in range(kind[1])]
        lines.append(f"{size}.0 = add i64 0, 1")
        lines += [f"{size}.{k + 1} = mul i64 {size}.{k}, %a{n}.shape{k}" for k in range(kind[1])]
        item = np.dtype(kind[0]).itemsize
        values += ["ptr null", "ptr null", f"i64 {size}.{kind[1]}", f"i64 {item}", data, *sides]
    taken = [value.partition(" ")[0] for value in values]
    given = ", ".join(f"{kind if isinstance(kind, str) else 'ptr'} %a{n}" for n, kind in enumerate(signature))
    lines += [f"%status = call i32 @of_numba({', '.join(values)})", "ret i32 %status"]
    body = "\n  ".join(lines)
    return f"declare i32 @of_numba({', '.join(taken)})\ndefine i32 @{symbol}({given}) {{\n  {body}\n}}\n", taken
