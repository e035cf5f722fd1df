"""EXIF blocks."""

from __future__ import annotations

import struct
from collections.abc import Mapping

# What says how many pixels a photo has, in its first directory and in that of EXIF, which the first one points to.
SIZE_TAGS = {256: "width", 257: "height"}
EXIF_SIZE_TAGS = {40962: "width", 40963: "height"}
EXIF_DIRECTORY = 34665

_SHORT, _LONG = 3, 4
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def without_thumbnail(exif: bytes) -> bytes:
    """Unlink the embedded thumbnail, which would go on showing the dark photo.

    Only the pointer to it is zeroed. Every other byte and offset stays, also those inside maker notes, whose layout
    only their maker knows. A block that cannot be read comes back as it is.
    """
    start, order = _header(exif)
    if order is None:
        return exif
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, start + 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start + directory)
    except struct.error:
        return exif
    pointer = start + directory + 2 + 12 * entries
    if pointer + 4 > len(exif):
        return exif
    return exif[:pointer] + bytes(4) + exif[pointer + 4 :]


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """Have those tags that tell the photo's size tell this one, for a photo that was enlarged.

    None is added, and every other byte and offset stays. A block that cannot be read comes back as it is.
    """
    start, order = _header(exif)
    if order is None:
        return exif
    block, size = bytearray(exif), {"width": width, "height": height}

    def directory(position: int, tags: Mapping[int, str]) -> int:
        """Change tags in the directory at a position; where the one of EXIF is, or 0."""
        found = 0
        (entries,) = struct.unpack_from(f"{order}H", block, start + position)
        for entry in range(start + position + 2, start + position + 2 + 12 * entries, 12):
            number, type_, count = struct.unpack_from(f"{order}HHI", block, entry)
            if number == EXIF_DIRECTORY:
                (found,) = struct.unpack_from(f"{order}I", block, entry + 8)
            elif number in tags and type_ in (_SHORT, _LONG) and count == 1:
                # The value has room for a long number in either case.
                struct.pack_into(f"{order}HHII", block, entry, number, _LONG, 1, size[tags[number]])
        return found

    try:
        (first,) = struct.unpack_from(f"{order}I", block, start + 4)
        if inner := directory(first, SIZE_TAGS):
            directory(inner, EXIF_SIZE_TAGS)
    except struct.error:
        return exif
    return bytes(block)


def _header(exif: bytes) -> tuple[int, str | None]:
    """Where a block begins, and its byte order; None if it is no EXIF data."""
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    return start, _BYTE_ORDERS.get(exif[start : start + 4])
