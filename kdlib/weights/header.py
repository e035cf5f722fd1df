"""What a weights file claims to hold: names, types and shapes of its tensors, and the architecture.

The file may come from anyone. The sizes that it claims are checked against its own size, and the architecture against
limits, before a tensor is read, so that memory and time stay in proportion to the file. This works without PyTorch.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdlib.files import strict_json
from kdlib.models.registry import check_config
from kdlib.weights.pickled_header import read_pickled_header

MAX_BYTES = 2**28
"""Largest weights file, 256 MiB: seven times the largest network of the package."""
MAX_HEADER = 2**20
"""Largest header of a safetensors file, and largest pickle, in bytes; the largest network has a header of 30 KB."""

_ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class Claim(NamedTuple):
    """A tensor as a file announces it: its type, by safetensors' name, and its shape."""

    dtype: str
    shape: tuple[int, ...]


class Header(NamedTuple):
    """What a weights file claims to hold.

    Attributes:
        tensors: by name.
        architecture: arguments for :func:`kdlib.models.build_model`, within limits; None if the file names none.
    """

    tensors: dict[str, Claim]
    architecture: dict[str, Any] | None


def read_header(path: Path) -> Header:
    """Read the header of a ``.safetensors``, ``.pth`` or ``.pt`` file, and check it against the file's size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is too large, damaged, holds something other than tensors, or has another extension, or its
            architecture cannot be built.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix not in {".safetensors", ".pth", ".pt"}:
        raise ValueError(f"{path}: weights are read from .safetensors, .pth and .pt files")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, more than the {MAX_BYTES:,} that a weights file may have")
    if path.suffix != ".safetensors":
        return Header({name: Claim(*claim) for name, claim in read_pickled_header(path, MAX_HEADER).items()}, None)
    try:
        tensors, metadata = _safetensors(path, size)
    except (ValueError, RecursionError) as error:  # nested deeper than anyone needs
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from None
    if "architecture" not in metadata:
        return Header(tensors, None)
    try:
        return Header(tensors, check_config(strict_json(metadata["architecture"])))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its architecture cannot be read ({error})") from None


def _safetensors(path: Path, size: int) -> tuple[dict[str, Claim], Mapping[str, str]]:
    """Return claims and metadata, once the tensors' sizes add up to what follows the header."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("it is truncated")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER:
            raise ValueError(f"its header would have {length:,} bytes, more than {MAX_HEADER:,}")
        if 8 + length > size:
            raise ValueError("it is truncated")
        entries = strict_json(file.read(length))
    if not isinstance(entries, dict):
        raise ValueError("its header is not a table of tensors")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not texts")
    room, claimed = size - 8 - length, 0
    tensors = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"its entry {name!r} does not describe a tensor")
        shape, offsets, item = entry["shape"], entry["data_offsets"], _ITEM_SIZES.get(str(entry["dtype"]))
        if item is None:
            raise ValueError(f"{name!r} is of type {str(entry['dtype'])[:20]!r}; known are {', '.join(_ITEM_SIZES)}")
        if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
            raise ValueError(f"shape or offsets of {name!r} are not whole numbers from 0 up")
        if offsets[1] - offsets[0] != math.prod(shape) * item or offsets[1] > room:
            raise ValueError(f"shape and offsets of {name!r} do not fit each other or the file's {size:,} bytes")
        claimed += offsets[1] - offsets[0]
        tensors[name] = Claim(entry["dtype"], tuple(shape))
    if claimed != room:
        raise ValueError(f"its tensors would fill {claimed:,} bytes, it has {room:,} for them")
    return tensors, metadata


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in value)
