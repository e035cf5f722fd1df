"""By what an interrupted run recognises the loss functions and the data with which it began."""

import hashlib
from functools import partial
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType
from typing import Any

from lightning_fabric import seed_everything
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from kdlib.training.task import columns_of, digest


def fingerprint(value: Any) -> str:
    """A short fingerprint of functions, alone or in lists and dicts: equal in every process, whatever the comments.

    It follows from a function's name, bytecode, defaults and enclosed values; for partials from their arguments, and
    for other callable objects from their attributes. What a function finds by a global name is not followed. The
    bytecode differs between versions of Python.
    """
    return hashlib.sha256(repr(_facts(value, frozenset())).encode()).hexdigest()[:16]


def _facts(value: Any, within: frozenset[int]) -> Any:
    """Nested lists of plain values. ``within`` holds the ids of the values around this one, which may refer to them."""
    if id(value) in within:
        return "one of those around"

    def each(*values: Any) -> list[Any]:
        return [_facts(one, within | {id(value)}) for one in values]

    kind = type(value)
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | EllipsisType():
            return value
        case tuple() | list():
            return each(*value)
        case dict():
            return each(*value.items())
        case set() | frozenset():
            return sorted(map(repr, each(*value)))
        case Tensor():
            return digest(value)
        case CodeType():
            return each(value.co_code, value.co_names, value.co_consts)
        case FunctionType():
            enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
            named = value.__module__, value.__qualname__
            return each(*named, value.__code__, value.__defaults__, value.__kwdefaults__, enclosed)
        case MethodType():
            return each(value.__func__, value.__self__)
        case partial():
            return each(value.func, value.args, value.keywords)
        case type() | ModuleType() | BuiltinFunctionType():
            return f"{getattr(value, '__module__', '')}.{value.__name__}"
    call = getattr(kind, "forward" if isinstance(value, nn.Module) else "__call__", None)
    return each(kind, call, getattr(value, "__dict__", {})) if isinstance(call, FunctionType) else each(kind)


def fingerprint_of_data(data: Dataset[Any], seed: int) -> str:
    """A short fingerprint of a map-style data set: of all tensors in memory, otherwise of length, first and last item.

    Items may be drawn at random: the generators of Python, NumPy and PyTorch are seeded, and items that nevertheless
    differ from one reading to the next are left out.
    """
    if isinstance(data, TensorDataset):
        return digest(*data.tensors)
    length = len(data)  # type: ignore[arg-type]  # map-style

    def ends() -> list[str]:
        seed_everything(seed, verbose=False)
        return [digest(*columns_of(default_collate([data[index]]))) for index in range(length)[:: max(1, length - 1)]]

    items = ends()
    return f"{length} items" + (f", {' … '.join(items)}" if items == ends() else "")
