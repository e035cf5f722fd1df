"""EXIF blocks."""

from __future__ import annotations

import struct

_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def without_thumbnail(exif: bytes) -> bytes:
    """Unlink the embedded thumbnail, which would go on showing the dark photo.

    Only the pointer to it is zeroed. Every other byte and offset stays, also those inside maker notes, whose layout
    only their maker knows. A block that cannot be read comes back as it is.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = _BYTE_ORDERS.get(exif[start : start + 4])
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
