"""Which tensors a ``.pth`` file describes, without unpickling it.

A pickle is a program. The interpreter in this module knows only the instructions that ``torch.save`` uses for a mapping
of names to tensors, and it creates no object: each call is recorded instead of made. ``torch.load(weights_only=True)``,
which reads the tensors later, runs no code either, but allocates tensors of any size that a file asks for.
"""

import math
import mmap
import pickletools
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, cast

_ITEM_SIZES = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C  # of files from before PyTorch 1.6; below it, the version of their format
_LEGACY_VERSION = 1001
_MOST_MEMBERS = 10_000  # of a ZIP archive
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    item: int
    numbers: int


class _Tensor(NamedTuple):
    storage: _Storage
    shape: tuple[int, ...]


class _NoTensorsAloneError(Exception):
    """The pickle holds something other than tensors."""


def read_pickled_header(path: Path, most: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return types and shapes of the tensors in a ``.pth`` file, checked against the size of the stored data.

    Args:
        path: a file written by ``torch.save``, in either layout.
        most: largest pickle in bytes.

    Raises:
        ValueError: the file is damaged or compressed, its pickle has more than ``most`` bytes, or it holds something
            other than a mapping of names to tensors.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                content = _zipped(path, most)
            else:
                file.seek(0)
                content = _legacy(BytesIO(file.read(most)), path.stat().st_size)
    except _NoTensorsAloneError as error:
        raise ValueError(f"{path} holds more than tensors, and is not loaded: {error}") from None
    except Exception as error:  # damaged bytes may fail anywhere
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged, and is not loaded: {reason}") from None
    if not isinstance(content, dict) or not all(isinstance(value, _Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict (a mapping of names to tensors)")
    return {name: (tensor.storage.dtype, tensor.shape) for name, tensor in content.items()}


def _zipped(path: Path, most: int) -> Any:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Opening the archive makes a list of its members, which takes more memory than the file itself.
        at = members = 0
        while (at := data.find(b"PK\x01\x02", at) + 1) and members <= _MOST_MEMBERS:
            members += 1
    if members > _MOST_MEMBERS:
        raise ValueError(f"it has more than {_MOST_MEMBERS:,} members")
    folded: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        sizes: dict[str, int] = {}
        for member in archive.infolist():
            # Of two members whose names differ in case at most, PyTorch's reader may take the other one.
            if member.filename.casefold() in folded:
                raise ValueError(f"it has {member.filename[:60]} twice")
            folded.add(member.filename.casefold())
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename[:60]} is compressed, which PyTorch's files are not")
            sizes[member.filename] = member.file_size
        pickles = [name for name in sizes if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it has no data.pkl, or several of them")
        if sizes[pickles[0]] > most:
            raise ValueError(f"its data.pkl has {sizes[pickles[0]]:,} bytes, more than {most:,}")
        storages: dict[str, _Storage] = {}
        content = _follow(BytesIO(archive.read(pickles[0])), storages)
    folder = pickles[0].removesuffix("data.pkl")
    for storage in storages.values():
        if sizes.get(f"{folder}data/{storage.key}") != storage.numbers * storage.item:
            raise ValueError(f"data/{storage.key[:20]} does not hold the {storage.numbers:,} numbers that it should")
    return content


def _legacy(head: BytesIO, size: int) -> Any:
    if _follow(head, {}) != _MAGIC or _follow(head, {}) != _LEGACY_VERSION:
        raise ValueError("it is not a file of PyTorch")
    _follow(head, {})  # a description of the machine that wrote the file
    storages: dict[str, _Storage] = {}
    content = _follow(head, storages)
    keys = _follow(head, {})
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("its list of stored data does not fit the tensors")
    if head.tell() + sum(8 + storage.numbers * storage.item for storage in storages.values()) != size:
        raise ValueError("the tensors' sizes do not fit the file's")
    return content


def _follow(stream: BytesIO, storages: dict[str, _Storage]) -> Any:
    """Return the object that a pickle describes, with records in place of tensors and of calls."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    left = len(stream.getbuffer())

    def go_over(*parts: Any) -> None:
        # Lists that are gone over once cannot have more members than the pickle has bytes. One long list that is handed
        # to a thousand calls would keep this interpreter busy for hours, and PyTorch's after it.
        nonlocal left
        left -= sum(len(part) for part in parts if isinstance(part, tuple | list | dict))
        if left < 0:
            raise ValueError("it goes over one list again and again")

    def since_mark() -> list[Any]:
        at = marks.pop()
        taken = stack[at:]
        del stack[at:]
        return taken

    for opcode, given, _ in pickletools.genops(stream):
        name, argument = opcode.name, cast(Any, given)
        if name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            if not isinstance(arguments, tuple):
                raise ValueError("it calls a function with something other than arguments")
            go_over(arguments)
            go_over(*arguments)
            stack.append(_made(called, arguments))
        elif name == "BINPERSID":
            storage = _storage(stack.pop())
            if storages.setdefault(storage.key, storage) != storage:
                raise ValueError(f"data/{storage.key[:20]} is described twice")
            stack.append(storage)
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(_mapping(zip(items[::2], items[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS"):
            values = since_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(values)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "GLOBAL":
            stack.append(_Global(argument.replace(" ", ".")))
        elif name == "BUILD":  # sets attributes of the mapping, such as the version of each layer
            attributes = stack.pop()
            go_over(attributes)
            if not (isinstance(attributes, dict) and isinstance(stack[-1], dict)):
                raise _NoTensorsAloneError("an object with attributes")
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise _NoTensorsAloneError(f"the instruction {name}")
    raise ValueError("it is truncated")


def _made(called: Any, arguments: Any) -> Any:
    """Return the record of a call in the pickle."""
    if not isinstance(called, _Global):
        raise ValueError("it calls something other than a function")
    match called.name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", (list() as pairs,):  # as Python 2 wrote it
            return _mapping(pairs)
        case "torch._utils._rebuild_parameter", (_Tensor() as tensor, *_):
            return tensor
        case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, offset, shape, stride, *_):
            if not all(type(n) is int and 0 <= n < 2**40 for n in (offset, *shape, *stride)) or len(shape) > 8:
                raise ValueError("offset, shape or stride of a tensor are not whole numbers from 0 up")
            # A tensor that repeats its numbers by a stride of 0 is larger than its storage, and is refused.
            if len(shape) != len(stride) or offset + math.prod(shape) > storage.numbers:
                raise ValueError(f"a tensor is larger than data/{storage.key[:20]}, where it is stored")
            return _Tensor(storage, tuple(shape))
    raise _NoTensorsAloneError(f"a call of {called.name[:60]}")


def _mapping(pairs: Iterable[Any]) -> dict[str | int, Any]:
    made: dict[str | int, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str | int):  # nested tuples would take hours to hash
            raise _NoTensorsAloneError("a mapping with keys that are not names")
        made[key] = value
    return made


def _storage(claim: Any) -> _Storage:
    match claim:
        case ("storage", _Global(name), str(key), str(), int(count), *view) if view in ([], [None]):
            dtype, item = _ITEM_SIZES.get(name.removeprefix("torch."), ("", 0))
            if item and 0 <= count < 2**40:
                return _Storage(key, dtype, item, count)
    raise _NoTensorsAloneError("data of an unknown type")
